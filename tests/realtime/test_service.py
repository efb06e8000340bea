"""The process around the engine: beginning from a warehouse, dying anywhere, taking over, new definitions."""

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from segue.errors import DefinitionError, LogFullError, WarehouseError
from segue.events import ensure_tables
from segue.models import Project
from segue.realtime.engine import Engine
from segue.realtime.service import Service
from segue.settings import Settings
from segue.warehouse import Warehouse
from tests.realtime.fakes import Died, FakeLog, FakeStore, judge
from tests.realtime.world import START, Truth, raw_events
from tests.waiting import until


@pytest.fixture
def home(settings: Settings, hard_project: Project, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation of its own, whose project is that of the others: compiling is not what is tested here."""
    monkeypatch.setattr("segue.realtime.service.prepare", lambda _settings: hard_project)
    monkeypatch.setattr("segue.realtime.service.fingerprint_of", lambda _settings: hard_project.fingerprint)
    return settings


def track(number: int, received: datetime, **fields: Any) -> dict[str, Any]:
    row = {"message_id": f"m{number}", "type": "track", "event": "Product Viewed", "timestamp": received}
    return row | {"received_at": received, "load_id": number + 1} | fields


class Running:
    """A service in a thread, until it is stopped or dies."""

    def __init__(
        self, settings: Settings, log: FakeLog, store: FakeStore, now: Callable[[], datetime], **more: Any
    ) -> None:
        self.service = Service(
            settings,
            log,
            store,
            judge,
            clock=now,
            refused=lambda _project: {},
            owner="test",  # type: ignore[arg-type]
            **more,
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)  # a test that fails leaves it behind
        self.thread.start()

    def _run(self) -> None:
        try:
            self.service.run()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self.service.stop()
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


def fill_warehouse(settings: Settings, raw: pa.Table) -> None:
    with Warehouse(settings).write("test") as con:
        ensure_tables(con)
        con.register("arriving", raw)
        con.execute("insert into raw.events by name from arriving")


def messages() -> list[list[dict[str, Any]]]:
    """Eleven batches: anonymous visits, sign-ins that join them, purchases."""
    batches = []
    for n in range(11):
        moment = START + timedelta(seconds=n)
        batch = [track(n * 10 + k, moment, anonymous_id=f"a{(n + k) % 5}") for k in range(4)]
        batch.append(track(n * 10 + 5, moment, user_id=f"u{n % 3}", anonymous_id=f"a{n % 5}", event="Signed In"))
        batches.append(batch)
    return batches


def test_it_begins_with_the_warehouse_and_goes_on_with_the_log(home: Settings, hard_project: Project) -> None:
    batches = messages()
    history = raw_events([m for batch in batches[:6] for m in batch])
    fill_warehouse(home, history)
    log, store = FakeLog(), FakeStore()
    for batch in batches[5:]:  # one of them landed already
        log.put(batch)
    now = START + timedelta(minutes=1)
    running = Running(home, log, store, lambda: now)
    until(lambda: store.at == log.entries[-1].position and len(store.state.people) > 2)
    until(lambda: log.committed("engine") == store.at)
    running.stop()
    assert running.error is None
    truth = Truth(hard_project, raw_events([m for batch in batches for m in batch]), until=now)
    assert store.state.memberships() == truth.at(now)
    truth.close()


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("number", [0, 2])
def test_an_engine_that_dies_at_a_write_is_as_if_it_had_not(
    home: Settings, hard_project: Project, place: str, number: int
) -> None:
    batches = messages()
    fill_warehouse(home, raw_events([m for batch in batches[:4] for m in batch]))
    log, store = FakeLog(), FakeStore()
    now = START + timedelta(minutes=1)
    log.put(batches[4])
    setattr(store, f"die_{place}", number + (place == "after"))
    running = Running(home, log, store, lambda: now)
    for batch in batches[5:]:
        until(lambda: running.error is not None or store.at == log.entries[-1].position)
        log.put(batch)
    until(lambda: running.error is not None)
    assert isinstance(running.error, Died)
    store.holder = None  # the lease of the dead runs out
    again = Running(home, log, store, lambda: now)
    until(lambda: store.at == log.entries[-1].position and store.filled)
    again.stop()
    assert again.error is None
    truth = Truth(hard_project, raw_events([m for batch in batches for m in batch]), until=now)
    assert store.state.memberships() == truth.at(now)
    truth.close()


def test_whom_half_a_batch_has_brought_neither_leaves_nor_enters_again(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "settle", functools.partialmethod(Engine.settle, rows=1))
    log, store = FakeLog(), FakeStore()
    now = START + timedelta(minutes=1)
    running = Running(home, log, store, lambda: now)
    until(lambda: store.filled)
    store.die_after = store.apply_count + 1
    log.put([track(n, START, user_id=f"u{n}") for n in range(3)])
    until(lambda: running.error is not None)
    running.stop()
    assert store.at == "", "the batch counts when all of it is there"
    assert len(store.state.people) == 1
    store.holder = None
    # The batch comes again when everybody else has been evaluated, or before.
    held_back = threading.Event()
    read = log.read
    monkeypatch.setattr(log, "read", lambda *words, **options: read(*words, **options) if held_back.is_set() else [])
    running = Running(home, log, store, lambda: now)
    time.sleep(1)
    held_back.set()
    until(lambda: store.at == log.entries[-1].position)
    running.stop()
    assert running.error is None
    told = Counter((t.person_id, t.segment, t.change) for t in store.state.told)
    assert {change for _, _, change in told} == {"entered"}
    assert set(told.values()) == {1}
    assert len({person for person, _, _ in told}) == 3


def test_a_second_engine_waits_and_takes_over(home: Settings) -> None:
    log, store = FakeLog(), FakeStore()
    now = START + timedelta(minutes=1)
    first = Running(home, log, store, lambda: now)
    until(lambda: store.holder is not None)
    second = Running(home, log, store, lambda: now)
    log.put(messages()[0])
    until(lambda: store.at == log.entries[-1].position)
    first.stop()
    log.put(messages()[1])
    until(lambda: store.at == log.entries[-1].position)
    second.stop()
    assert first.error is None
    assert second.error is None
    assert store.token == 2


def test_what_passes_ends_no_engine_and_what_was_wrong_is_wrong_no_more(
    home: Settings, hard_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.realtime.service._PROJECT_SECONDS", 0.05)
    monkeypatch.setattr("segue.realtime.service._STATUS_SECONDS", 0.05)
    state = [hard_project.fingerprint]

    def fingerprint_of(_settings: Settings) -> str:
        found = state[0]
        if found == "gone":
            state[0] = "locked"
            raise FileNotFoundError(2, "No such file", "models/a.sql")  # an editor replaces it
        return found

    def prepare(_settings: Settings) -> Project:
        if state[0] == "locked":
            state[0] = "broken"
            raise WarehouseError("somebody else prepares the project")
        raise DefinitionError("dbt_project.yml, line 3: no such key")

    log, store, contracts = FakeLog(), FakeStore(), [""]
    now = START + timedelta(minutes=1)
    running = Running(home, log, store, lambda: now, contract_error=lambda: contracts[0])
    until(lambda: store.said)
    commit, refusals = log.commit, iter([LogFullError("no memory left")])

    def full_once(reader: str, position: str) -> None:
        if (error := next(refusals, None)) is not None:
            raise error
        commit(reader, position)

    monkeypatch.setattr(log, "commit", full_once)
    log.put(messages()[0])
    until(lambda: log.committed("engine") == log.entries[-1].position)
    monkeypatch.setattr("segue.realtime.service.fingerprint_of", fingerprint_of)
    monkeypatch.setattr("segue.realtime.service.prepare", prepare)
    state[0] = "gone"
    until(lambda: store.said["definition_error"] == "dbt_project.yml, line 3: no such key")
    contracts[0] = "paid.yml, line 5: no such type"
    until(lambda: store.said["definition_error"].endswith("no such key paid.yml, line 5: no such type"))
    contracts[0] = ""
    state[0] = hard_project.fingerprint  # the edit is taken back
    until(lambda: store.said["definition_error"] == "")
    running.stop()
    assert running.error is None


def test_time_passes_while_it_runs_and_a_clock_that_steps_back_does_no_harm(home: Settings) -> None:
    log, store = FakeLog(), FakeStore()
    began = time.monotonic()
    ahead = [timedelta(minutes=1)]
    log.put(messages()[0])
    # The clock goes on: a change that is seen first in a look ahead is told in the second after it.
    running = Running(home, log, store, lambda: START + ahead[0] + timedelta(seconds=time.monotonic() - began))
    until(lambda: any("active_last_24h" in names for names in store.state.memberships().values()))
    ahead[0] += timedelta(hours=25)
    until(lambda: not any("active_last_24h" in names for names in store.state.memberships().values()))
    ahead[0] -= timedelta(hours=3)
    log.put(messages()[1])
    until(lambda: store.at == log.entries[-1].position)
    running.stop()
    assert running.error is None


def test_what_reaches_the_warehouse_without_the_log_is_noticed(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.realtime.service._WAREHOUSE_SECONDS", 0.2)
    log, store = FakeLog(), FakeStore()
    now = START + timedelta(minutes=1)
    running = Running(home, log, store, lambda: now)
    until(lambda: store.clock is not None)
    fill_warehouse(home, raw_events(messages()[0]))
    until(lambda: bool(store.state.memberships()))
    running.stop()
    assert running.error is None


def test_an_engine_that_dies_in_its_first_fill_tells_of_nobody_who_was_there_before(
    home: Settings, hard_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.realtime.service._PIECE_ROWS", 20)
    fill_warehouse(home, raw_events([m for batch in messages() for m in batch]))
    log, store = FakeLog(), FakeStore()
    now = [START + timedelta(minutes=1)]
    store.die_after = 1
    running = Running(home, log, store, lambda: now[0])
    until(lambda: running.error is not None)
    assert isinstance(running.error, Died)
    found = store.state.memberships()
    assert found, "some are in"
    store.holder = None
    now[0] += timedelta(hours=25)
    running = Running(home, log, store, lambda: now[0])
    until(lambda: store.filled)
    running.stop()
    assert running.error is None
    truth = Truth(hard_project, raw_events([m for batch in messages() for m in batch]), until=now[0])
    assert store.state.memberships() == truth.at(now[0])
    truth.close()
    told = [t for t in store.state.told if t.cause != "load"]
    # Whom the first engine had put in is told of as of anybody; the others were found a day later.
    assert {t.person_id for t in told} <= set(found)
    assert any(t.change == "exited" and t.segment == "active_last_24h" for t in told)
