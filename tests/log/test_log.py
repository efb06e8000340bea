"""The log keeps order and everything it acknowledged, refuses what is too much, and forgets only what all have read."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from segue.log import READERS, Log, LogDownError, LogFullError, open_log
from segue.settings import Settings
from segue.valkey import connect, running
from tests.waiting import until


def append(log: Log, *payloads: bytes) -> None:
    asyncio.run(log.append(payloads))


def everything(log: Log, after: str = "") -> bytes:
    return b"".join(entry.payload for entry in log.read(after, limit_bytes=1 << 30, wait_seconds=0))


def commit_all(log: Log, position: str) -> None:
    for reader in READERS:
        log.commit(reader, position)


def test_entries_come_back_in_order_from_any_position(log: Log) -> None:
    for number in range(50):
        append(log, b"%d\n" % number)
    entries = log.read("", limit_bytes=1 << 20, wait_seconds=0)
    assert [entry.payload for entry in entries] == [b"%d\n" % number for number in range(50)]
    assert everything(log, entries[20].position) == b"".join(b"%d\n" % number for number in range(21, 50))


def test_several_payloads_of_one_append_keep_their_order(log: Log) -> None:
    append(log, *(b"%d\n" % number for number in range(1000)))
    assert everything(log) == b"".join(b"%d\n" % number for number in range(1000))


def test_a_read_gives_at_least_one_entry_and_not_more_than_asked(log: Log) -> None:
    for _ in range(40):
        append(log, b"x" * 1000)
    assert len(log.read("", limit_bytes=1, wait_seconds=0)) == 1
    assert len(log.read("", limit_bytes=25_500, wait_seconds=0)) == 25


@given(sizes=st.lists(st.integers(1, 3000), max_size=60), limit=st.integers(1, 20_000))
@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reading_on_from_each_last_position_gives_every_byte_once(served: Settings, sizes, limit) -> None:
    connect(served).flushall()
    log = open_log(served)
    for number, size in enumerate(sizes):
        append(log, b"%d" % (number % 10) * size)
    found, after = b"", ""
    while entries := log.read(after, limit_bytes=limit, wait_seconds=0):
        assert len(entries) == 1 or sum(len(entry.payload) for entry in entries) <= limit
        found += b"".join(entry.payload for entry in entries)
        after = entries[-1].position
    assert found == b"".join(b"%d" % (number % 10) * size for number, size in enumerate(sizes))


def test_a_waiting_reader_is_woken_at_once(served: Settings, log: Log) -> None:
    found: list[float] = []

    def wait() -> None:
        if log.read("", limit_bytes=100, wait_seconds=10):
            found.append(time.monotonic())

    reader = threading.Thread(target=wait)
    reader.start()
    until(lambda: connect(served).info("clients")["blocked_clients"])
    appended = time.monotonic()
    append(log, b"now\n")
    reader.join(10)
    assert found
    assert found[0] - appended < 0.2


def test_an_empty_log_gives_nothing_after_the_wait(log: Log) -> None:
    started = time.monotonic()
    assert log.read("", limit_bytes=100, wait_seconds=0.2) == []
    assert 0.2 <= time.monotonic() - started < 2


def test_what_was_appended_survives_a_kill_of_the_server(settings: Settings) -> None:
    with running(settings):
        log = open_log(settings)
        append(log, b"kept\n")
        log.commit("engine", log.status().newest)
        before = log.status().newest
        os.kill(int(connect(settings).info("server")["process_id"]), signal.SIGKILL)
    with running(settings):
        assert everything(log) == b"kept\n"
        assert log.committed("engine") == before
        append(log, b"next\n")
        assert everything(log, before) == b"next\n"


def test_a_dead_log_is_told_and_recovers_by_itself(settings: Settings) -> None:
    log = open_log(settings)

    async def scenario() -> None:
        with running(settings):
            await log.append([b"first\n"])
        with pytest.raises(LogDownError) as error:
            await log.append([b"lost\n"])
        assert error.value.retry_after_seconds > 0
        with pytest.raises(LogDownError):
            log.read("", limit_bytes=1, wait_seconds=0)
        with running(settings):
            await log.append([b"second\n"])
            assert everything(log) == b"first\nsecond\n"

    asyncio.run(scenario())


def test_a_full_log_refuses_and_keeps_what_it_has(served: Settings, log: Log) -> None:
    small = open_log(served.model_copy(update={"log_max_bytes": 10_000}))
    accepted = 0
    with pytest.raises(LogFullError) as error:
        for _ in range(100):
            append(small, b"x" * 1000)
            accepted += 1
    assert error.value.retry_after_seconds > 0
    assert 5 < accepted < 10
    assert len(everything(small)) == accepted * 1000
    commit_all(small, small.status().newest)
    small.trim()
    append(small, b"room again\n")


def test_an_append_is_whole_or_not_at_all(served: Settings, log: Log) -> None:
    small = open_log(served.model_copy(update={"log_max_bytes": 3_000_000}))
    with pytest.raises(LogFullError):
        append(small, b"x" * 1_000_000, b"y" * 1_000_000, b"z" * 1_000_000)
    assert everything(small) == b""


def test_a_server_without_memory_is_a_full_log(served: Settings, log: Log) -> None:
    client = connect(served)
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(LogFullError):
            for _ in range(10):
                append(log, b"x" * 500_000)
    finally:
        client.config_set("maxmemory", before)


@pytest.mark.parametrize("behind", READERS)
def test_nothing_goes_before_every_reader_is_past_it(log: Log, behind: str) -> None:
    for number in range(10):
        append(log, b"%d\n" % number)
    entries = log.read("", limit_bytes=1 << 20, wait_seconds=0)
    other = next(reader for reader in READERS if reader != behind)
    log.commit(other, entries[7].position)
    log.trim()
    assert len(everything(log)) == 20, "one reader has read nothing yet"
    log.commit(behind, entries[2].position)
    log.trim()
    assert everything(log) == b"".join(b"%d\n" % number for number in range(3, 10))
    assert log.status().entries == 7


def test_a_commit_never_goes_back(log: Log) -> None:
    for number in range(3):
        append(log, b"%d\n" % number)
    first, _, last = (entry.position for entry in log.read("", limit_bytes=1 << 20, wait_seconds=0))
    log.commit("engine", last)
    log.commit("engine", first)
    assert log.committed("engine") == last
    assert log.committed("landing") == ""


def _sizes(log: Log) -> Sequence[int]:
    status = log.status()
    return status.entries, status.bytes, status.lags["engine"].entries, status.lags["landing"].bytes


def test_the_status_counts_what_is_there_and_who_is_behind(log: Log) -> None:
    assert _sizes(log) == (0, 0, 0, 0)
    for _ in range(10):
        append(log, b"x" * 744)
    assert _sizes(log) == (10, 10_000, 10, 10_000)
    entries = log.read("", limit_bytes=1 << 20, wait_seconds=0)
    assert log.status().newest == entries[-1].position
    time.sleep(0.05)
    assert 0.05 <= log.status().lags["engine"].seconds < 5
    log.commit("engine", entries[6].position)
    log.commit("landing", entries[4].position)
    log.trim()
    assert _sizes(log) == (5, 5_000, 3, 5_000)
    commit_all(log, entries[-1].position)
    log.trim()
    assert _sizes(log) == (0, 0, 0, 0)
    assert log.status().lags["engine"].seconds == 0.0
    assert log.status().newest == entries[-1].position


def test_positions_go_on_after_everything_was_trimmed_and_the_server_restarted(settings: Settings) -> None:
    with running(settings):
        log = open_log(settings)
        append(log, b"old\n")
        last = log.status().newest
        commit_all(log, last)
        log.trim()
    with running(settings):
        append(log, b"new\n")
        assert everything(log, last) == b"new\n"


def test_a_position_may_stand_in_a_file_name(log: Log) -> None:
    append(log, b"1\n")
    position = log.status().newest
    assert position.replace("-", "").isalnum()
