"""Reading beside the evaluation: nothing twice, nothing missing, nothing left for the batch after the next."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pyarrow as pa
import pytest

from segue.realtime import intake as room
from segue.realtime.intake import Intake
from tests.realtime.fakes import FakeLog, judge
from tests.realtime.world import START


class Judge:
    """Counts, and remembers on which thread."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def __call__(self, payload: bytes) -> pa.Table:
        self.threads.append(threading.current_thread().name)
        if b"broken" in payload:
            raise ValueError("broken")
        return judge(payload)


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def judging() -> Judge:
    return Judge()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be asked for before the intake, whose thread may be past the limit when a test begins."""
    monkeypatch.setattr(room, "BATCH_BYTES", 1_000)


@pytest.fixture
def intake(log: FakeLog, judging: Judge) -> Iterator[Intake]:
    made = Intake(log, "", judging)  # type: ignore[arg-type]
    made.start()
    yield made
    made.stop()


def put(log: FakeLog, *numbers: int, **more: object) -> None:
    moment = START + timedelta(seconds=numbers[0])
    log.put(
        [{"message_id": f"m{n}", "type": "track", "timestamp": moment, "received_at": moment} | more for n in numbers]
    )


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def everything(intake: Intake, last: str) -> list[str]:
    found: list[str] = []
    while True:
        batch = intake.take(5.0)
        assert batch is not None
        found += batch.accepted["message_id"].to_pylist()
        if batch.position == last:
            return found


def test_what_comes_while_nobody_asks_is_in_the_next_batch(log: FakeLog, judging: Judge, intake: Intake) -> None:
    put(log, 0)
    until(lambda: intake._bytes > 0)
    put(log, 1, 2)
    before = intake._bytes
    until(lambda: intake._bytes > before)
    batch = intake.take(5.0)
    assert batch is not None
    assert batch.accepted["message_id"].to_pylist() == ["m0", "m1", "m2"]
    assert batch.position == log.entries[-1].position
    assert not batch.is_full
    assert len(judging.threads) == 1
    assert intake.take(0.0) is None


def test_much_is_judged_before_anybody_asks(
    log: FakeLog, judging: Judge, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_AHEAD_BYTES", 1_000)
    put(log, *range(100))
    until(lambda: bool(judging.threads))
    put(log, 100)
    assert everything(intake, log.entries[-1].position) == [f"m{n}" for n in range(101)]
    assert judging.threads[0] == "intake"


@pytest.mark.usefixtures("small_batches")
def test_of_a_backlog_no_more_is_read_than_a_batch_holds(log: FakeLog, intake: Intake) -> None:
    for n in range(100):
        put(log, n)
    until(lambda: intake._bytes >= 1_000)
    first = intake.take(5.0)
    assert first is not None
    assert first.is_full
    assert first.accepted.num_rows < 30
    rest = everything(intake, log.entries[-1].position)
    assert [*first.accepted["message_id"].to_pylist(), *rest] == [f"m{n}" for n in range(100)]


def test_what_stops_the_reading_is_told_to_whoever_asks(
    log: FakeLog, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_AHEAD_BYTES", 0)
    put(log, 0, event="broken")
    until(lambda: intake._failure is not None)
    with pytest.raises(ValueError, match="broken"):
        intake.take(5.0)
