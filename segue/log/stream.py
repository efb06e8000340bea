"""The log as one Valkey stream.

An entry holds its payload and where it starts, counted in bytes and in entries since the log began: so sizes and
lags come from two entries and need no walk. What changes more than one key is one script: it is done or it is not.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from segue.errors import LogDownError, LogFullError
from segue.log.interface import READERS, Entry, Lag, LogStatus, Position
from segue.settings import Settings
from segue.valkey import connect, connect_async
from segue.valkey.streams import COMMIT, next_position, position_of, row_id_of, rows_of, telling

_STREAM = "segue:{log}:stream"
_TOTALS = "segue:{log}:totals"
_READERS = "segue:{log}:readers"

#: Payloads are joined up to this: one large entry is cheaper than many, and a reader may still take little at once.
_ENTRY_BYTES = 1 << 20
#: What the server needs for an entry besides its payload.
_ENTRY_OVERHEAD = 256
#: One blocking call of a read, well below the client's time-out.
_BLOCK_SECONDS = 2.0
_FIRST_COUNT = 16
_MOST_COUNT = 1024

_DOWN_RETRY_SECONDS = 2
_FULL_RETRY_SECONDS = 10

#: KEYS: stream, totals. ARGV: ceiling, overhead of an entry, payload, …
_APPEND = """
local totals = redis.call('HMGET', KEYS[2], 'bytes', 'entries', 'trimmed')
local bytes, entries = tonumber(totals[1] or 0), tonumber(totals[2] or 0)
local more = 0
for i = 3, #ARGV do more = more + #ARGV[i] + ARGV[2] end
if bytes - tonumber(totals[3] or 0) + more > tonumber(ARGV[1]) then return 0 end
for i = 3, #ARGV do
    local at, number = string.format('%.0f', bytes), string.format('%.0f', entries)
    redis.call('XADD', KEYS[1], '*', 'p', ARGV[i], 'b', at, 'n', number)
    bytes, entries = bytes + #ARGV[i] + ARGV[2], entries + 1
end
redis.call('HSET', KEYS[2], 'bytes', string.format('%.0f', bytes), 'entries', string.format('%.0f', entries))
return 1
"""

#: KEYS: stream, totals. ARGV: first id to keep.
_TRIM = """
local gone = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
if gone > 0 then
    local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
    local kept = first[1] and first[1][2][4] or redis.call('HGET', KEYS[2], 'bytes')
    redis.call('HSET', KEYS[2], 'trimmed', kept)
end
return gone
"""


def open_log(settings: Settings) -> "StreamLog":
    """The log of this home. Connects when it is first used."""
    return StreamLog(settings)


class StreamLog:
    """See `Log`. May be used from several threads; `append` from any event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ceiling = settings.log_ceiling_bytes
        self._client = connect(settings)
        self._trim = self._client.register_script(_TRIM)
        self._commit = self._client.register_script(COMMIT)
        # A connection belongs to the event loop it was made in.
        self._appenders: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    async def append(self, payloads: Sequence[bytes]) -> None:
        """See `Log.append`."""
        entries = _joined(payloads)
        if not entries:
            return
        with _told():
            done = await self._appender()(keys=[_STREAM, _TOTALS], args=[self._ceiling, _ENTRY_OVERHEAD, *entries])
        if not done:
            raise LogFullError(
                f"the event log has reached its ceiling of {self._ceiling:,} bytes",
                fix="see which reader is behind (`segue realtime status`), or raise SEGUE_LOG_MAX_BYTES",
                retry_after_seconds=_FULL_RETRY_SECONDS,
            )

    def _appender(self) -> Any:
        loop = asyncio.get_running_loop()
        script = self._appenders.get(loop)
        if script is None:
            script = connect_async(self._settings).register_script(_APPEND)
            self._appenders[loop] = script
        return script

    def read(self, after: Position, *, limit_bytes: int, wait_seconds: float) -> list[Entry]:
        """See `Log.read`."""
        entries: list[Entry] = []
        size, count, last = 0, _FIRST_COUNT, row_id_of(after)
        deadline = time.monotonic() + wait_seconds
        while True:
            wait = min(deadline - time.monotonic(), _BLOCK_SECONDS)
            block = {"block": max(1, int(wait * 1000))} if not entries and wait > 0 else {}
            with _told():
                answer: Any = self._client.xread({_STREAM: last}, count=count, **block)  # type: ignore[arg-type]
            found = rows_of(answer)
            for row_id, fields in found:
                payload = fields[b"p"]
                if entries and size + len(payload) > limit_bytes:
                    return entries
                entries.append(Entry(position_of(row_id), payload))
                size += len(payload)
            if entries:
                if len(found) < count or size >= limit_bytes:
                    return entries
                # Ask for as much as is likely to fit: entries are of one kilobyte or of a thousand.
                count = max(1, min(_MOST_COUNT, (limit_bytes - size) * len(entries) // max(size, 1)))
                last = row_id_of(entries[-1].position)
            elif deadline <= time.monotonic():
                return []

    def commit(self, reader: str, position: Position) -> None:
        """See `Log.commit`."""
        with _told():
            self._commit(keys=[_READERS], args=[reader, position])

    def committed(self, reader: str) -> Position:
        """See `Log.committed`."""
        with _told():
            found: Any = self._client.hget(_READERS, reader)
        return found.decode() if found else ""

    def trim(self) -> None:
        """See `Log.trim`."""
        last = min(self.committed(reader) for reader in READERS)
        if last:
            with _told():
                self._trim(keys=[_STREAM, _TOTALS], args=[row_id_of(next_position(last))])

    def status(self) -> LogStatus:
        """See `Log.status`."""
        positions = {reader: self.committed(reader) for reader in READERS}
        pipe = self._client.pipeline(transaction=True)
        pipe.time()
        pipe.hmget(_TOTALS, "bytes", "entries", "trimmed")
        pipe.xlen(_STREAM)
        pipe.xrevrange(_STREAM, count=1)
        for position in positions.values():
            pipe.xrange(_STREAM, min=f"({row_id_of(position)}" if position else "-", count=1)
        with _told():
            now, totals, length, newest, *unread = pipe.execute()
        total_bytes, total_entries, trimmed = (int(value or 0) for value in totals)
        lags = {}
        for reader, rows in zip(positions, unread, strict=True):
            if rows:
                row_id, fields = rows[0]
                lags[reader] = Lag(
                    entries=total_entries - int(fields[b"n"]),
                    bytes=total_bytes - int(fields[b"b"]),
                    # The server made both times, so no clock of ours comes in.
                    seconds=max(0.0, now[0] + now[1] / 1e6 - int(row_id.split(b"-")[0]) / 1000),
                )
            else:
                lags[reader] = Lag(entries=0, bytes=0, seconds=0.0)
        return LogStatus(
            entries=length,
            bytes=total_bytes - trimmed,
            ceiling_bytes=self._ceiling,
            newest=position_of(newest[0][0]) if newest else max(positions.values()),
            lags=lags,
        )


def _joined(payloads: Sequence[bytes]) -> list[bytes]:
    """Payloads together in entries of a good size; none is cut."""
    entries: list[bytes] = []
    waiting: list[bytes] = []
    size = 0
    for payload in payloads:
        if waiting and size + len(payload) > _ENTRY_BYTES:
            entries.append(b"".join(waiting))
            waiting, size = [], 0
        waiting.append(payload)
        size += len(payload)
    if waiting:
        entries.append(b"".join(waiting))
    return entries


def _told() -> AbstractContextManager[None]:
    """Errors of the client as the log's own."""
    return telling(
        "the event log",
        full=partial(LogFullError, retry_after_seconds=_FULL_RETRY_SECONDS),
        away=partial(LogDownError, retry_after_seconds=_DOWN_RETRY_SECONDS),
    )
