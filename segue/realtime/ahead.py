"""Time passing: when will somebody's segments differ, with nothing arriving?

No rule is read and no window listed. The SQL itself is asked what it will say in a while; where that differs from now,
the interval is halved until the second is known. Everyone is asked again before the time that was looked at has come.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice

SECOND = 1_000_000  # all times here are microseconds

#: person_id → segments.
Said = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """What will the SQL say of these components at `moment`?"""

    components: tuple[int, ...]
    moment: int
    asked_at: int


@dataclass(slots=True)
class _Suspect:
    """A component that will differ: somewhere after `low` (as now), at the latest at `high`."""

    low: int
    high: int
    now: Said

    def middle(self) -> int:
        """The roundest second between: so that suspects are asked about at the same times, together."""
        low, high = self.low // SECOND, (self.high - 1) // SECOND  # the middle is in (low, high]
        return ((high >> (shift := (low ^ high).bit_length() - 1)) << shift) * SECOND


class Ahead:
    """What will happen to components, as far as anybody has looked.

    Args:
        horizon_seconds: how far to look; whoever is not touched is asked again that often.
    """

    def __init__(self, horizon_seconds: int) -> None:
        self._horizon = horizon_seconds * SECOND
        # Times that are looked at lie on a grid, for the same reason as `_Suspect.middle`.
        self._grid = max(1, 1 << max(0, (horizon_seconds // 20).bit_length() - 1)) * SECOND
        # To be looked at → until when it is known to stay as it is; 0: it was touched just now.
        self._fresh: dict[int, int] = {}
        self._until: dict[int, int] = {}
        self._order: deque[tuple[int, int]] = deque()
        self._due: dict[int, int] = {}
        self._timers: list[tuple[int, int]] = []
        self._suspects: dict[int, _Suspect] = {}
        self._foreseen: dict[int, Said] = {}  # of those on a timer: as it will be at the end of what was looked at
        self._asked: set[int] = set()  # components of the open question that nobody has touched since

    @property
    def waiting_count(self) -> int:
        """Components that nobody has looked ahead for yet, or whose second is not known yet."""
        return len(self._fresh) + len(self._suspects)

    @property
    def timer_count(self) -> int:
        """Components that are known to change."""
        return len(self._due)

    def touch(self, component: int, now: Said | None = None) -> None:
        """It was evaluated just now.

        Args:
            now: what it is, when nothing but time had to do with it: where that was foreseen, it holds as long as was
                looked at. None: what was foreseen is void.
        """
        until = self._until.get(component) if now is not None and self._foreseen.get(component) == now else None
        self._forget(component)
        if until is None:
            self._fresh[component] = 0
        else:
            self._until[component] = until

    def _forget(self, component: int) -> None:
        self._until.pop(component, None)
        self._due.pop(component, None)
        self._suspects.pop(component, None)
        self._foreseen.pop(component, None)
        self._fresh.pop(component, None)
        self._asked.discard(component)

    def join(self, gone: int) -> None:
        """The component has become part of another one, which is touched."""
        self._forget(gone)

    def due(self, now: int) -> list[int]:
        """Components whose time has come; to be evaluated, and told once."""
        found: list[int] = []
        while self._timers and self._timers[0][0] <= now:
            moment, component = heappop(self._timers)
            if self._due.get(component) == moment:
                del self._due[component]
                self._suspects.pop(component, None)
                found.append(component)
        return found

    def overdue(self, now: int, limit: int) -> list[int]:
        """Components for which nobody looked in time: only evaluating them now tells. At most `limit`."""
        found: list[int] = []
        while self._order and self._order[0][0] <= now and len(found) < limit:
            until, component = self._order.popleft()
            if self._until.get(component) == until and component not in self._due:
                found.append(component)
        return found

    def next_due(self) -> int | None:
        """When the next timer fires."""
        while self._timers and self._due.get(self._timers[0][1]) != self._timers[0][0]:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def next_look(self) -> int | None:
        """From when on `look` has something to do; 0: now."""
        if self._fresh or self._suspects:
            return 0
        while self._order and self._until.get(self._order[0][1]) != self._order[0][0]:
            self._order.popleft()
        return self._order[0][0] - self._slack() if self._order else None

    def _slack(self) -> int:
        return self._horizon // 15

    def question(self, now: int, limit: int) -> Question | None:
        """What to ask of the SQL next, about at most `limit` components; None: nothing. One question is open at a time.

        Args:
            now: the clock of what is known.
        """
        chosen = [] if self._is_urgent(now, limit) else self._choose(now, limit)
        if chosen:
            end = -(-(now + self._horizon - self._grid) // self._grid) * self._grid
            found = Question(tuple(chosen), max(end, (now // SECOND + 1) * SECOND), now)
        elif self._suspects:
            found = self._middle(now, limit)
        else:
            return None
        self._asked = set(found.components)
        return found

    def _is_urgent(self, now: int, limit: int) -> bool:
        """Whether to find the seconds of suspects before others are looked at for the first time.

        All that wait for the same question cost one: the more suspects there are, the fewer questions each takes. So
        those wait that stay as they are for a while yet.
        """
        count = len(self._suspects)
        return count > limit and (count > 25 * limit or any(s.low <= now for s in self._suspects.values()))

    def answer(self, question: Question, then: Mapping[int, Said], current: Mapping[int, Said]) -> None:
        """What the SQL says: of those who were touched since the question, it is void.

        Args:
            then: component → person → segments at the moment that was asked about; empty ones left out.
            current: the same as it is now, of at least those who were not touched.
        """
        for component in question.components:
            if component not in self._asked:
                continue
            said = then.get(component, {})
            if component in self._suspects:
                self._narrow(component, question.moment, said)
            else:
                self._note(component, question, said, current.get(component, {}))
        self._asked.clear()

    def _note(self, component: int, question: Question, then: Said, current: Said) -> None:
        end = question.moment
        low = max(question.asked_at, self._fresh.pop(component, 0))
        self._until[component] = end
        self._order.append((end, component))
        if then != current:
            self._foreseen[component] = then
            self._set_timer(component, end)
            if end // SECOND - low // SECOND > 1:
                self._suspects[component] = _Suspect(low, end, current)

    def _choose(self, now: int, limit: int) -> list[int]:
        # Those whose time is nearly over are as fresh ones, until somebody has looked.
        while self._order and len(self._fresh) < limit:
            until, component = self._order[0]
            if self._until.get(component) == until:
                if until - now > self._slack():
                    break
                # Whoever is on a timer is evaluated by then, and looked at afterwards.
                if component in self._due:
                    del self._until[component]
                else:
                    self._fresh[component] = until
            self._order.popleft()
        return list(islice(self._fresh, limit))

    def _middle(self, now: int, limit: int) -> Question:
        groups: dict[int, list[int]] = {}
        for component, suspect in self._suspects.items():
            groups.setdefault(suspect.middle(), []).append(component)
        # The roundest times first: they are about most people, and the next questions are fewer for it.
        moment = max(groups, key=lambda m: (m // SECOND & -(m // SECOND), -m))
        return Question(tuple(groups[moment][:limit]), moment, now)

    def _narrow(self, component: int, moment: int, said: Said) -> None:
        suspect = self._suspects[component]
        if said == suspect.now:
            suspect.low = moment
        else:
            suspect.high = moment
            self._set_timer(component, moment)
        if suspect.high // SECOND - suspect.low // SECOND <= 1:
            del self._suspects[component]

    def _set_timer(self, component: int, moment: int) -> None:
        self._due[component] = moment
        heappush(self._timers, (moment, component))
