"""The store on Valkey: one script writes an update, so that it is there as a whole or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson

from segue.errors import StaleError
from segue.identifiers import Normaliser, load_key
from segue.settings import Settings
from segue.store import keys, read
from segue.store.keys import told
from segue.store.model import PersonState, Update, read_stamp, stamp_text, transition_json
from segue.store.outbox import Outbox
from segue.store.requests import Requests
from segue.store.scripts import ACQUIRE, APPLY, NOTE, RELEASE, RENEW
from segue.valkey import connect, connect_async

_APPLY_KEYS = [
    keys.META,
    keys.FENCE,
    keys.SEGMENTS,
    keys.FEATURES,
    keys.IDENTIFIERS,
    keys.INDEX,
    keys.MERGED,
    keys.NAMES,
    keys.OUTBOX,
]


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """How the store stands; `engine` is what the engine said of itself last."""

    people: int
    identifiers: int
    outbox: int
    as_of: datetime | None
    engine: Mapping[str, Any]


def open_store(settings: Settings) -> "Store":
    """The store of this home. Connects when it is first used."""
    return Store(settings)


class Store:
    """May be used from several threads. Every method may raise ValkeyError when the server does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # A big update is one script, and is on disk before it is answered.
        self._client = connect(settings, timeout_seconds=60)
        self._apply = self._client.register_script(APPLY)
        self._acquire = self._client.register_script(ACQUIRE)
        self._renew = self._client.register_script(RENEW)
        self._release = self._client.register_script(RELEASE)
        self._note = self._client.register_script(NOTE)
        self._owner, self._ttl = "", 0
        self._unanswered: tuple[Update | None, str] = (None, "")  # what may have been applied, and its number
        self.outbox = Outbox(self._client)
        self.requests = Requests(self._client)

    def reader(self) -> read.Reader:
        """Reads for the event loop that is running."""
        return read.Reader(connect_async(self._settings), Normaliser(load_key(self._settings)))

    # Who may write.

    def acquire(self, owner: str, *, ttl_seconds: float) -> int | None:
        """The right to write, until it is not renewed for so long: a token that grows. None: another one has it."""
        self._owner, self._ttl = owner, int(ttl_seconds * 1000)
        with told():
            token: Any = self._acquire(keys=[keys.LEASE, keys.FENCE], args=[owner, self._ttl])
        return int(token) or None

    def renew(self, token: int) -> bool:
        """Keep the right. False: another one has it now."""
        with told():
            return bool(self._renew(keys=[keys.LEASE, keys.FENCE], args=[token, self._owner, self._ttl]))

    def release(self, token: int) -> None:
        """Give the right back, so that another one need not wait."""
        with told():
            self._release(keys=[keys.LEASE, keys.FENCE], args=[token])

    # What is in it.

    def position(self) -> str:
        """The position in the log up to which everything is applied; "" at the beginning."""
        with told():
            found: Any = self._client.hget(keys.META, "position")
        return found.decode() if found else ""

    def as_of(self) -> datetime | None:
        """Time of the newest update; None when there was none."""
        with told():
            found: Any = self._client.hget(keys.META, "as_of")
        return read_stamp(found.decode()) if found else None

    def apply(self, update: Update, *, token: int, expected: str, position: str) -> None:
        """Write an update and the position that it brings the store to; all of it or nothing.

        After any error but StaleError it may have been applied. Calling again with the same update is right then: it
        is applied if it was not, and not a second time if it was.

        Transitions of a first fill (cause `load`) are not told to anybody: nothing has happened to those people.

        Raises:
            StaleError: another engine has the right to write, or the store is not at `expected`. Nothing was written.
        """
        number = self._unanswered[1] if self._unanswered[0] is update else uuid4().hex
        arguments: list[str | bytes | int] = [token, expected, position, stamp_text(update.as_of), keys.MEMBERS, number]
        arguments.append(len(update.merged))
        for gone, into in update.merged.items():
            arguments += (gone, into)
        arguments += (len(update.gone), *update.gone, len(update.people))
        for state in update.people:
            arguments += _written(state)
        arguments += (transition_json(t) for t in update.transitions if t.cause != "load")
        self._unanswered = (update, number)
        with told():
            answer: Any = self._apply(keys=_APPLY_KEYS, args=arguments)
        self._unanswered = (None, "")
        if answer == b"fence":
            raise StaleError("another engine has taken over the serving store", fix="one engine a home is enough")
        if answer == b"position":
            raise StaleError(f"the serving store is not at {expected or 'its beginning'} any more")

    def note(self, status: Mapping[str, Any], *, token: int) -> None:
        """Keep what the engine says of itself, for the live page and the metrics; JSON-able. Not from a stale one."""
        with told():
            self._note(keys=[keys.META, keys.FENCE], args=[token, "status", orjson.dumps(status)])

    def set_filled(self, *, token: int) -> None:
        """Everybody was evaluated once. Until then, whoever comes into the store was found, and has not changed."""
        with told():
            self._note(keys=[keys.META, keys.FENCE], args=[token, "filled", "1"])

    def is_filled(self) -> bool:
        """Whether everybody was evaluated once."""
        with told():
            return bool(self._client.hexists(keys.META, "filled"))

    def merged(self) -> dict[str, str]:
        """Every id that is gone → the one that it became."""
        with told():
            found: Any = self._client.hgetall(keys.MERGED)
        return {gone.decode(): into.decode() for gone, into in found.items()}

    def memberships(self) -> Iterator[tuple[str, dict[str, datetime]]]:
        """Everybody who is known: person_id, segment → entered_at (aware)."""
        return read.memberships(self._client)

    def segments_of(self, people: Sequence[str]) -> dict[str, dict[str, datetime] | None]:
        """person_id → segment → entered_at (aware) of these ids; None: nobody has the id."""
        if not people:
            return {}
        with told():
            found: Any = self._client.hmget(keys.SEGMENTS, list(people))
        return {
            person: None if text is None else {name: read_stamp(at) for name, at in orjson.loads(text).items()}
            for person, text in zip(people, found, strict=True)
        }

    def merged_among(self, people: Sequence[str]) -> dict[str, str]:
        """Of these ids, those that were merged away → the id that each became at that moment."""
        if not people:
            return {}
        with told():
            found: Any = self._client.hmget(keys.MERGED, list(people))
        return {person: into.decode() for person, into in zip(people, found, strict=True) if into is not None}

    def status(self) -> StoreStatus:
        """Counts, and how the engine is."""
        with told():
            pipe = self._client.pipeline(transaction=False)
            pipe.hlen(keys.SEGMENTS)
            pipe.hlen(keys.INDEX)
            pipe.xlen(keys.OUTBOX)
            pipe.hmget(keys.META, "as_of", "status")
            people, identifiers, outbox, (as_of, status) = pipe.execute()
        return StoreStatus(
            people=people,
            identifiers=identifiers,
            outbox=outbox,
            as_of=read_stamp(as_of.decode()) if as_of else None,
            engine=orjson.loads(status) if status else {},
        )


def _written(state: PersonState) -> tuple[str, bytes, str | bytes, bytes]:
    segments = {name: stamp_text(state.segments[name]) for name in sorted(state.segments)}
    # The engine brings the row as the database wrote it.
    features: str | bytes | None = getattr(state.features, "text", None)
    return (
        state.person_id,
        orjson.dumps(segments),
        orjson.dumps(dict(state.features)) if features is None else features,
        orjson.dumps(sorted(state.identifiers)),
    )
