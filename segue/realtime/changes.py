"""What has changed between two states of the same people, and how it is told."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from segue.clock import to_warehouse
from segue.store import Change, Transition


@dataclass(frozen=True, slots=True)
class Stay:
    """The segments of a person, by name, and since when each (aware)."""

    segments: tuple[str, ...]
    since: tuple[datetime, ...]


NOTHING = Stay((), ())


def transition_id(segment: str, person_id: str, moment: str, change: str) -> str:
    """The id under which the history of segments knows this change too; `moment` as its ids spell it."""
    return hashlib.sha256(f"{segment}|{person_id}|{moment}|{change}".encode()).hexdigest()[:32]


def carry_on(before: Stay, segments: tuple[str, ...], as_of: datetime) -> Stay:
    """The new stay: who was in a segment has been in it since then."""
    if before.segments == segments:
        return before
    since = dict(zip(before.segments, before.since, strict=True))
    return Stay(segments, tuple(since.get(name, as_of) for name in segments))


def transitions(
    before: Mapping[str, Stay],
    after: Mapping[str, Stay],
    survivors: Mapping[str, str],
    *,
    as_of: datetime,
    recorded_at: datetime,
    cause: str,
) -> Sequence[Transition]:
    """What to tell of some people who cannot have become anybody else but each other.

    Whoever leaves a segment because the id has become another one is `merged`, and so is the one who comes for it.

    Args:
        before, after: person → stay; those who are missing are in nothing.
        survivors: id that is gone → the id it has become.
    """
    people = dict.fromkeys((*before, *after))
    told: list[Transition] = []
    handed_over: set[tuple[str, str]] = set()
    exits: list[tuple[str, str, Change]] = []
    entries: list[tuple[str, str, Change]] = []
    for person in people:
        was, now = before.get(person, NOTHING).segments, after.get(person, NOTHING).segments
        if was == now:
            continue
        into = survivors.get(person)
        for segment in was:
            if segment not in now:
                exits.append((person, segment, "exited" if into is None else "merged"))
                if into is not None:
                    handed_over.add((segment, into))
    for person in people:
        was, now = before.get(person, NOTHING).segments, after.get(person, NOTHING).segments
        if was != now:
            for segment in now:
                if segment not in was:
                    entries.append((person, segment, "merged" if (segment, person) in handed_over else "entered"))
    moment = to_warehouse(as_of).strftime("%Y-%m-%dT%H:%M:%S.%f")
    for person, segment, change in (*exits, *entries):
        told.append(
            Transition(
                transition_id=transition_id(segment, person, moment, change),
                person_id=person,
                segment=segment,
                change=change,
                effective_at=as_of,
                recorded_at=recorded_at,
                cause="merge" if change == "merged" else cause,
                before=before.get(person, NOTHING).segments,
                after=after.get(person, NOTHING).segments,
            )
        )
    return told
