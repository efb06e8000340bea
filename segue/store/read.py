"""Reading people, one round trip each."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson
import redis
import redis.asyncio

from segue.identifiers import Normaliser
from segue.store import keys
from segue.store.keys import told
from segue.store.model import StoredPerson, read_stamp
from segue.store.scripts import FIND
from segue.store.together import Segments, Together

#: What an identifier without a type is tried as, in this order; a person's id comes before.
IDENTIFIER_TYPES = ("user_id", "email", "phone", "anonymous_id", "device_id", "advertising_id")
_KEYS = [keys.SEGMENTS, keys.INDEX, keys.MERGED, keys.FEATURES, keys.IDENTIFIERS]
_MANY = 1_000


def identifier_keys(identifier: str, normaliser: Normaliser) -> list[str]:
    """The fields of the index under which an identifier may stand: `value` of any type, or `type:value`.

    An e-mail address may be given in clear; it is kept as the keyed hash that staging makes of it.
    """
    fields = [f"{kind}:{identifier}" for kind in IDENTIFIER_TYPES]
    kind, colon, value = identifier.partition(":")
    if colon and kind:
        fields.append(identifier)
    if "@" in identifier:
        address = value if kind == "email" and colon else identifier
        fields.append("email:" + normaliser.email(address))
    return fields


class Reader:
    """Reads for one event loop. Many may read at once; connections are pooled."""

    def __init__(self, client: "redis.asyncio.Redis", normaliser: Normaliser) -> None:
        self.client = client
        self._normaliser = normaliser
        self._find: Any = client.register_script(FIND)
        self._together = Together(client)

    def _keys(self, identifier: str) -> list[str]:
        return identifier_keys(identifier, self._normaliser)

    async def segments_of(self, identifier: str) -> Segments | None:
        """person_id and segments as JSON (segment → entered_at); None when nobody has the identifier."""
        return await self._together.find(identifier, self._keys(identifier))

    async def person(self, identifier: str) -> StoredPerson | None:
        """All that is known of a person; None when nobody has the identifier."""
        with told():
            found = await self._find(keys=_KEYS, args=["1", identifier, *self._keys(identifier)])
        return StoredPerson(found[0].decode(), *found[1:]) if found else None

    async def segments_of_many(self, identifiers: Sequence[str]) -> list[Segments | None]:
        """As `segments_of`, for many in few round trips."""
        return await asyncio.gather(*(self.segments_of(identifier) for identifier in identifiers))

    async def members(self, segment: str, *, after: str = "", limit: int = 100) -> list[str]:
        """Ids of people in a segment, in order, those after `after`."""
        low = f"({after}" if after else "-"
        with told():
            found: Any = await self.client.zrangebylex(keys.MEMBERS + segment, low, "+", start=0, num=limit)
        return [person.decode() for person in found]

    async def segment_counts(self) -> dict[str, int]:
        """segment → people in it; of every segment that anybody was ever in."""
        with told():
            found: Any = await self.client.smembers(keys.NAMES)
            names = sorted(name.decode() for name in found)
            pipe = self.client.pipeline(transaction=False)
            for name in names:
                pipe.zcard(keys.MEMBERS + name)
            return dict(zip(names, await pipe.execute(), strict=True))

    async def state(self) -> dict[str, Any]:
        """as_of (aware, or None), people, and the engine's last words about itself."""
        with told():
            pipe = self.client.pipeline(transaction=False)
            pipe.hmget(keys.META, "as_of", "status")
            pipe.hlen(keys.SEGMENTS)
            pipe.xlen(keys.OUTBOX)
            (as_of, status), people, outbox = await pipe.execute()
        return {
            "as_of": read_stamp(as_of.decode()) if as_of else None,
            "people": people,
            "outbox": outbox,
            "engine": orjson.loads(status) if status else {},
        }


def memberships(client: redis.Redis) -> Iterator[tuple[str, dict[str, datetime]]]:
    """Everybody who is known: person_id, segment → entered_at. Who changes meanwhile comes as before or after."""
    with told():
        seen: set[bytes] = set()  # a scan may give a field twice
        for person, text in client.hscan_iter(keys.SEGMENTS, count=_MANY):
            if person not in seen:
                seen.add(person)
                yield person.decode(), {name: read_stamp(at) for name, at in orjson.loads(text).items()}
