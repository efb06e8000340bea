"""Requests that wait are appended together: one append is under way, the others gather for the next.

So one fsync serves all that came while the last one ran, and a batch grows with the load by itself.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from segue.collector.metrics import APPEND_SECONDS, WAITING_BYTES
from segue.errors import LogDownError, LogError, LogFullError
from segue.log import Log

_log = logging.getLogger(__name__)

#: Payload that may wait. A request that finds more is told to come back.
WAITING_LIMIT_BYTES = 64 * 1024 * 1024
#: Payload of one append.
_APPEND_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class _Waiting:
    payload: bytes
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Merger:
    """Appends for the requests of one event loop."""

    def __init__(self, log: Log, *, limit_bytes: int = WAITING_LIMIT_BYTES) -> None:
        self._event_log = log
        self._limit = limit_bytes
        self._queue: list[_Waiting] = []
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    async def append(self, payload: bytes) -> None:
        """Returns when the payload is durable.

        Raises:
            LogError: it is not, or nobody knows; the client must send again.
        """
        if self._size + len(payload) > self._limit:
            raise LogFullError("too many requests wait for the event log", retry_after_seconds=1)
        waiting = _Waiting(payload)
        self._queue.append(waiting)
        self._size += len(payload)
        WAITING_BYTES.set(self._size)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        # The append goes on when the client goes away.
        await asyncio.shield(waiting.done)

    async def _run(self) -> None:
        while self._queue:
            batch, size = self._take()
            started = time.monotonic()
            error = await self._append([one.payload for one in batch])
            APPEND_SECONDS.observe(time.monotonic() - started)
            self._size -= size
            WAITING_BYTES.set(self._size)
            for one in batch:
                if one.done.cancelled():
                    continue
                if error is None:
                    one.done.set_result(None)
                else:
                    one.done.set_exception(error)
                    one.done.exception()  # somebody may have stopped waiting: that is no fault

    def _take(self) -> tuple[list[_Waiting], int]:
        size = count = 0
        for one in self._queue:
            if count and size + len(one.payload) > _APPEND_BYTES:
                break
            size += len(one.payload)
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch, size

    async def _append(self, payloads: list[bytes]) -> LogError | None:
        try:
            await self._event_log.append(payloads)
        except LogError as error:
            return error
        except Exception as error:
            _log.exception("appending to the event log failed")
            return LogDownError(f"appending failed: {type(error).__name__}", retry_after_seconds=5)
        return None
