"""How messages reach us: with delay, wrong clocks, twice, broken, or not at all."""

from dataclasses import dataclass, fields

import numpy as np

from segue.events.simulator.actions import (
    ADDED,
    CHECKOUT,
    ORDERED,
    PAGE,
    PREMIUM,
    SEARCHED,
    SIGNED_IN,
    VIEWED,
    Actions,
)
from segue.events.simulator.days import Calendar
from segue.events.simulator.people import Flags, Ints, People
from segue.events.simulator.visits import Visits, is_mobile
from segue.events.simulator.world import (
    BROKEN_SHARE,
    BROKEN_SIGN_IN_SHARE,
    DAY,
    DUPLICATE_LATER_SHARE,
    DUPLICATE_SHARE,
    HOUR,
    OFFLINE_HOURS,
    OFFLINE_SHARE,
    OUTAGE_SHARE,
)

#: Ways to break a message, and the reason that the quarantine must give; 0 is a whole one.
BREAKAGES = (
    "", "missing_property", "wrong_type", "value_not_allowed", "unknown_type", "missing_ids", "broken_json",
)  # fmt: skip
MISSING_PROPERTY, WRONG_TYPE, VALUE_NOT_ALLOWED, UNKNOWN_TYPE, MISSING_IDS, BROKEN_JSON = range(1, 7)

_ALLOWED_VALUES = SIGNED_IN
_WITH_PROPERTIES = (SEARCHED, VIEWED, ADDED, CHECKOUT, ORDERED, PREMIUM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """One entry per message that reaches us before the end of the history, in the order in which they are received.

    Times are milliseconds; `row` is into the actions.
    """

    row: Ints
    original: Ints  # by the clock of the client
    sent: Ints  # by the clock of the client
    received: Ints
    timestamp: Ints  # corrected as the spec says
    breakage: Ints
    is_late: Flags
    has_wrong_clock: Flags
    copy_received: Ints  # when it comes once more; 0: never
    copy_is_later: Flags  # sent anew, with times of its own; else the same bytes again
    lost_count: int  # messages that an outage swallowed

    def __len__(self) -> int:
        return len(self.row)

    def part(self, which: slice) -> "Deliveries":
        """Some of the messages."""
        arrays = {f.name: getattr(self, f.name)[which] for f in fields(self) if f.name != "lost_count"}
        return Deliveries(**arrays, lost_count=0)


def deliver(
    calendar: Calendar,
    people: People,
    visits: Visits,
    actions: Actions,
    day: int,
    rng: np.random.Generator,
    *,
    text: bool,
) -> Deliveries:
    """Draw the fate of each message of the day.

    Args:
        text: the format is lines of text, so that a line can be broken JSON.
    """
    count = len(actions)
    error = people.clock_error[visits.device[actions.visit]]
    held = is_mobile(people, visits) & (rng.random(len(visits)) < OFFLINE_SHARE)
    hold = np.where(held, rng.uniform(*OFFLINE_HOURS, len(visits)) * HOUR, 0).astype(np.int64)
    batch = rng.uniform(200, 15_000, count).astype(np.int64)
    online = np.maximum(actions.occurred, visits.start[actions.visit] + hold[actions.visit])
    sent = online + batch
    latency = np.clip(rng.lognormal(4.4, 0.7, count), 15, 5000).astype(np.int64)
    received = sent + latency
    breakage = _breakages(actions.kind, rng, text=text)
    copy, copy_is_later = _copies(received, breakage, calendar.until, rng)
    arrives = received < calendar.until
    lost = 0
    if day == calendar.outage:
        # Whole visits, so that those which remain are like those of any day.
        swallowed = (~held & (rng.random(len(visits)) < OUTAGE_SHARE))[actions.visit]
        lost = int((swallowed & arrives).sum())
        arrives &= ~swallowed
    row = np.flatnonzero(arrives)
    row = row[np.argsort(received[row], kind="stable")]
    return Deliveries(
        row=row,
        original=(actions.occurred + error)[row],
        sent=(sent + error)[row],
        received=received[row],
        timestamp=(actions.occurred + latency)[row],
        breakage=breakage[row],
        is_late=held[actions.visit][row],
        has_wrong_clock=(error != 0)[row],
        copy_received=copy[row],
        copy_is_later=copy_is_later[row],
        lost_count=lost,
    )


def _breakages(kind: Ints, rng: np.random.Generator, *, text: bool) -> Ints:
    """Only behaviour breaks, never a sign-up or an identify: who is who stays decidable."""
    u, v = rng.random(len(kind)), rng.random(len(kind))
    has_properties = np.isin(kind, _WITH_PROPERTIES)
    anyhow = np.array([UNKNOWN_TYPE, MISSING_IDS, BROKEN_JSON if text else UNKNOWN_TYPE])[(v * 3).astype(np.int64)]
    contract = np.where(v * 12 % 1 < 0.5, MISSING_PROPERTY, WRONG_TYPE)
    how = np.where(has_properties & (u < BROKEN_SHARE * 0.6), contract, anyhow)
    breaks = (has_properties | (kind == PAGE)) & (u < BROKEN_SHARE)
    refused = (kind == _ALLOWED_VALUES) & (u < BROKEN_SIGN_IN_SHARE)
    return np.where(breaks, how, np.where(refused, VALUE_NOT_ALLOWED, 0))


def _copies(received: Ints, breakage: Ints, until: int, rng: np.random.Generator) -> tuple[Ints, Flags]:
    """Which whole messages come twice, and when the second time."""
    u = rng.random((2, len(received)))
    is_later = u[1] < DUPLICATE_LATER_SHARE
    wait = np.where(is_later, rng.uniform(4, 48, len(received)) * HOUR, rng.uniform(1000, 60_000, len(received)))
    again = received + wait.astype(np.int64)
    # The same bytes say the same receivedAt, so they belong into the file of the same day.
    again = np.where(is_later, again, np.minimum(again, np.minimum((received // DAY + 1) * DAY, until) - 1))
    comes = (u[0] < DUPLICATE_SHARE) & (breakage == 0) & (again < until)
    return np.where(comes, again, 0), is_later & comes
