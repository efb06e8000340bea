"""Who is who, component by component: all that a person is depends on the identifiers that are linked, directly or
through others, so a new link concerns one component and nobody else. A link that is the newest of its component is
judged by itself; only one that comes late has its component judged anew."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from segue.clock import from_warehouse, to_warehouse
from segue.identifiers import Rules
from segue.identity.graph import person_id_of, strength
from segue.identity.walk import Walker
from segue.realtime.chain import IDENTIFIER_SCHEMA

Key = tuple[str, str]  # identifier_type, identifier_value
LinkKey = tuple[str, str, str, str, str]  # left type and value, right type and value, rule
_Order = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 — naive UTC, as in the warehouse
_NEVER = 1 << 62
_MICROSECOND = timedelta(microseconds=1)
_STAMP = pa.timestamp("us")


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a naive UTC time."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(moment: int) -> datetime:
    """Naive UTC."""
    return _EPOCH + timedelta(microseconds=moment)


class People:
    """Identifiers, links, components, and the person that each identifier belongs to.

    A component is named by one of its identifiers, as a number; joining changes the name (`root`).

    Args:
        rules: of the project.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._wait = rules.device_wait // _MICROSECOND
        self._walker = Walker(rules)  # its nodes have the same numbers
        self._keys: list[Key] = []
        self._number: dict[Key, int] = {}
        self._parent: list[int] = []
        self._members: dict[int, list[int]] = {}  # root → identifiers; a root alone is not listed
        # Of each identifier; microseconds.
        self._first: list[int] = []  # _NEVER: only named so far, not known
        self._last: list[int] = []
        self._links: dict[LinkKey, int] = {}  # first seen
        self._links_of: dict[int, list[LinkKey]] = {}  # root → links
        self._pending: dict[int, list[LinkKey]] = {}  # root → links that were not judged yet
        self._judged: dict[int, _Order] = {}  # root → the last link that was judged
        self._sign_ins: dict[int, list[LinkKey]] = {}  # browser → its links with accounts
        self._weak: dict[int, list[LinkKey]] = {}  # browser → its links with devices
        self._stale: set[int] = set()  # roots that are to be judged anew
        self._waiting: list[tuple[int, LinkKey]] = []  # when a device's link is judged
        self._due: set[int] = set()
        self._cut: frozenset[LinkKey] = frozenset()
        self._ids: dict[int, str] = {}  # naming identifier → id
        self._named: dict[str, int] = {}  # id → naming identifier
        self._hashed = 0  # identifiers of which every possible id is in `_named`
        self.joined: list[tuple[int, int]] = []  # (into, gone) since the caller last looked

    def node(self, key: Key) -> int:
        """The number of an identifier; new ones become a component of their own."""
        found = self._number.get(key)
        if found is None:
            found = self._number[key] = len(self._keys)
            self._keys.append(key)
            self._parent.append(found)
            self._first.append(_NEVER)
            self._last.append(-_NEVER)
            self._walker.add(key[0], (_NEVER, *key), _NEVER)
        return found

    def known(self, key: Key) -> int:
        """The number of an identifier that has been seen; -1 when it has not."""
        found = self._number.get(key, -1)
        return found if found >= 0 and self._first[found] < _NEVER else -1

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
        for lists in (self._links_of, self._pending):
            links = lists.pop(b, None)
            if links:
                lists.setdefault(a, []).extend(links)
        judged = self._judged.pop(b, None)
        if judged is not None and (a not in self._judged or judged > self._judged[a]):
            self._judged[a] = judged
        if b in self._stale:
            self._stale.remove(b)
            self._stale.add(a)
        self.joined.append((a, b))
        return a

    def learn(self, identifiers: Iterable[Mapping[str, Any]], links: Iterable[Mapping[str, Any]]) -> set[int]:
        """Add what staging made of some events (rows of stg_identifiers and stg_links).

        Returns:
            Identifiers of the components in which somebody may be somebody else now.
        """
        changed: set[int] = set()
        for row in identifiers:
            if row["refused_reason"] is None:
                identifier = (row["identifier_type"], row["identifier_value"])
                self._mention(identifier, micros(row["first_seen_at"]), micros(row["last_seen_at"]), changed)
        for row in links:
            key = (row["left_type"], row["left_value"], row["right_type"], row["right_value"], row["rule"])
            self._link(key, micros(row["first_seen_at"]), changed)
        return changed

    def decide(self, decisions: Sequence[Mapping[str, Any]]) -> set[int]:
        """What was decided by hand, all of it, oldest first (rows of identity.decisions): replaces what was before.

        Returns:
            Identifiers of the components in which somebody may be somebody else now.
        """
        latest: dict[LinkKey, Mapping[str, Any]] = {}
        for row in decisions:
            latest[row["left_type"], row["left_value"], row["right_type"], row["right_value"], row["rule"]] = row
        cut = frozenset(key for key, row in latest.items() if row["kind"] == "split")
        changed: set[int] = set()
        for key in cut ^ self._cut:
            changed.add(self.node(key[:2]))
        self._cut = cut
        for key, row in latest.items():
            moment = micros(row["decided_at"])
            if row["kind"] == "merge" and self._links.get(key) != moment:
                self._link(key, moment, changed)
                self._links[key] = moment
                changed.add(self.node(key[:2]))
        self._stale |= {self.root(node) for node in changed}
        return changed

    def _mention(self, key: Key, first: int, last: int, changed: set[int]) -> None:
        node = self.node(key)
        if last > self._last[node]:
            self._last[node] = last
        if first < self._first[node]:
            if self._first[node] < _NEVER or self._links_of.get(self.root(node)):
                self._stale.add(self.root(node))
            self._first[node] = first
            self._walker.first[node], self._walker.age[node] = first, (first, *key)
            self._walker.renew(node)
            changed.add(node)

    def _link(self, key: LinkKey, first: int, changed: set[int]) -> None:
        left_type, left, right_type, right, rule = key
        known = self._links.get(key)
        if known is not None and first >= known:
            return
        a = self.node((left_type, left))
        changed.add(a)
        self._links[key] = first
        if known is not None:
            self._stale.add(self.root(a))
            return
        b = self.node((right_type, right))
        self._note_browser(key, a, b)
        root = self.join(a, b)
        self._links_of.setdefault(root, []).append(key)
        self._pending.setdefault(root, []).append(key)
        if rule == "alias" and left_type == "anonymous_id" and (right_type, right) != ("user_id", left):
            # It may mean a user_id of that name, now or once there is one.
            self._stale.add(self.join(root, self.node(("user_id", left))))

    def _note_browser(self, key: LinkKey, a: int, b: int) -> None:
        """A browser's links with devices are judged after its first sign-in: anew when they have been judged."""
        left_type, _, right_type, _, rule = key
        if left_type == "anonymous_id":
            browser, other = a, right_type
        elif right_type == "anonymous_id":
            browser, other = b, left_type
        else:
            return
        if other == "device_id" and rule == "device":
            self._weak.setdefault(browser, []).append(key)
        elif other == "user_id" and rule != "merge":
            root = self.root(browser)
            last = self._judged.get(root)
            if last is not None and any(self._order(weak) <= last for weak in self._weak.get(browser, ())):
                self._stale.add(root)
            self._sign_ins.setdefault(browser, []).append(key)

    def resolve(self, nodes: Iterable[int], as_of: datetime) -> list[tuple[str, str]]:
        """Find the person of each identifier of these components anew.

        Returns:
            Ids that lead to another one from now on, and to which.
        """
        now = micros(to_warehouse(as_of))
        self._collect_due(now)
        gone: dict[str, None] = {}
        for root in {self.root(node) for node in nodes}:
            pending = sorted((self._order(key), key) for key in self._pending.pop(root, ()))
            if root in self._stale or (pending and root in self._judged and pending[0][0] < self._judged[root]):
                self._stale.discard(root)
                gone |= self._judge_anew(root, now)
            else:
                gone |= self._judge(root, pending, now)
        return [(person, into) for person in gone if (into := self.survivor(person)) is not None]

    def _judge_anew(self, root: int, now: int) -> dict[str, None]:
        before = dict.fromkeys(self.people_of(root))
        members = self._members.get(root, [root])
        self._walker.reset(members)
        self._judged.pop(root, None)
        keys = list(self._links_of.get(root, ()))
        for left_type, left, right_type, right, rule in self._links_of.get(root, ()):
            means = rule == "alias" and left_type == "anonymous_id" and (right_type, right) != ("user_id", left)
            if means and self.known(("user_id", left)) >= 0:
                keys.append(("user_id", left, right_type, right, rule))
        merged = self._judge(root, sorted((self._order(key), key) for key in keys), now)
        return before | merged

    def _judge(self, root: int, links: Sequence[tuple[_Order, LinkKey]], now: int) -> dict[str, None]:
        """Follow links in their order; ids that are nobody's any more."""
        walker = self._walker
        gone: dict[str, None] = {}
        for order, key in links:
            moment = order[0]
            if moment > now:
                if moment < _NEVER:
                    heapq.heappush(self._waiting, (moment, key))
                continue
            if key not in self._cut:
                device, is_weak = self._device(key)
                verdict = walker.judge(
                    self._number[key[:2]], self._number[key[2:4]],
                    moment=moment, rule=key[4], device=device, is_weak=is_weak,
                )  # fmt: skip
                if verdict is not None and verdict[0] != "refused":
                    name = verdict[1][0]
                    if verdict[0] == "merged" or name in self._ids:
                        gone[self._id(name)] = None
            self._judged[root] = order
        return gone

    def _order(self, key: LinkKey) -> _Order:
        """As in `segue.identity.graph`; the first part is when the link is judged."""
        left_type, left, right_type, right, rule = key
        a, b = self._number[left_type, left], self._number[right_type, right]
        first = self._links.get(key)
        if first is None:  # an alias that means a user_id
            first = self._links["anonymous_id", left, right_type, right, rule]
        moment = max(first, self._first[a], self._first[b])
        device, is_weak = self._device(key)
        if is_weak and self._first[device] < moment < _NEVER:
            moment = max(moment + self._wait, self._signed_in(b if device == a else a))
        low, high = strength(rule, left_type, right_type, self._rules)
        left_age, right_age = self._walker.age[a], self._walker.age[b]
        return moment, low, high, rule, min(left_age, right_age), max(left_age, right_age), left_age > right_age

    def _signed_in(self, browser: int) -> int:
        """When somebody first signed in on it; before all time when nobody did."""
        moments = [
            max(self._links[key], *(self._first[self._number[end]] for end in (key[:2], key[2:4])))
            for key in self._sign_ins.get(browser, ())
            if key not in self._cut
        ]
        return min(moments, default=-_NEVER)

    def _device(self, key: LinkKey) -> tuple[int, bool]:
        """The device whose link it is, or -1; whether the other end is a browser."""
        left_type, left, right_type, right, rule = key
        if rule != "device":
            return -1, False
        if left_type == "device_id":
            return self._number[left_type, left], right_type == "anonymous_id"
        if right_type == "device_id":
            return self._number[right_type, right], left_type == "anonymous_id"
        return -1, False

    @property
    def next_wait(self) -> datetime | None:
        """When the next waiting link is to be judged (aware)."""
        return from_warehouse(from_micros(self._waiting[0][0])) if self._waiting else None

    def due(self, as_of: datetime) -> set[int]:
        """Identifiers of components whose waiting links are due; told once."""
        self._collect_due(micros(to_warehouse(as_of)))
        found, self._due = self._due, set()
        return found

    def _collect_due(self, now: int) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, key = heapq.heappop(self._waiting)
            node = self._number[key[:2]]
            self._pending.setdefault(self.root(node), []).append(key)
            self._due.add(node)

    def person(self, node: int) -> str:
        """The id of the person that an identifier belongs to."""
        return self._id(self._walker.name(node))

    def _id(self, name: int) -> str:
        found = self._ids.get(name)
        if found is None:
            found = self._ids[name] = person_id_of(*self._keys[name])
            self._named[found] = name
        return found

    def _known_members(self, root: int) -> list[int]:
        return [node for node in self._members.get(root, (root,)) if self._first[node] < _NEVER]

    def people_of(self, root: int) -> list[str]:
        """Ids of the people of a component, each once."""
        return list(dict.fromkeys(self.person(node) for node in self._known_members(root)))

    def identifiers_of(self, root: int) -> dict[str, list[Key]]:
        """person_id → identifiers."""
        found: dict[str, list[Key]] = {}
        for node in self._known_members(root):
            found.setdefault(self.person(node), []).append(self._keys[node])
        return found

    def table(self, roots: Iterable[int], as_of: datetime) -> pa.Table:
        """`identity.identifiers` of these components."""
        nodes = [n for root in roots for n in self._known_members(root)]
        keys = [self._keys[n] for n in nodes]
        moment = pa.scalar(to_warehouse(as_of), _STAMP)
        return pa.table(
            [
                pa.array([kind for kind, _ in keys], pa.string()),
                pa.array([value for _, value in keys], pa.string()),
                pa.array([self.person(n) for n in nodes], pa.string()),
                pa.array([self._first[n] for n in nodes], pa.int64()).cast(_STAMP),
                pa.array([self._last[n] for n in nodes], pa.int64()).cast(_STAMP),
                pa.repeat(moment, len(nodes)),
            ],
            schema=IDENTIFIER_SCHEMA,
        )

    def survivor(self, person: str) -> str | None:
        """Whoever an id has become: the person of the identifier that it was made from. None when it has not."""
        name = self._named.get(person)
        if name is None:
            # An id of an earlier process: found once every identifier's own id is known.
            for node in range(self._hashed, len(self._keys)):
                self._named.setdefault(person_id_of(*self._keys[node]), node)
            self._hashed = len(self._keys)
            name = self._named.get(person)
        if name is None or self._first[name] == _NEVER:
            return None
        into = self.person(name)
        return None if into == person else into
