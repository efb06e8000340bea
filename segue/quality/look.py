"""What every check is handed: where to look, and which days are judged by which."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from segue.clock import to_warehouse
from segue.events import Contract
from segue.quality.limits import Limits
from segue.warehouse import Connection

#: Days that are judged, and days before them that say what is usual.
_JUDGED, _BEFORE = 14, 28


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
        return (self.as_of - timedelta(days=1)).date() if self.as_of.time() < datetime.max.time() else self.as_of.date()

    @property
    def first(self) -> date:
        """The first day that is judged."""
        return self.last - timedelta(days=_JUDGED - 1)

    @property
    def days(self) -> list[date]:
        """The days that are judged, ascending."""
        first = self.first
        return [first + timedelta(days=n) for n in range(_JUDGED)]

    @property
    def since(self) -> datetime:
        """The first instant that is looked at, naive UTC."""
        return to_warehouse(self.as_of) - timedelta(days=_JUDGED + _BEFORE + 1)
