"""Links judged one by one, each on what those before it have made: the guards, and nothing else."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from segue.identifiers import Rules

#: Why a link can be refused: code → sentence.
REASONS = {
    "limit": "the person would have more values of one type than the rules allow",
    "too_large": "the person would have more identifiers than the rules allow",
    "shared_device": "people with different accounts share the device, so it does not tell whose browser this is",
    "split": "somebody has split these by hand",
    "blocked": "the value is on the list of those that are nobody's",
    "too_long": "the value is longer than any identifier",
}

_MICROSECOND = timedelta(microseconds=1)


class Walker:
    """People as a growing forest of identifiers (nodes). Times are microseconds since 1970.

    A node may be reset and its links walked again: what is known of a person lies at the root of its tree only.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._limits: dict[str, tuple[int, int | None]] = {}
        self.parent: list[int] = []
        self.kind: list[str] = []
        self.age: list[Any] = []  # order of the identifiers; the first of a person names it
        self.first: list[int] = []
        # Of a person; kept at its root.
        self._size: list[int] = []
        self._name: list[int] = []
        self._values: list[dict[str, list[int]]] = []  # type → when the newest values were first seen, descending
        self._refusals: dict[int, int] = {}  # device → accounts that it was refused

    def add(self, kind: str, age: Any, first: int) -> int:
        """A new node, a person by itself; its number."""
        node = len(self.parent)
        self.parent.append(node)
        self.kind.append(kind)
        self.age.append(age)
        self.first.append(first)
        self._size.append(1)
        self._name.append(node)
        self._values.append({kind: [first]})
        return node

    def renew(self, node: int) -> None:
        """The first sight of a node has changed; if it is linked with others, these have to be reset."""
        if self.parent[node] == node and self._size[node] == 1:
            self._values[node] = {self.kind[node]: [self.first[node]]}

    def reset(self, nodes: Iterable[int]) -> None:
        """Make each a person by itself again. Whole components only."""
        for node in nodes:
            self.parent[node] = self._name[node] = node
            self._size[node] = 1
            self._values[node] = {self.kind[node]: [self.first[node]]}
            self._refusals.pop(node, None)

    def root(self, node: int) -> int:
        """The node at which the person is kept."""
        parent = self.parent
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    def name(self, node: int) -> int:
        """The oldest identifier of the person that a node belongs to."""
        return self._name[self.root(node)]

    def judge(self, a: int, b: int, *, moment: int, rule: str, device: int, is_weak: bool) -> tuple[str, Any] | None:
        """Follow a link, or not.

        Args:
            a, b: its ends.
            moment: when it is judged; never before its ends were seen.
            rule: of the link; `merge` is a person's decision, which no guard stops.
            device: the device whose link it is; -1: of none.
            is_weak: its other end is a browser, so that a shared device proves nothing.

        Returns:
            None when both are one person already. ("merged", (node that named who is gone, node that names who
            stayed)); ("grown", the same) when one of the two had not been seen before that moment;
            ("refused", (reason, detail)).
        """
        a_node, b_node = a, b
        a, b = self.root(a), self.root(b)
        if a == b:
            return None
        if is_weak and self._refusals.get(device, 0) >= self._rules.shared_device_users - 1:
            return "refused", ("shared_device", f"{self._rules.shared_device_users} accounts or more on the device")
        if rule != "merge":
            exempt = rule == "alias" and self.kind[a_node] == self.kind[b_node] == "user_id"
            found = self._obstacle(a, b, moment, "user_id" if exempt else None)
            if found is not None:
                if device >= 0 and found[1].startswith("user_id"):
                    self._refusals[device] = self._refusals.get(device, 0) + 1
                return "refused", found
        older, younger = self._name[a], self._name[b]
        if self.age[younger] < self.age[older]:
            older, younger = younger, older
        is_merge = self.first[older] < moment and self.first[younger] < moment
        if self._size[a] < self._size[b]:
            a, b = b, a
        self.parent[b] = a
        self._size[a] += self._size[b]
        self._name[a] = older
        self._join_values(a, b)
        return "merged" if is_merge else "grown", (younger, older)

    def _obstacle(self, a: int, b: int, moment: int, exempt: str | None) -> tuple[str, str] | None:
        size = self._size[a] + self._size[b]
        if size > self._rules.largest_person:
            return "too_large", f"{size} identifiers, at most {self._rules.largest_person}"
        mine, theirs = self._values[a], self._values[b]
        if len(mine) > len(theirs):
            mine, theirs = theirs, mine
        worst: tuple[int, str, str] | None = None
        for kind, values in mine.items():
            others = theirs.get(kind)
            if others is None or kind == exempt:
                continue
            most, window = self._limit(kind)
            if window is None:
                count = len(values) + len(others)
            else:
                since = moment - window
                count = sum(v > since for v in values) + sum(v > since for v in others)
            if count > most:
                found = (self._rules.of(kind).priority, kind, f"{kind}: more than {most}")
                worst = found if worst is None else min(worst, found)
        return None if worst is None else ("limit", worst[2])

    def _limit(self, kind: str) -> tuple[int, int | None]:
        found = self._limits.get(kind)
        if found is None:
            rule = self._rules.of(kind)
            window = None if rule.window_days is None else timedelta(days=rule.window_days) // _MICROSECOND
            found = self._limits[kind] = (rule.max_per_person, window)
        return found

    def _join_values(self, a: int, b: int) -> None:
        mine = self._values[a]
        for kind, values in self._values[b].items():
            others = mine.get(kind)
            if others is None:
                mine[kind] = values
            else:
                # One more than the limit says that it is exceeded; older ones can never count again.
                mine[kind] = sorted(others + values, reverse=True)[: self._limit(kind)[0] + 1]
        self._values[b] = {}
