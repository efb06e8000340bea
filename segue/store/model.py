"""What goes into the store and comes out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from segue.clock import to_warehouse

Change = Literal["entered", "exited", "merged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A person's way into or out of a segment. Times are aware.

    `cause` is event, time, definition, population, merge, audit or load; `before` and `after` are the person's
    segments before and after the update that it belongs to.
    """

    transition_id: str
    person_id: str
    segment: str
    change: Change
    effective_at: datetime
    recorded_at: datetime
    cause: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonState:
    """All that is known of a person: segment → entered_at (aware), a row of marts.person_features, identifiers."""

    person_id: str
    segments: Mapping[str, datetime]
    features: Mapping[str, Any]
    identifiers: tuple[tuple[str, str], ...]
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a batch has changed: new states, ids that became others, ids that are nobody's any more, what to tell."""

    people: Sequence[PersonState]
    merged: Mapping[str, str]
    gone: Sequence[str]
    transitions: Sequence[Transition]
    as_of: datetime


@dataclass(frozen=True, slots=True)
class StoredPerson:
    """A person as the store keeps them; the last three are JSON texts, ready to be passed on.

    `segments` is an object of segment → entered_at (ISO 8601, UTC), `features` an object, `identifiers` a list of
    [type, value].
    """

    person_id: str
    segments: bytes
    features: bytes
    identifiers: bytes


def stamp_text(moment: datetime) -> str:
    """ISO 8601 in UTC, to the microsecond, which is how finely memberships are kept."""
    return to_warehouse(moment).isoformat(timespec="microseconds") + "Z"


def read_stamp(text: str) -> datetime:
    """The aware time that `stamp_text` wrote."""
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)


def transition_json(t: Transition) -> bytes:
    """A transition as the outbox keeps it."""
    return orjson.dumps(
        {
            "transition_id": t.transition_id,
            "person_id": t.person_id,
            "segment": t.segment,
            "change": t.change,
            "effective_at": stamp_text(t.effective_at),
            "recorded_at": stamp_text(t.recorded_at),
            "cause": t.cause,
            "before": t.before,
            "after": t.after,
        }
    )


def read_transition(text: bytes) -> Transition:
    """The transition that `transition_json` wrote."""
    raw = orjson.loads(text)
    return Transition(
        **(
            raw
            | {
                "effective_at": read_stamp(raw["effective_at"]),
                "recorded_at": read_stamp(raw["recorded_at"]),
                "before": tuple(raw["before"]),
                "after": tuple(raw["after"]),
            }
        )
    )
