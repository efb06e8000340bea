"""From the log into files, each entry once, whatever ends the writer and wherever."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from segue.collector import LandingWriter
from segue.errors import BadInputError, LogDownError, LogFullError
from segue.events import COLLECTED, accounting, ingest
from segue.log import open_log
from segue.log.stream import StreamLog
from segue.settings import Settings, child_environment
from segue.valkey import connect, running
from segue.warehouse import Warehouse


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(home=tmp_path_factory.mktemp("landing"), _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        yield settings


@pytest.fixture
def home(server: Settings, tmp_path: Path) -> Settings:
    """An empty log, and a landing zone of the test's own."""
    connect(server).flushall()
    changes = {"landing": tmp_path / "landing", "landing_seconds": 0.3, "settle_seconds": 0}
    return Settings(**{**server.model_dump(), **changes}, _env_file=None)


def line(n: int) -> bytes:
    return (
        b'{"receivedAt":"2026-02-01T10:00:00.000Z","_source":"web","type":"track","event":"X","userId":"u",'
        b'"messageId":"m%d"}\n' % n
    )


def append(log: StreamLog, *numbers: int) -> None:
    async def each() -> None:
        for n in numbers:
            await log.append([line(n)])

    asyncio.run(each())


def files(home: Settings) -> list[Path]:
    folder = home.landing_zone / COLLECTED
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def landed(home: Settings) -> bytes:
    reader = zstandard.ZstdDecompressor()
    return b"".join(reader.stream_reader(path.read_bytes()).read() for path in files(home))


def in_order(home: Settings) -> list[int]:
    return [int(msgspec.json.decode(one)["messageId"][1:]) for one in landed(home).splitlines()]


class DiedError(Exception):
    """The place where the process is killed."""


class FaultyLog:
    """A log that dies before or after one of its changes, as a kill of the writer at that point would."""

    def __init__(self, log: StreamLog, fault: str | None) -> None:
        self._inner, self._fault = log, fault

    def _at(self, place: str) -> None:
        if self._fault == place:
            raise DiedError(place)

    def commit(self, reader: str, position: str) -> None:
        self._at("before commit")
        self._inner.commit(reader, position)
        self._at("after commit")

    def trim(self) -> None:
        self._inner.trim()
        self._at("after trim")

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


def test_a_file_holds_the_lines_of_the_log_as_they_are(home: Settings) -> None:
    log = open_log(home)
    append(log, *range(10))
    writer = LandingWriter(log, home)
    writer.recover()
    writer.step()
    writer.flush()
    assert landed(home) == b"".join(map(line, range(10)))
    assert files(home)[0].parent.name == "2026-02-01"
    assert log.committed("landing") == log.status().newest


def test_no_file_is_made_of_nothing(home: Settings) -> None:
    writer = LandingWriter(open_log(home), home)
    writer.recover()
    for _ in range(3):
        writer.step()
    writer.flush()
    assert files(home) == []


def test_a_file_comes_when_it_is_full_or_old(home: Settings) -> None:
    log = open_log(home)
    small = Settings(**{**home.model_dump(), "landing_bytes": 1000, "landing_seconds": 60}, _env_file=None)
    append(log, *range(20))
    writer = LandingWriter(log, small)
    writer.recover()
    for _ in range(6):
        writer.step()
    assert len(files(home)) >= 2
    writer = LandingWriter(log, home)
    writer.recover()
    started = time.monotonic()
    while len(in_order(home)) < 20 and time.monotonic() - started < 5:
        writer.step()
    assert in_order(home) == list(range(20))


FAULTS = ("before commit", "after commit", "after trim", "before rename", "after rename")


class CommitsFirst(LandingWriter):
    """Unsafe: the log hears of a file before it is there."""

    def _write(self, payloads: list[bytes], last: str) -> None:
        before, self._after = self._after, last
        self._tell()
        self._after = before
        super()._write(payloads, last)


def die_at(
    home: Settings, fault: str, monkeypatch: pytest.MonkeyPatch, made: type[LandingWriter] = LandingWriter
) -> list[int]:
    """What is landed of nine events when the writer of the first five is killed at a place."""
    log = open_log(home)
    append(log, *range(5))
    replace = Path.replace

    def dying_replace(self: Path, target: Path):
        if fault == "before rename":
            raise DiedError(fault)
        found = replace(self, target)
        if fault == "after rename":
            raise DiedError(fault)
        return found

    writer = made(FaultyLog(log, fault), home)  # type: ignore[arg-type]
    writer.recover()
    writer.step()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying_replace)
        with pytest.raises(DiedError):
            writer.flush()
    append(log, *range(5, 9))
    after = made(log, home)
    after.recover()
    after.step()
    after.flush()
    return in_order(home)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_writer_killed_between_any_two_writes_lands_everything_once(
    home: Settings, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert die_at(home, fault, monkeypatch) == list(range(9))


def test_a_writer_that_commits_before_the_file_is_there_is_caught(
    server: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for number, fault in enumerate(FAULTS):
        connect(server).flushall()
        changes = {"landing": tmp_path / str(number), "landing_seconds": 0.3, "settle_seconds": 0}
        home = Settings(**{**server.model_dump(), **changes}, _env_file=None)
        found[fault] = die_at(home, fault, monkeypatch, CommitsFirst)
    assert [fault for fault, landed in found.items() if landed != list(range(9))] == [
        "after commit", "after trim", "before rename",
    ]  # fmt: skip


@given(
    plan=st.lists(st.tuples(st.integers(0, 4), st.sampled_from([None, "before commit", "after commit"])), max_size=8)
)
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_run_of_crashes_lands_every_entry_once_and_in_order(server: Settings, tmp_path_factory, plan) -> None:
    connect(server).flushall()
    zone = tmp_path_factory.mktemp("zone")
    home = Settings(**{**server.model_dump(), "landing": zone}, _env_file=None)
    log, count = open_log(home), 0
    for size, fault in [*plan, (1, None)]:
        append(log, *range(count, count + size))
        count += size
        writer = LandingWriter(FaultyLog(log, fault), home)  # type: ignore[arg-type]
        try:
            writer.recover()
            writer.step()
            writer.flush()
        except DiedError:
            continue
    assert in_order(home) == list(range(count))


def test_the_log_is_trimmed_only_when_the_engine_is_past_it_too(home: Settings) -> None:
    log = open_log(home)
    append(log, *range(4))
    writer = LandingWriter(log, home)
    writer.recover()
    writer.step()
    writer.flush()
    assert log.status().entries == 4
    log.commit("engine", log.status().newest)
    append(log, 4)
    writer.step()
    writer.flush()
    assert log.status().entries == 1


def test_a_full_disk_loses_nothing(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(home)
    append(log, *range(3))
    writer = LandingWriter(log, home)
    writer.recover()
    writer.step()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            writer.flush()
    assert files(home) == []
    assert list((home.landing_zone / COLLECTED).rglob("*.tmp")) == []
    writer.flush()
    assert in_order(home) == [0, 1, 2]


def test_a_second_writer_is_refused(home: Settings) -> None:
    with LandingWriter(open_log(home), home)._alone(), pytest.raises(BadInputError, match="another landing writer"):
        LandingWriter(open_log(home), home).run(lambda: False)


def test_a_dead_log_is_waited_for(tmp_path: Path) -> None:
    home = Settings(home=tmp_path / "home", landing_seconds=0.1, _env_file=None)  # type: ignore[call-arg]
    log = open_log(home)
    writer = LandingWriter(log, home)
    with pytest.raises(LogDownError):
        writer.recover()
    calls = iter([False] * 3 + [True] * 100)
    writer.run(lambda: next(calls))


def _writer(home: Settings, *, seconds: float = 0.1) -> "subprocess.Popen[bytes]":
    environment = {
        "SEGUE_HOME": str(home.home),
        "SEGUE_LANDING": str(home.landing_zone),
        "SEGUE_LANDING_SECONDS": str(seconds),
    }
    command = [str(Path(sys.executable).parent / "segue"), "landing"]
    return subprocess.Popen(command, env=child_environment(environment))


def test_killed_again_and_again_every_event_is_in_the_warehouse_once(home: Settings) -> None:
    log, random_, count = open_log(home), random.Random(7), 0
    for _ in range(5):
        process = _writer(home)
        deadline = time.monotonic() + 0.9 + random_.random()
        while time.monotonic() < deadline:
            append(log, *range(count, count + 10))
            count += 10
            time.sleep(0.01)
        process.kill()
        process.wait()
    process = _writer(home)
    deadline = time.monotonic() + 20
    while log.committed("landing") != log.status().newest and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert in_order(home) == list(range(count))
    warehouse = Warehouse(home)
    ingest(warehouse, as_of=datetime(2026, 3, 1, tzinfo=UTC))
    with warehouse.read() as con:
        books = accounting(con)
        assert con.execute("select distinct source from raw.events").fetchall() == [("web",)]
    assert books.holds
    assert (books.read, books.loaded, books.duplicates) == (count, count, 0)


def test_sigterm_writes_what_waits(home: Settings) -> None:
    log = open_log(home)
    append(log, 1, 2, 3)
    process = _writer(home, seconds=60)
    deadline = time.monotonic() + 30
    while not connect(home).info("clients")["blocked_clients"] and time.monotonic() < deadline:
        time.sleep(0.05)  # until it waits for more
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert in_order(home) == [1, 2, 3]


def test_a_log_that_goes_away_when_the_file_is_written_gets_no_second_file(home: Settings) -> None:
    log = open_log(home)
    append(log, *range(5))

    class Away(FaultyLog):
        def _at(self, place: str) -> None:
            if self._fault == place:
                self._fault = None
                raise LogDownError("the event log does not answer")

    writer = LandingWriter(Away(log, "before commit"), home)  # type: ignore[arg-type]
    writer.recover()
    writer.step()
    with pytest.raises(LogDownError):
        writer.flush()
    append(log, *range(5, 8))
    writer.step()
    assert log.committed("landing") > "", "told late, and without a file"
    writer.flush()
    assert in_order(home) == list(range(8))
    assert log.committed("landing") == log.status().newest


def test_a_full_log_takes_events_again_once_the_engine_is_past_it_with_nothing_else_arriving(home: Settings) -> None:
    small = open_log(Settings(**{**home.model_dump(), "log_max_bytes": 2_000}, _env_file=None))
    writer = LandingWriter(small, home)
    writer.recover()
    with pytest.raises(LogFullError):
        append(small, *range(100))
    with pytest.raises(LogFullError):
        for n in range(100):
            append(small, n)
    writer.step()
    writer.flush()  # all is in files, and the engine is behind
    with pytest.raises(LogFullError):
        append(small, 1000)
    small.commit("engine", small.status().newest)
    deadline = time.monotonic() + 10
    while small.status().entries and time.monotonic() < deadline:
        writer.step()
    append(small, 1000)
