"""What the store says of people, component by component, and what an evaluation changes about it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from segue.realtime.ahead import Said
from segue.realtime.changes import NOTHING, Stay, carry_on, transitions
from segue.realtime.people import People
from segue.store import PersonState, Update

#: The component of those whose id is nobody's (any more, or yet): they leave when everybody is evaluated.
NOBODIES = -1


class Stays:
    """Who is in which segments since when, as of the last evaluation.

    Args:
        people: says who lives in which component, and what became of an id.
    """

    def __init__(self, people: People) -> None:
        self._people = people
        self._stays: dict[str, Stay] = {}
        self._places: dict[int, list[str]] = {}  # component → people that the store knows there
        self._nobodies: dict[str, None] = {}
        self._in_store: set[str] | None = None  # during a first fill: people who have come into the store

    def __len__(self) -> int:
        return len(self._stays)

    def memberships(self) -> dict[str, tuple[str, ...]]:
        """person_id → segments, of everybody who is in one."""
        return {person: stay.segments for person, stay in self._stays.items() if stay.segments}

    def first_fill(self, in_store: Iterable[str] | None) -> None:
        """From now on whoever comes into the store is found, and has not changed, but for these; None: it is over."""
        self._in_store = None if in_store is None else set(in_store)

    # What the store has, whoever wrote it.

    def take_over(self, stays: Iterable[tuple[str, Mapping[str, datetime] | None]]) -> list[int]:
        """Believe the store: person_id, segment → entered_at; None: nobody has the id. The components it is about."""
        found = []
        for person, since in stays:
            self._stays.pop(person, None)
            if since is not None:
                names = tuple(sorted(since))
                self._stays[person] = Stay(names, tuple(since[name] for name in names))
            found.append(person)
        return self._place(found)

    def _place(self, people: Sequence[str]) -> list[int]:
        alive: dict[str, int] = {}
        for root in self._people.roots():
            alive |= dict.fromkeys(self._people.people_of(root), root)
        found: dict[int, None] = {}
        for person in people:
            into = person if person in alive else self._people.survivor(person)
            root = alive.get(into or person, NOBODIES)
            if root == NOBODIES:
                self._nobodies[person] = None
            else:
                self._nobodies.pop(person, None)
                self._places.setdefault(root, []).append(person)
            found[root] = None
        return list(found)

    def join(self, into: int, gone: int) -> None:
        """Two components have become one."""
        known = self._places.pop(gone, None)
        if known:
            self._places.setdefault(into, []).extend(known)

    # What an evaluation asks and says.

    def people_in(self, roots: Iterable[int]) -> Iterator[str]:
        """People that the store knows in these components."""
        for root in roots:
            yield from self._nobodies if root == NOBODIES else self._places.get(root, [])

    def states(self, roots: Iterable[int]) -> Mapping[int, Said]:
        """Component → person → segments, of those who are in any."""
        return {
            root: {p: s.segments for p in self.people_in((root,)) if (s := self._stays.get(p, NOTHING)).segments}
            for root in roots
        }

    def before(self, roots: Sequence[int]) -> dict[str, Stay]:
        """The stays of the people in these components.

        An engine may have died when the store had part of a batch: to the next one, whoever was new in it is nobody
        until the batch has come again.
        """
        found = list(self.people_in(roots))
        if self._nobodies:
            alive = (p for root in roots if root != NOBODIES for p in self._people.people_of(root))
            found += [person for person in alive if person in self._nobodies]
        return {person: self._stays[person] for person in found if person in self._stays}

    def carried_on(self, person: str, segments: tuple[str, ...], as_of: datetime) -> tuple[Stay, bool]:
        """The stay of a person who is in these segments now, and whether it is another one than before."""
        was = self._stays.get(person, NOTHING)
        now = carry_on(was, segments, as_of)
        return now, now is not was

    def segments(self, person: str) -> tuple[str, ...]:
        """The segments of a person."""
        return self._stays.get(person, NOTHING).segments

    def live_in(self, root: int, people: Iterable[str]) -> None:
        """These are the people of a component now."""
        if root == NOBODIES:
            self._nobodies.clear()
            return
        self._places[root] = list(people)
        if self._nobodies:
            for person in self._places[root]:
                self._nobodies.pop(person, None)

    def update(
        self,
        before: dict[str, Stay],
        after: dict[str, Stay],
        states: Sequence[PersonState],
        merges: Sequence[tuple[str, str]],
        *,
        as_of: datetime,
        cause: str,
    ) -> Update:
        """Note what has become of some people, and say what is to be written and told."""
        left = [person for person in before if person not in after]
        survivors = {person: into for person in left if (into := self._people.survivor(person)) is not None}
        told = transitions(before, after, survivors, as_of=as_of, recorded_at=as_of, cause=cause)
        if (seen := self._in_store) is not None:
            # Nothing has happened to somebody who is found; what happens after that is told.
            told = [replace(t, cause="time") if t.cause == "load" and t.person_id in seen else t for t in told]
            seen.update(after)
        for person in left:
            self._stays.pop(person, None)
        self._stays.update(after)
        merged = dict(merges) | {person: survivors[person] for person in left if person in survivors}
        return Update(
            people=states,
            merged=merged,
            gone=[person for person in left if person not in survivors],
            transitions=told,
            as_of=as_of,
        )
