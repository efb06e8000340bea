"""Which days the history has, and what is special about some of them."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np

from segue.events.simulator.world import DAY

#: The outage and the promotion lie within this many days before the end, and this far from it.
_RECENT_DAYS = 21
_QUIET_DAYS = 5
#: Shorter histories have neither: nothing could be told from so little.
_SHORTEST_DISTURBED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The days of the history, by index from 0; times are milliseconds since 1970, UTC."""

    first: date
    count: int
    until: int
    holidays: dict[int, str] = field(default_factory=dict)
    outage: int | None = None
    promotion: int | None = None

    def date(self, index: int) -> date:
        return self.first + timedelta(days=index)

    def start(self, index: int) -> int:
        """First millisecond of the day."""
        return milliseconds(datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)) + index * DAY

    def is_weekend(self, index: int) -> bool:
        return self.date(index).weekday() >= 5


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime."""
    return round(moment.timestamp() * 1000)


def plan_days(*, days: int, until: datetime, seed: int) -> Calendar:
    """The calendar that ends before `until`, with its disturbed days drawn from the seed.

    Holidays are the public ones of the United States, where most of the people live; when the history has none, the
    last of the days that are kept without being public. Outage and promotion are never on a holiday.
    """
    first = (until - timedelta(days=days)).date()
    last = (until - timedelta(milliseconds=1)).date()
    count = (last - first).days + 1
    holidays = {(day - first).days: name for day, name in _holidays(first, last).items()}
    outage, promotion = _disturbed(count, set(holidays), np.random.default_rng([seed, 1]))
    return Calendar(
        first=first, count=count, until=milliseconds(until), holidays=holidays, outage=outage, promotion=promotion
    )


def _holidays(first: date, last: date) -> dict[date, str]:
    import holidays

    years = range(first.year, last.year + 1)
    for category in ("public", "unofficial"):
        known = holidays.country_holidays("US", years=years, categories=(category,))
        found = {day: known[day] for day in sorted(known) if first <= day <= last}
        if found:
            return found if category == "public" else dict([max(found.items())])
    return {}


def _disturbed(count: int, taken: set[int], rng: np.random.Generator) -> tuple[int | None, int | None]:
    """Outage and promotion: two free days, some days apart."""
    if count < _SHORTEST_DISTURBED:
        return None, None
    recent = range(max(count - _RECENT_DAYS, count // 2), count - _QUIET_DAYS)
    for distance in (2, 1):  # from a holiday: days next to it would be taken for one disturbance
        free = [d for d in recent if all(abs(d - holiday) >= distance for holiday in taken)]
        pairs = [(a, b) for a in free for b in free if abs(a - b) >= 3]
        if pairs:
            break
    else:
        return None, None
    outage, promotion = pairs[int(rng.integers(len(pairs)))]
    return outage, promotion
