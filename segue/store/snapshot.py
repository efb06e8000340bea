"""The whole store at one moment, for whoever holds it against something else. Nobody waits for it meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import redis

from segue.settings import Settings
from segue.store import keys, outbox, read
from segue.store.keys import told
from segue.store.model import read_stamp
from segue.valkey import connect
from segue.valkey.streams import position_of

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Who was in which segment when the store was at `position`."""

    position: str
    as_of: datetime | None  # of the newest update; aware
    people: Mapping[str, tuple[str, ...]]  # of everybody who is in a segment
    engine: Mapping[str, Any]  # what the engine said of itself last


def take_snapshot(settings: Settings) -> Snapshot:
    """People are read piece by piece; what was told meanwhile is added, which is all that can have changed.

    Not while a store is filled for the first time: that is told to nobody.
    """
    client = connect(settings)
    told_of = outbox.Outbox(client)
    first = told_of.newest()
    people = {person: tuple(sorted(since)) for person, since in read.memberships(client)}
    with told():
        pipe = client.pipeline(transaction=True)
        pipe.hmget(keys.META, "position", "as_of", "status")
        pipe.xrevrange(keys.OUTBOX, count=1)
        (position, as_of, status), newest = pipe.execute()
    last = position_of(newest[0][0]) if newest else ""
    while first < last:
        rows = [row for row in told_of.read(first, limit=_AT_ONCE) if row.position <= last]
        for row in rows:
            people[row.transition.person_id] = row.transition.after
        if not rows:
            break
        first = rows[-1].position
    return Snapshot(
        position=position.decode() if position else "",
        as_of=read_stamp(as_of.decode()) if as_of else None,
        people={person: segments for person, segments in people.items() if segments},
        engine=orjson.loads(status) if status else {},
    )


def lease_holder(client: redis.Redis) -> str | None:
    """Who has the right to write, as it calls itself; None: nobody."""
    with told():
        found: Any = client.get(keys.LEASE)
    return found.decode().partition(" ")[2] if found else None
