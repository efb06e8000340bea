"""A sender killed between any two of its writes sends everything, in order; one that commits first is caught."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks._crash import Receiver
from benchmarks.no_loss import delivery_faults
from segue.clock import system_time
from segue.serving import Endpoint, Sender, Webhooks, add_endpoint
from segue.settings import Settings
from segue.store import Store, Update, open_store
from segue.store.outbox import Outbox
from segue.valkey import connect, running
from tests.mortal import in_a_process, kill_this_process_before
from tests.serving.conftest import entered
from tests.waiting import until

NAME, SECRET = "receiver", "whsec_" + "bm90IGEgc2VjcmV0LCBidXQgbG9uZyBlbm91Z2g="


def _settings(home: Path, project: Path) -> Settings:
    return Settings(  # type: ignore[call-arg]
        home=home, dbt_project=project, webhook_allow_private=True, _env_file=None
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    # Without a dbt project: what YAML names is another test's matter.
    settings = _settings(tmp_path_factory.mktemp("sender_faults"), tmp_path_factory.mktemp("no_project"))
    with running(settings):
        yield settings


def send(home: Path, project: Path, at: int, dies_with_what_it_read: str) -> None:
    """A sender's process; it may also die when it has read, and an unsafe one has committed by then."""
    if dies_with_what_it_read:
        real = Outbox.read

        def read(self: Outbox, *words: object, **more: object) -> object:
            rows = real(self, *words, **more)  # type: ignore[arg-type]
            if rows:
                if dies_with_what_it_read == "unsafe":
                    self.commit(f"webhook:{NAME}", rows[-1].position)
                os.kill(os.getpid(), signal.SIGKILL)
            return rows

        Outbox.read = read  # type: ignore[method-assign, assignment]
    kill_this_process_before(at)
    Sender(_settings(home, project), system_time).run()


class World:
    def __init__(self, settings: Settings) -> None:
        connect(settings).flushall()
        (settings.home / "keys" / "webhooks.json").unlink(missing_ok=True)
        self.settings = settings
        self.store: Store = open_store(settings)
        token = self.store.acquire("test", ttl_seconds=600)
        assert token is not None
        self.token = token
        self.receiver = Receiver(SECRET, forgets=0)
        made = Endpoint(name=NAME, url=self.receiver.url, created_at=system_time(), secret=SECRET)
        add_endpoint(settings, made)
        self.count = 0

    def happen(self, count: int) -> None:
        told = []
        for _ in range(count):
            self.count += 1
            told.append(replace(entered(self.count), person_id=f"p_{self.count % 3}"))
        update = Update(people=(), merged={}, gone=(), transitions=told, as_of=system_time())
        self.store.apply(update, token=self.token, expected=self.store.position(), position=f"{self.count:04d}")

    def run(self, at: int = -1, *, dies_with_what_it_read: str = "") -> bool:
        """A sender, until all is sent or it is dead. Whether it lived."""
        home, project = self.settings.home, self.settings.dbt_project
        process = in_a_process(send, home, project, at, dies_with_what_it_read)
        until(lambda: not process.is_alive() or self._is_done(), seconds=60)
        process.join(2 if dies_with_what_it_read else 0)
        lived = process.is_alive()
        process.kill()
        process.join()
        return lived

    def _is_done(self) -> bool:
        outbox = self.store.outbox
        return outbox.committed(f"webhook:{NAME}") == outbox.newest()

    def faults(self) -> int:
        outbox = [row.transition for row in self.store.outbox.read("", limit=1_000_000)]
        assert len(outbox) == self.count
        return sum(delivery_faults(outbox, self.receiver.arrived)) + self.receiver.unsigned


@pytest.fixture
def world(server: Settings) -> Iterator[World]:
    made = World(server)
    yield made
    made.receiver.close()


def test_a_sender_that_dies_between_any_two_writes_sends_everything_in_order(world: World) -> None:
    places = 0
    for at in range(100):
        world.happen(3)
        if world.run(at):
            break
        places += 1
    assert places >= 2
    world.happen(1)
    assert world.run()
    assert world.faults() == 0


@pytest.mark.parametrize(("how", "is_lost"), [("safe", False), ("unsafe", True)])
def test_a_sender_that_commits_before_it_delivers_is_caught(world: World, how: str, is_lost: bool) -> None:
    world.happen(3)
    assert not world.run(dies_with_what_it_read=how)
    world.happen(1)
    assert world.run()
    assert (world.faults() > 0) == is_lost


def test_what_is_told_before_the_sender_first_looks_is_sent_too(world: World) -> None:
    assert Webhooks(world.settings).outbox.committed(f"webhook:{NAME}") is None
    world.happen(4)
    assert world.run()
    assert world.faults() == 0
