"""Streams that are read by position, which the log and the outbox are; and the client's errors as the caller's own."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.exceptions

from segue.errors import SegueError

#: KEYS: readers. ARGV: reader, position. Positions of one width compare as texts.
COMMIT = """
if ARGV[2] > (redis.call('HGET', KEYS[1], ARGV[1]) or '') then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
"""

#: What a server says that cannot work at present, and soon will.
_UNREADY = re.compile(r"\b(LOADING|BUSY|MISCONF|READONLY|MASTERDOWN)\b")  # in a pipeline, behind the command's name
_UNREADY_ERRORS = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)  # come without that word


def position_of(row_id: bytes) -> str:
    """The position of a row."""
    milliseconds, sequence = row_id.split(b"-")
    return f"{int(milliseconds):015d}-{int(sequence):08d}"


def row_id_of(position: str) -> str:
    """The id of the row at a position; "" is the beginning."""
    milliseconds, _, sequence = (position or "0-0").partition("-")
    return f"{int(milliseconds)}-{int(sequence)}"


def next_position(position: str) -> str:
    """The first position that is past this one."""
    milliseconds, _, sequence = (position or "0-0").partition("-")
    return f"{int(milliseconds):015d}-{int(sequence) + 1:08d}"


def rows_of(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The rows of the one stream that was read, in either protocol's form."""
    if not answer:
        return []
    if isinstance(answer, dict):
        rows = next(iter(answer.values()))
        return list(rows[0]) if rows and isinstance(rows[0], list) else list(rows)
    return list(answer[0][1])


@contextmanager
def telling(who: str, *, full: Callable[..., SegueError], away: Callable[..., SegueError]) -> Iterator[None]:
    """Errors of the client as errors that name the fix.

    Args:
        who: what is kept in the server, for the message.
        full: makes the error (of a message and a fix) when it has no memory left; nothing was written.
        away: makes the one when it does not answer, or is not ready yet.
    """
    try:
        yield
    except redis.ResponseError as error:
        # A script that fails for want of memory says so in the midst of its message.
        if isinstance(error, redis.OutOfMemoryError) or "OOM" in str(error):
            raise full(
                f"the Valkey of {who} has no memory left",
                fix="see which reader is behind (`segue realtime status`), or raise SEGUE_VALKEY_MAX_BYTES",
            ) from error
        if isinstance(error, _UNREADY_ERRORS) or _UNREADY.search(str(error)):
            raise away(f"{who} is not ready: {error}") from error
        raise
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise away(
            f"{who} does not answer: {error}",
            fix="it is started with `segue up`; HOME/valkey/valkey.log says why it ended",
        ) from error
