"""Questions that wait are asked together: one is under way, the others gather for the next.

So one round trip serves all that came while the last one was under way, and a reader under load costs less for each
question than it would by asking one at a time.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio
import redis.exceptions

from segue.store import keys
from segue.store.keys import told
from segue.store.scripts import FIND_MANY

Segments = tuple[bytes, bytes]

_AT_ONCE = 100
_KEYS = (keys.SEGMENTS, keys.INDEX, keys.MERGED)


class Together:
    """Finds people for one event loop."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._client: Any = client
        self._script: Any = client.register_script(FIND_MANY)
        self._waiting: list[tuple[Sequence[str], asyncio.Future[Segments | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def find(self, identifier: str, fields: Sequence[str]) -> Segments | None:
        """person_id and segments as JSON; None when nobody has the identifier.

        Args:
            fields: of the index, under which it may stand.
        """
        done: asyncio.Future[Segments | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((str(len(fields)), identifier, *fields), done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await done

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            try:
                answers = await self._ask([word for words, _ in batch for word in words])
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                        done.exception()  # who asked may be gone: that is no fault
                continue
            for at, (_, done) in enumerate(batch):
                if not done.done():
                    person, segments = answers[2 * at], answers[2 * at + 1]
                    done.set_result((person, segments) if person else None)

    async def _ask(self, words: list[str]) -> list[bytes]:
        command = ("EVALSHA", self._script.sha, len(_KEYS), *_KEYS, *words)
        with told():
            try:
                found: Any = await self._client.execute_command(*command)
            except redis.exceptions.NoScriptError:
                await self._client.script_load(FIND_MANY)
                found = await self._client.execute_command(*command)
        return list(found)
