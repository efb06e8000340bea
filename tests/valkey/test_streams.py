"""Positions and errors, which the log and the outbox have in common."""

from functools import partial

import pytest
import redis
from redis.exceptions import BusyLoadingError, MasterDownError, OutOfMemoryError, ReadOnlyError

from segue.errors import LogDownError, LogFullError, SegueError, ValkeyError
from segue.valkey.streams import next_position, position_of, row_id_of, rows_of, telling

ROWS = [(b"1795694081165-0", {b"p": b"1"}), (b"1795694081171-12", {b"p": b"2"})]


def test_positions_compare_as_texts_and_lead_back_to_their_rows() -> None:
    ids = [b"5-9", b"5-10", b"999-0", b"1795694081165-0"]
    positions = [position_of(row_id) for row_id in ids]
    assert positions == sorted(positions)
    assert [row_id_of(position).encode() for position in positions] == ids
    assert row_id_of("") == "0-0" < row_id_of(next_position("")) == "0-1"
    assert row_id_of(next_position(positions[0])) == "5-10"


@pytest.mark.parametrize("answer", [[[b"stream", ROWS]], {b"stream": [ROWS]}, {b"stream": ROWS}])
def test_rows_are_found_in_either_protocol_s_form(answer: object) -> None:
    assert rows_of(answer) == ROWS


def test_nothing_is_no_row() -> None:
    assert rows_of([]) == rows_of({}) == rows_of(None) == []


FULL = [OutOfMemoryError("not allowed"), redis.ResponseError("ERR OOM not allowed, script: 12")]
AWAY = [
    redis.ConnectionError("gone"),
    redis.TimeoutError("slow"),
    BrokenPipeError("gone"),
    BusyLoadingError("loading the dataset"),
    redis.ResponseError("MISCONF errors writing to the AOF file"),
    redis.ResponseError("Command # 1 (HSET k f v) of pipeline caused error: MISCONF errors writing"),
    redis.ResponseError("BUSY running a script"),
    ReadOnlyError("You can't write against a read only replica."),
    MasterDownError("Link with MASTER is down"),
]


@pytest.mark.parametrize(("error", "kind"), [*((e, LogFullError) for e in FULL), *((e, LogDownError) for e in AWAY)])
def test_errors_are_the_caller_s_own(error: Exception, kind: type[SegueError]) -> None:
    full, away = partial(LogFullError, retry_after_seconds=10), partial(LogDownError, retry_after_seconds=2)
    with pytest.raises(kind, match="the event log") as caught, telling("the event log", full=full, away=away):
        raise error
    assert caught.value.__cause__ is error


def test_a_fault_of_ours_is_not_the_server_s() -> None:
    error = redis.ResponseError("WRONGTYPE Operation against a key")
    with (
        pytest.raises(redis.ResponseError, match="WRONGTYPE"),
        telling("the store", full=ValkeyError, away=ValkeyError),
    ):
        raise error
