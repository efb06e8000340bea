"""What every check is handed: where to look, and which days are judged by which."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from segue.clock import to_warehouse
from segue.events import Contract
from segue.quality.limits import Limits
from segue.warehouse import Connection
from segue.watch.series import last_complete_day

#: Days that every examination judges, and days before them that say what is usual.
JUDGED_DAYS, USUAL_DAYS = 14, 28


def looked_at_since(as_of: datetime) -> datetime:
    """The first instant that an examination looks at, naive UTC."""
    return to_warehouse(as_of) - timedelta(days=JUDGED_DAYS + USUAL_DAYS + 1)


def first_judged_day(as_of: datetime) -> date:
    """The first day that an examination judges."""
    return last_complete_day(as_of) - timedelta(days=JUDGED_DAYS - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What every check is handed."""

    con: Connection
    as_of: datetime  # aware UTC; what was received later is not known
    limits: Limits
    contracts: Sequence[Contract]  # what events promise

    @property
    def last(self) -> date:
        """The last day that is judged: the last one that is over."""
        return last_complete_day(self.as_of)

    @property
    def first(self) -> date:
        """The first day that is judged."""
        return first_judged_day(self.as_of)

    @property
    def days(self) -> list[date]:
        """The days that are judged, ascending."""
        first = self.first
        return [first + timedelta(days=n) for n in range(JUDGED_DAYS)]

    @property
    def since(self) -> datetime:
        """The first instant that is looked at, naive UTC."""
        return looked_at_since(self.as_of)
