"""What is kept of webhooks in Valkey, for the sender itself and for whoever looks.

Of each endpoint: how far it is in the outbox; how it stands; the messages that are held because their receiver has
refused one of that person; dead letters. The changes of several endpoints are written as a whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import orjson

from segue.serving.subscriptions import Named, Subscription
from segue.settings import Settings
from segue.store import Outbox, Transition
from segue.store.keys import OUTBOX_READERS, told
from segue.store.model import read_stamp, read_transition, stamp_text, transition_json
from segue.valkey import connect

# In the slot of the outbox, so that one transaction may change both.
_STATE = "segue:{store}:webhooks:state"
_NAMED = "segue:{store}:webhooks:named"
_DEAD = "segue:{store}:webhooks:dead:"
_HELD = "segue:{store}:webhooks:held:"
_READER = "webhook:"
_PAGE = 1_000


@dataclass(slots=True, kw_only=True)
class Delivery:
    """How an endpoint stands. Times are aware.

    While `failing_since` is there, nothing can be delivered and the endpoint is paused until `next_at`.
    """

    delivered: int = 0
    attempts: int = 0  # since it is failing
    failing_since: datetime | None = None
    next_at: datetime | None = None
    last_error: str = ""


@dataclass(slots=True, kw_only=True)
class Message:
    """A transition on its way to an endpoint.

    `position` is its place in the outbox. `attempts` counts refusals, the first of them at `refused_at`; `is_held`:
    it is kept apart, since the endpoint is past its place in the outbox. `failed_at`: when the receiver first
    answered with 5xx; forgotten when the sender ends.
    """

    position: str
    transition: Transition
    attempts: int = 0
    refused_at: datetime | None = None
    failed_at: datetime | None = None
    next_at: datetime | None = None
    error: str = ""
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be delivered."""

    position: str
    transition: Transition
    error: str


@dataclass(slots=True, kw_only=True)
class EndpointChange:
    """What has become of an endpoint since it was written last. `committed` "": unchanged."""

    name: str
    committed: str = ""
    delivery: Delivery | None = None
    held: dict[str, Message] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)
    dead: list[tuple[Transition, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An endpoint as others see it. `waiting` counts transitions for it, held ones too, up to a limit."""

    name: str
    delivery: Delivery
    waiting: int
    held: int
    dead_letters: int
    fault: str = ""

    @property
    def trouble(self) -> str:
        """What is wrong, in a sentence; "" when nothing is."""
        if self.fault:
            return self.fault
        if self.delivery.failing_since is not None or self.held:
            return self.delivery.last_error or "a message was refused"
        return "see `segue webhooks letters`" if self.dead_letters else ""


class Webhooks:
    """Reads and writes what is kept. Every method may raise ValkeyError."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings)
        self.outbox = Outbox(self._client)

    def state(self, name: str) -> Delivery:
        """How an endpoint stands."""
        return self._states().get(name, Delivery())

    def _states(self) -> dict[str, Delivery]:
        with told():
            rows: Any = self._client.hgetall(_STATE)
        return {name.decode(): msgspec.json.decode(text, type=Delivery) for name, text in rows.items()}

    def begin(self, name: str, since: datetime | None = None) -> None:
        """Let an endpoint follow what is told from a time on (None: now), unless it follows already.

        The time is when it was added, and not when the sender first looks: what is told in between is for it too.
        """
        if self.outbox.committed(reader_of(name)) is None:
            self.outbox.commit(reader_of(name), self.outbox.newest() if since is None else self.outbox.at(since))

    def forget(self, name: str) -> None:
        """Drop all that is kept of an endpoint."""
        with told():
            pipe = self._client.pipeline(transaction=True)
            pipe.hdel(OUTBOX_READERS, reader_of(name))
            pipe.hdel(_STATE, name)
            pipe.delete(_DEAD + name, _HELD + name)
            pipe.execute()

    def readers(self) -> set[str]:
        """Endpoints whose place in the outbox is kept."""
        with told():
            rows: Any = self._client.hkeys(OUTBOX_READERS)
        return {row.decode().removeprefix(_READER) for row in rows if row.startswith(_READER.encode())}

    def leave(self, name: str) -> None:
        """Hold the outbox back for this endpoint no more; its dead letters stay."""
        self.outbox.forget(reader_of(name))

    def save(self, changes: Iterable[EndpointChange]) -> None:
        """Write what has changed, all of it or nothing."""
        with told():
            pipe = self._client.pipeline(transaction=True)
            for change in changes:
                if change.held:
                    rows = {m.position: _held_text(m) for m in change.held.values()}
                    pipe.hset(_HELD + change.name, mapping=rows)  # type: ignore[arg-type]
                if change.freed:
                    pipe.hdel(_HELD + change.name, *sorted(change.freed))
                for transition, error in change.dead:
                    pipe.xadd(_DEAD + change.name, {"t": transition_json(transition), "e": error})
                if change.committed:
                    self.outbox.commit_in(pipe, reader_of(change.name), change.committed)
                if change.delivery is not None:
                    pipe.hset(_STATE, change.name, msgspec.json.encode(change.delivery))  # type: ignore[arg-type]
            pipe.execute()

    def held(self, name: str) -> list[Message]:
        """The messages that are held, in the order of the outbox."""
        with told():
            rows: Any = self._client.hgetall(_HELD + name)
        return [_held_message(position.decode(), rows[position]) for position in sorted(rows)]

    def named(self) -> dict[str, list[str]]:
        """What the YAML of segments named when the sender looked last."""
        with told():
            text: Any = self._client.get(_NAMED)
        return dict(orjson.loads(text)) if text else {}

    def keep_named(self, named: Named) -> None:
        """Remember it: a sender that starts must not wait for the project."""
        with told():
            self._client.set(_NAMED, orjson.dumps(named))

    def dead(self, name: str) -> Sequence[DeadLetter]:
        """The dead letters of an endpoint, oldest first."""
        with told():
            rows: Any = self._client.xrange(_DEAD + name)
        return [DeadLetter(key.decode(), read_transition(row[b"t"]), row[b"e"].decode()) for key, row in rows]

    def exhume(self, name: str, letter: DeadLetter) -> None:
        """A dead letter is none any more."""
        with told():
            self._client.xdel(_DEAD + name, letter.position)

    def standings(self, known: Sequence[Subscription], *, most: int = 10_000) -> list[Standing]:
        """How all of them stand. Looks at `most` entries of the outbox, so that more may wait than it says."""
        states = self._states()
        with told():
            pipe = self._client.pipeline(transaction=False)
            pipe.hgetall(OUTBOX_READERS)
            for one in known:
                pipe.hlen(_HELD + one.name)
                pipe.xlen(_DEAD + one.name)
            rows, *counts = pipe.execute()
        past = {name.decode(): position.decode() for name, position in rows.items()}
        waiting = self._count(known, past, most)
        return [
            Standing(
                name=one.name,
                delivery=states.get(one.name, Delivery()),
                waiting=waiting[one.name] + counts[2 * at],
                held=counts[2 * at],
                dead_letters=counts[2 * at + 1],
                fault=one.fault,
            )
            for at, one in enumerate(known)
        ]

    def _count(self, known: Sequence[Subscription], past: Mapping[str, str], most: int) -> dict[str, int]:
        found = {one.name: 0 for one in known}
        places = {one.name: past[reader_of(one.name)] for one in known if reader_of(one.name) in past}
        after, seen = min(places.values(), default=None), 0
        while after is not None and seen < most:
            page = self.outbox.read(after, limit=min(_PAGE, most - seen))
            for row in page:
                for one in known:
                    if one.name in places and row.position > places[one.name] and one.wants(row.transition.segment):
                        found[one.name] += 1
            seen += len(page)
            after = page[-1].position if page else None
        return found


def reader_of(name: str) -> str:
    """The name under which an endpoint reads the outbox."""
    return _READER + name


def _held_text(m: Message) -> bytes:
    return orjson.dumps(
        {
            "t": transition_json(m.transition).decode(),
            "attempts": m.attempts,
            "refused_at": stamp_text(m.refused_at) if m.refused_at else None,
            "next_at": stamp_text(m.next_at) if m.next_at else None,
            "error": m.error,
        }
    )


def _held_message(position: str, text: bytes) -> Message:
    row = orjson.loads(text)
    return Message(
        position=position,
        transition=read_transition(row["t"].encode()),
        attempts=row["attempts"],
        refused_at=read_stamp(row["refused_at"]) if row["refused_at"] else None,
        next_at=read_stamp(row["next_at"]) if row["next_at"] else None,
        error=row["error"],
        is_held=True,
    )
