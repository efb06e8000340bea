"""Transitions as Server-Sent Events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import orjson
import redis.asyncio

from segue.errors import SegueError
from segue.serving.tail import Tail
from segue.store import Told, Transition
from segue.store.model import stamp_text
from segue.store.outbox import follow

#: What an id of an event looks like.
POSITION = r"^[0-9]{15}-[0-9]{8}$"

#: Streams that may be open: fewer than connections, so that those who only ask find one.
_STREAMS = 2_000
_AT_ONCE = 500
#: Transitions in memory; a stream that is further behind reads the outbox, beside so many others.
_KEPT = 2_000
_OLDER_AT_ONCE = 8
_READ_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
#: A stream looks this often whether it may go on, and says something this often when nothing happens.
_LOOK_SECONDS = 0.5
_SILENT_SECONDS = 5.0


def public(t: Transition) -> dict[str, object]:
    """A transition as others get it; times are ISO 8601 in UTC."""
    return {
        "transitionId": t.transition_id,
        "personId": t.person_id,
        "segment": t.segment,
        "change": t.change,
        "effectiveAt": stamp_text(t.effective_at),
        "cause": t.cause,
        "before": t.before,
        "after": t.after,
    }


class Streams:
    """Every stream of an event loop. The outbox is read once for all of them, and only while there is one.

    Args:
        newest: where the outbox ends; may block.
    """

    def __init__(self, client: "redis.asyncio.Redis", newest: Callable[[], str]) -> None:
        self._client, self._newest = client, newest
        self._tail: Tail | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._older = asyncio.Semaphore(_OLDER_AT_ONCE)
        self._open = 0

    @property
    def is_full(self) -> bool:
        """Whether as many are open as there may be."""
        return self._open >= _STREAMS

    async def events(
        self, after: str, segments: frozenset[str], person_id: str | None, may_go_on: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """The text of one, while it may go on; a comment when nothing happens, so that proxies keep the connection.

        While the store is away it waits.
        """
        now = asyncio.get_running_loop().time
        self._open += 1
        try:
            yield b": transitions follow\n\n"
            said = now()
            while True:
                rows = await self._next(after)
                if not may_go_on():
                    return
                if rows:
                    after = rows[-1].position
                text = b"".join(
                    b"id: %b\nevent: %b\ndata: %b\n\n"
                    % (row.position.encode(), row.transition.change.encode(), orjson.dumps(public(row.transition)))
                    for row in rows
                    if (not segments or row.transition.segment in segments)
                    and (person_id is None or row.transition.person_id == person_id)
                )
                if text or now() - said >= _SILENT_SECONDS:
                    yield text or b": still here\n\n"
                    said = now()
        finally:
            self._open -= 1
            if not self._open:
                self.close()

    def close(self) -> None:
        """Nobody follows any more."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._tail = None

    async def _next(self, after: str) -> Sequence[Told]:
        """What follows a position; nothing when nothing came for a moment."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        rows = () if self._tail is None else self._tail.after(after, _AT_ONCE)
        if rows is None:
            with suppress(SegueError):
                async with self._older:
                    rows = await follow(self._client, after, limit=_AT_ONCE, wait_seconds=0)
        if rows:
            return rows
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._news.wait()
        return ()

    async def _follow(self) -> None:
        """Feed the tail, and wake every stream."""
        self._tail = None
        while True:
            try:
                if self._tail is None:
                    self._tail = Tail(await asyncio.to_thread(self._newest), kept=_KEPT)
                rows = await follow(self._client, self._tail.newest, limit=_AT_ONCE, wait_seconds=_READ_SECONDS)
            except SegueError:  # whoever asks about the store is told
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if rows:
                self._tail.feed(rows)
                news, self._news = self._news, asyncio.Event()
                news.set()
