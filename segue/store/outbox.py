"""The outbox: transitions in the order they were applied, for the stream and the webhooks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
import redis.asyncio

from segue.store import keys
from segue.store.keys import told
from segue.store.model import Transition, read_transition
from segue.store.scripts import COMMIT_KNOWN
from segue.valkey.streams import COMMIT, next_position, position_of, row_id_of, rows_of

_KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Told:
    """A transition and where it stands. Positions are opaque; they compare as texts."""

    position: str
    transition: Transition


class Outbox:
    """What was told. A reader that has a name holds back the trimming until it is past."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._commit = client.register_script(COMMIT)

    def read(self, after: str, *, limit: int, wait_seconds: float = 0.0) -> list[Told]:
        """What comes after a position ("" is the beginning); [] when nothing came in time."""
        block = {"block": max(1, int(wait_seconds * 1000))} if wait_seconds > 0 else {}
        with told():
            answer = self._client.xread({keys.OUTBOX: row_id_of(after)}, count=limit, **block)  # type: ignore[arg-type]
        return _rows(answer)

    def newest(self) -> str:
        """Where the last one stands; "" when there is none."""
        with told():
            rows: Any = self._client.xrevrange(keys.OUTBOX, count=1)
        return position_of(rows[0][0]) if rows else ""

    def at(self, moment: datetime) -> str:
        """Where it stood at a time (aware), by the server's clock: what comes after it was told then or later."""
        return min(self.newest(), position_of(b"%d-0" % max(0, int(moment.timestamp() * 1000) - 1)))

    def committed(self, reader: str) -> str | None:
        """How far a reader has come; None: it was never here."""
        with told():
            found: Any = self._client.hget(keys.OUTBOX_READERS, reader)
        return None if found is None else found.decode()

    def commit(self, reader: str, position: str) -> None:
        """The reader is past a position, for good. Its first commit, also of "", makes it one that is waited for."""
        with told():
            self._client.hsetnx(keys.OUTBOX_READERS, reader, "")
            self._commit(keys=[keys.OUTBOX_READERS], args=[reader, position])

    def commit_in(self, transaction: "redis.client.Pipeline", reader: str, position: str) -> None:
        """As `commit`, as a part of a transaction, for a reader that is one: who was forgotten stays forgotten."""
        transaction.eval(COMMIT_KNOWN, 1, keys.OUTBOX_READERS, reader, position)

    def forget(self, reader: str) -> None:
        """Nobody waits for this reader any more."""
        with told():
            self._client.hdel(keys.OUTBOX_READERS, reader)

    def trim(self, *, kept_seconds: float = _KEPT_SECONDS) -> int:
        """Drop what every reader is past and what is older; by the server's own clock. Returns how many went."""
        with told():
            seconds, _ = self._client.time()  # type: ignore[misc]
            oldest = position_of(b"%d-0" % max(0, int((seconds - kept_seconds) * 1000)))
            readers: Any = self._client.hvals(keys.OUTBOX_READERS)
            first = min([oldest, *(next_position(position.decode()) for position in readers)])
            return int(self._client.xtrim(keys.OUTBOX, minid=row_id_of(first), approximate=False))  # type: ignore[arg-type]


async def follow(client: "redis.asyncio.Redis", after: str, *, limit: int, wait_seconds: float) -> list[Told]:
    """As `Outbox.read`, for an event loop."""
    with told():
        block = {"block": max(1, int(wait_seconds * 1000))} if wait_seconds > 0 else {}
        answer = await client.xread({keys.OUTBOX: row_id_of(after)}, count=limit, **block)  # type: ignore[arg-type]
    return _rows(answer)


def _rows(answer: Any) -> list[Told]:
    return [Told(position_of(row_id), read_transition(fields[b"t"])) for row_id, fields in rows_of(answer)]
