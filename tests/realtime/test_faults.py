"""An engine that dies between any two of its writes is, after a restart, as if it had not; an unsafe one is caught."""

import asyncio
import contextlib
import functools
import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from benchmarks.no_loss import chain_faults
from segue.log import open_log
from segue.models import Project
from segue.realtime.engine import Engine
from segue.realtime.service import Service
from segue.settings import Settings
from segue.store import Store, Update, open_store
from segue.store import keys as store_keys
from segue.store.model import transition_json
from segue.valkey import connect, running
from tests.mortal import Died, Fate, connecting
from tests.realtime.fakes import judge
from tests.realtime.world import START, Truth, raw_events
from tests.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

NAMES = ("Signed In", "Product Viewed", "Premium Feature Used")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(home=tmp_path_factory.mktemp("faults"), _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        yield settings


@pytest.fixture(scope="module")
def few_segments(hard_project: Project) -> Project:
    """Engines are made again and again here: with a few rules, one of each kind."""
    kept = {"active_last_24h", "feature_used_recently", "seen_today", "two_browsers"}
    segments = {model.name for model in hard_project.segments}
    models = tuple(m for m in hard_project.models if m.name not in segments or m.name in kept)
    return replace(hard_project, models=models)


class TellsLater(Store):
    """Unsafe: memberships are written, and then the position and what is to be told."""

    def apply(self, update: Update, *, token: int, expected: str, position: str) -> None:
        super().apply(replace(update, transitions=()), token=token, expected=expected, position=expected)
        super().apply(replace(update, people=()), token=token, expected=expected, position=position)


class TellsFirst(Store):
    """Unsafe: what is to be told is written, and then memberships and position."""

    def apply(self, update: Update, *, token: int, expected: str, position: str) -> None:
        for t in update.transitions:
            if t.cause != "load":
                self._client.xadd(store_keys.OUTBOX, {"t": transition_json(t)})
        super().apply(replace(update, transitions=()), token=token, expected=expected, position=position)


class World:
    """One home's log and store, engines that come and die, and a clock that goes on meanwhile."""

    def __init__(self, settings: Settings, project: Project, patch: pytest.MonkeyPatch, made: type[Store]) -> None:
        connect(settings).flushall()
        self.settings, self._project, self._patch, self._made = settings, project, patch, made
        self.log, self.store = open_log(settings), open_store(settings)
        self.now = START
        self.messages: list[dict[str, Any]] = []
        self._draw = random.Random(5)
        patch.setattr("segue.realtime.service.prepare", lambda _settings: project)
        patch.setattr("segue.realtime.service.fingerprint_of", lambda _settings: project.fingerprint)
        patch.setattr("segue.realtime.service._STATUS_SECONDS", 0.05)
        # Several updates for a pass and for a batch, so that there is something in between.
        patch.setattr("segue.realtime.service._PIECE_ROWS", 80)
        patch.setattr(Engine, "settle", functools.partialmethod(Engine.settle, rows=50))

    def arrive(self, count: int) -> None:
        """Messages of a few people, some of whom turn out to be one."""
        self.now += self._draw.choice((timedelta(minutes=3), timedelta(minutes=50), timedelta(hours=26)))
        made = []
        for _ in range(count):
            number = len(self.messages)
            who = self._draw.randrange(12)
            row = {
                "message_id": f"m{number}",
                "type": "track",
                "event": self._draw.choice(NAMES),
                "load_id": number + 1,
            }
            row |= {"timestamp": self.now, "received_at": self.now, "anonymous_id": f"a{who}"}
            if self._draw.random() < 0.3:
                row["user_id"] = f"u{who // 2}"
            self.messages.append(row)
            made.append(json.dumps(row, default=lambda t: t.isoformat()))
        asyncio.run(self.log.append(["\n".join(made).encode() + b"\n"]))

    def engine(self, fate: Fate) -> Service:
        with self._patch.context() as patch:
            patch.setattr("segue.store.store.connect", connecting(fate))
            patch.setattr("segue.log.stream.connect", connecting(fate))
            store, log = self._made(self.settings), open_log(self.settings)
        return Service(
            self.settings, log, store, judge, clock=lambda: self.now, refused=lambda _project: {}, owner="test"
        )

    def run(self, fate: Fate) -> bool:
        """Until it has done all there is to do, or is dead. Whether it lived."""
        connect(self.settings).delete(store_keys.LEASE)  # that of the dead has run out
        service = self.engine(fate)
        thread = threading.Thread(target=_quietly, args=(service.run,))
        thread.start()
        until(lambda: fate.is_dead or not thread.is_alive() or self._is_done(), seconds=60)
        service.stop()
        thread.join(30)
        assert not thread.is_alive()
        return not fate.is_dead

    def _is_done(self) -> bool:
        engine = self.store.status().engine
        newest = self.log.status().newest
        return (
            self.store.position() == self.log.committed("engine") == newest
            and self.store.is_filled()
            and "as_of" in engine
            and datetime.fromisoformat(engine["as_of"]) >= self.now
            and engine["to_evaluate"] == engine["waiting"] == 0
        )

    def faults(self) -> int:
        """People whose segments are wrong, and transitions that are missing or too many."""
        members = {person: tuple(sorted(since)) for person, since in self.store.memberships() if since}
        truth = Truth(self._project, raw_events(self.messages), until=self.now)
        wanted = truth.at(self.now)
        truth.close()
        wrong = [person for person in members.keys() | wanted.keys() if members.get(person) != wanted.get(person)]
        outbox = [row.transition for row in self.store.outbox.read("", limit=1_000_000)]
        assert outbox
        return len(wrong) + sum(chain_faults(outbox, members))


def _quietly(run: Callable[[], None]) -> None:
    with contextlib.suppress(Died):
        run()


def die(world: World, places: Iterable[int]) -> int:
    """Engines one after the other, each killed before another write (or after the one before it, which is the same to
    all others), until one lives; how many died."""
    assert world.run(Fate())  # whom the first one finds is not told
    count = 0
    for at in places:
        world.arrive(4)
        if world.run(Fate(at)):
            break
        count += 1
    world.arrive(4)
    assert world.run(Fate())
    return count


def test_an_engine_that_dies_between_any_two_writes_is_as_if_it_had_not(
    server: Settings, few_segments: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(server, few_segments, monkeypatch, Store)
    assert die(world, range(100)) >= 5
    assert world.faults() == 0


@pytest.mark.parametrize("unsafe", [TellsLater, TellsFirst])
def test_an_engine_that_writes_in_two_steps_is_caught(
    server: Settings, few_segments: Project, monkeypatch: pytest.MonkeyPatch, unsafe: type[Store]
) -> None:
    world = World(server, few_segments, monkeypatch, unsafe)
    die(world, range(2, 7))
    assert world.faults() > 0
