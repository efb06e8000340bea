"""Transitions as Server-Sent Events."""

from collections.abc import AsyncIterator

import orjson
import redis.asyncio

from segue.store import Transition
from segue.store.model import stamp_text
from segue.store.outbox import follow

#: What an id of an event looks like.
POSITION = r"^[0-9]{15}-[0-9]{8}$"
_AT_ONCE = 500
_WAIT_SECONDS = 5.0


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


async def events(
    client: "redis.asyncio.Redis", after: str, segments: frozenset[str], person_id: str | None
) -> AsyncIterator[bytes]:
    """The stream's text, for ever; a comment when nothing happens, so that proxies keep the connection."""
    yield b": transitions follow\n\n"
    while True:
        rows = await follow(client, after, limit=_AT_ONCE, wait_seconds=_WAIT_SECONDS)
        chosen = [
            row
            for row in rows
            if (not segments or row.transition.segment in segments)
            and (person_id is None or row.transition.person_id == person_id)
        ]
        if rows:
            after = rows[-1].position
        yield (
            b"".join(
                b"id: %b\nevent: %b\ndata: %b\n\n"
                % (row.position.encode(), row.transition.change.encode(), orjson.dumps(public(row.transition)))
                for row in chosen
            )
            or b": still here\n\n"
        )
