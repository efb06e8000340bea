"""Who is who, component by component: all that a person is depends on the identifiers that are linked, directly or
through others, so a new link concerns one component and nobody else."""

import heapq
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from segue.clock import from_warehouse, to_warehouse
from segue.identity import resolve_as_of
from segue.identity.graph import DEVICE_WAIT, person_id_of
from segue.realtime.chain import IDENTIFIER_SCHEMA

Key = tuple[str, str]  # identifier_type, identifier_value
_LinkKey = tuple[str, str, str, str, str]  # left type and value, right type and value, rule

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 — naive UTC, as in the warehouse
_NEVER = 1 << 62
_WAIT = DEVICE_WAIT // timedelta(microseconds=1)
_STAMP = pa.timestamp("us")


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a naive UTC time."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(moment: int) -> datetime:
    """Naive UTC."""
    return _EPOCH + timedelta(microseconds=moment)


class People:
    """Identifiers, links, components, and the person that each identifier belongs to.

    A component is named by one of its identifiers, as a number; joining changes the name (`root`).
    """

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._number: dict[Key, int] = {}
        self._parent: list[int] = []
        self._members: dict[int, list[int]] = {}  # root → identifiers; a root alone is not listed
        # Of each identifier; microseconds.
        self._received: list[int] = []  # _NEVER: only named so far, not known
        self._first: list[int] = []
        self._last: list[int] = []
        self._person: list[str | None] = []
        self._links: dict[_LinkKey, list[int]] = {}  # first seen, last seen, first received
        self._links_of: dict[int, list[_LinkKey]] = {}  # root → links
        self._aliases: dict[int, list[_LinkKey]] = {}  # a user_id that an alias may mean → aliases
        self._waiting: list[tuple[int, int]] = []  # when a device's link is judged, an identifier of it
        self.merged: dict[str, str] = {}  # id that went → id that stayed at that moment
        self.joined: list[tuple[int, int]] = []  # (into, gone) since the caller last looked

    @property
    def identifier_count(self) -> int:
        """Identifiers that were ever named."""
        return len(self._keys)

    def node(self, key: Key) -> int:
        """The number of an identifier; new ones become a component of their own."""
        found = self._number.get(key)
        if found is None:
            found = self._number[key] = len(self._keys)
            self._keys.append(key)
            self._parent.append(found)
            self._received.append(_NEVER)
            self._first.append(_NEVER)
            self._last.append(-_NEVER)
            self._person.append(None)
        return found

    def root(self, node: int) -> int:
        """The component that an identifier is in."""
        parent = self._parent
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    def roots(self) -> list[int]:
        """Every component."""
        return [node for node, parent in enumerate(self._parent) if node == parent]

    def join(self, a: int, b: int) -> int:
        """Put the components of two identifiers together; notes it in `joined`."""
        a, b = self.root(a), self.root(b)
        if a == b:
            return a
        mine, theirs = self._members.get(a, [a]), self._members.get(b, [b])
        if len(mine) < len(theirs):
            a, b, mine, theirs = b, a, theirs, mine
        mine += theirs
        self._members[a] = mine
        self._members.pop(b, None)
        self._parent[b] = a
        links = self._links_of.pop(b, None)
        if links:
            self._links_of.setdefault(a, []).extend(links)
        self.joined.append((a, b))
        return a

    def learn(self, identifiers: Iterable[Mapping[str, Any]], links: Iterable[Mapping[str, Any]]) -> set[int]:
        """Add what staging made of some events (rows of stg_identifiers and stg_links).

        Returns:
            Identifiers of the components in which somebody may be somebody else now.
        """
        changed: set[int] = set()
        for row in identifiers:
            kind, value = row["identifier_type"], row["identifier_value"]
            if kind is not None and value is not None:
                self._mention((kind, value), *_times(row), changed)
        for row in links:
            key = (row["left_type"], row["left_value"], row["right_type"], row["right_value"], row["rule"])
            if all(part is not None for part in key[:4]):
                self._link(key, *_times(row), changed)
        return changed

    def _mention(self, key: Key, first: int, last: int, received: int, changed: set[int]) -> None:
        node = self.node(key)
        if first < self._first[node]:
            self._first[node] = first
        if last > self._last[node]:
            self._last[node] = last
        if received < self._received[node]:
            self._received[node] = received
            changed.add(node)

    def _link(self, key: _LinkKey, first: int, last: int, received: int, changed: set[int]) -> None:
        left_type, left, right_type, right, rule = key
        known = self._links.get(key)
        if known is None:
            self._links[key] = [first, last, received]
            a, b = self.node((left_type, left)), self.node((right_type, right))
            root = self.join(a, b)
            if rule == "alias" and left_type == "anonymous_id":
                # It may mean a user_id of that name, now or once there is one.
                meant = self.node(("user_id", left))
                root = self.join(root, meant)
                self._aliases.setdefault(meant, []).append(key)
            self._links_of.setdefault(root, []).append(key)
            changed.add(a)
        else:
            if received < known[2]:
                changed.add(self.node((left_type, left)))
            known[0], known[1], known[2] = min(first, known[0]), max(last, known[1]), min(received, known[2])
        # A link is proof that both its ends exist.
        for end in ((left_type, left), (right_type, right)):
            self._mention(end, first, last, received, changed)

    def resolve(self, nodes: Iterable[int], as_of: datetime) -> list[tuple[str, str]]:
        """Find the person of each identifier of these components anew.

        Returns:
            Merges that were not known before: the id that went, the id that stayed at that moment.
        """
        rows: list[int] = []
        links: list[tuple[str, str, str, str, str, int]] = []
        now = micros(to_warehouse(as_of))
        for root in {self.root(node) for node in nodes}:
            members = [n for n in self._members.get(root, (root,)) if self._received[n] <= now]
            listed = self._links_of.get(root)
            if len(members) == 1 and not listed:
                self._person[members[0]] = person_id_of(*self._keys[members[0]])
                continue
            rows += members
            for key in listed or ():
                self._take_link(key, links, now)
        if not rows:
            return []
        keys = [self._keys[n] for n in rows]
        known = pa.table(
            {
                "identifier_type": pa.array([k for k, _ in keys], pa.string()),
                "identifier_value": pa.array([v for _, v in keys], pa.string()),
                "first_received_at": pa.array([self._received[n] for n in rows], pa.int64()).cast(_STAMP),
            }
        )
        columns = list(zip(*links, strict=True)) if links else [()] * 6
        names = ("left_type", "left_value", "right_type", "right_value", "rule")
        found = resolve_as_of(
            known,
            pa.table(
                {
                    **{name: pa.array(c, pa.string()) for name, c in zip(names, columns, strict=False)},
                    "first_received_at": pa.array(columns[5], pa.int64()).cast(_STAMP),
                }
            ),
            as_of=as_of,
        )
        ids: dict[str, str] = {}
        moved: dict[str, str] = {}
        for node, person in zip(rows, found.person_ids.to_pylist(), strict=True):
            person = ids.setdefault(person, person)
            before, self._person[node] = self._person[node], person
            if before is not None and before != person:
                moved.setdefault(before, person)
        merges = dict(zip(found.merged_from.to_pylist(), found.merged_into.to_pylist(), strict=True))
        # Messages that came out of order can rename a person: whoever asks for the old id shall find the new one.
        merges |= {gone: stayed for gone, stayed in moved.items() if gone not in ids and gone not in merges}
        news = [(gone, stayed) for gone, stayed in merges.items() if self.merged.get(gone) != stayed]
        self.merged.update(news)
        for person in ids.keys() & self.merged.keys():
            del self.merged[person]
        return news

    def _take_link(self, key: _LinkKey, links: list[tuple[str, str, str, str, str, int]], now: int) -> None:
        left_type, left, right_type, right, rule = key
        received = self._links[key][2]
        if received > now:
            return
        links.append((*key, received))
        if rule == "device":
            self._note_wait(key, received, now)
        meant = self._number[("user_id", left)] if rule == "alias" and left_type == "anonymous_id" else None
        if meant is not None and self._received[meant] <= now:
            links.append(("user_id", left, right_type, right, rule, max(received, self._received[meant])))
            first, last, _ = self._links[key]
            self._first[meant], self._last[meant] = min(first, self._first[meant]), max(last, self._last[meant])

    def _note_wait(self, key: _LinkKey, received: int, now: int) -> None:
        """A known device's link to another anonymous_id is judged later: remember when."""
        ends = {key[0]: (key[0], key[1]), key[2]: (key[2], key[3])}
        if ends.keys() != {"device_id", "anonymous_id"}:
            return
        device = self._number[ends["device_id"]]
        known_at = max(received, self._received[device], self._received[self._number[ends["anonymous_id"]]])
        if self._received[device] < known_at and known_at + _WAIT > now:
            heapq.heappush(self._waiting, (known_at + _WAIT, device))

    @property
    def next_wait(self) -> datetime | None:
        """When the next waiting link is to be judged (aware)."""
        return from_warehouse(from_micros(self._waiting[0][0])) if self._waiting else None

    def due(self, as_of: datetime) -> set[int]:
        """Identifiers of components whose waiting links are due; told once."""
        now, found = micros(to_warehouse(as_of)), set()
        while self._waiting and self._waiting[0][0] <= now:
            found.add(heapq.heappop(self._waiting)[1])
        return found

    def people_of(self, root: int) -> list[str]:
        """Ids of the people of a component, each once."""
        found = dict.fromkeys(self._person[n] for n in self._members.get(root, (root,)))
        return [person for person in found if person is not None]

    def identifiers_of(self, root: int) -> dict[str, list[Key]]:
        """person_id → identifiers."""
        found: dict[str, list[Key]] = {}
        for node in self._members.get(root, (root,)):
            person = self._person[node]
            if person is not None:
                found.setdefault(person, []).append(self._keys[node])
        return found

    def table(self, roots: Iterable[int], as_of: datetime) -> pa.Table:
        """`identity.identifiers` of these components."""
        nodes = [n for root in roots for n in self._members.get(root, (root,)) if self._person[n] is not None]
        keys = [self._keys[n] for n in nodes]
        moment = pa.scalar(to_warehouse(as_of), _STAMP)
        return pa.table(
            [
                pa.array([kind for kind, _ in keys], pa.string()),
                pa.array([value for _, value in keys], pa.string()),
                pa.array([self._person[n] for n in nodes], pa.string()),
                pa.array([self._first[n] for n in nodes], pa.int64()).cast(_STAMP),
                pa.array([self._last[n] for n in nodes], pa.int64()).cast(_STAMP),
                pa.repeat(moment, len(nodes)),
            ],
            schema=IDENTIFIER_SCHEMA,
        )

    def survivor(self, person: str) -> str | None:
        """Whoever an id has become, through any number of merges; None when it has not."""
        into = self.merged.get(person)
        seen = {person}
        while into is not None and into not in seen:
            seen.add(into)
            further = self.merged.get(into)
            if further is None:
                return into
            into = further
        return into


def _times(row: Mapping[str, Any]) -> tuple[int, int, int]:
    return micros(row["first_seen_at"]), micros(row["last_seen_at"]), micros(row["first_received_at"])
