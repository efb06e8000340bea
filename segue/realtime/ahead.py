"""Time passing: when will somebody's segments differ, with nothing arriving?

No rule is read and no window listed. The SQL itself is asked what it will say in a while; where that differs from now,
the interval is halved until the second is known. Everyone is asked again before the time that was looked at has come.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

SECOND = 1_000_000  # all times here are microseconds

#: person_id → segments.
Said = Mapping[str, tuple[str, ...]]

#: What the SQL says of some components at a time: component → person → segments; empty ones left out.
Ask = Callable[[Collection[int], int], Mapping[int, Said]]


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
        self._grid = max(1, 1 << max(0, (horizon_seconds // 5).bit_length() - 1)) * SECOND
        self._fresh: dict[int, None] = {}
        self._until: dict[int, int] = {}
        self._order: deque[tuple[int, int]] = deque()
        self._due: dict[int, int] = {}
        self._timers: list[tuple[int, int]] = []
        self._suspects: dict[int, _Suspect] = {}

    @property
    def waiting_count(self) -> int:
        """Components that nobody has looked ahead for yet, or whose second is not known yet."""
        return len(self._fresh) + len(self._suspects)

    @property
    def timer_count(self) -> int:
        """Components that are known to change."""
        return len(self._due)

    def touch(self, component: int) -> None:
        """It was evaluated just now: what was foreseen is void."""
        self._forget(component)
        self._fresh[component] = None

    def _forget(self, component: int) -> None:
        self._until.pop(component, None)
        self._due.pop(component, None)
        self._suspects.pop(component, None)
        self._fresh.pop(component, None)

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
        return self._horizon // 10

    def look(self, now: int, ask: Ask, states: Callable[[Iterable[int]], Mapping[int, Said]], limit: int) -> bool:
        """One question to the SQL, about at most `limit` components. False: there was nothing to ask.

        Args:
            now: the clock of what is known.
            ask: answers what the SQL says at a time.
            states: the segments of the people of components now; the same form as `ask`.
        """
        # Many suspects first: finding their second is as urgent as looking at others for the first time.
        chosen = [] if len(self._suspects) > limit else self._choose(now, limit)
        if not chosen:
            if self._suspects:
                self._halve(ask, limit)
                return True
            return False
        end = -(-(now + self._horizon - self._grid) // self._grid) * self._grid
        end = max(end, (now // SECOND + 1) * SECOND)
        then, current = ask(chosen, end), states(chosen)
        for component in chosen:
            self._fresh.pop(component, None)
            self._until[component] = end
            self._order.append((end, component))
            said = current.get(component, {})
            if then.get(component, {}) != said:
                self._set_timer(component, end)
                if end // SECOND - now // SECOND > 1:
                    self._suspects[component] = _Suspect(now, end, said)
        return True

    def _choose(self, now: int, limit: int) -> list[int]:
        chosen: list[int] = []
        for component in self._fresh:
            if len(chosen) == limit:
                return chosen
            chosen.append(component)
        while self._order and len(chosen) < limit:
            until, component = self._order[0]
            if self._until.get(component) != until:
                self._order.popleft()
                continue
            if until - now > self._slack():
                break
            self._order.popleft()
            if component not in self._due:
                chosen.append(component)
            # Whoever is on a timer is evaluated by then, and looked at afterwards.
        return chosen

    def _halve(self, ask: Ask, limit: int) -> None:
        groups: dict[int, list[int]] = {}
        for component, suspect in self._suspects.items():
            groups.setdefault(suspect.middle(), []).append(component)
        # The roundest times first: they are about most people, and the next questions are fewer for it.
        moment = max(groups, key=lambda m: (m // SECOND & -(m // SECOND), -m))
        chosen = groups[moment][:limit]
        said = ask(chosen, moment)
        for component in chosen:
            suspect = self._suspects[component]
            if said.get(component, {}) == suspect.now:
                suspect.low = moment
            else:
                suspect.high = moment
                self._set_timer(component, moment)
            if suspect.high // SECOND - suspect.low // SECOND <= 1:
                del self._suspects[component]

    def _set_timer(self, component: int, moment: int) -> None:
        self._due[component] = moment
        heappush(self._timers, (moment, component))
