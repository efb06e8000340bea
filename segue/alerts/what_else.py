"""What else happened when something moved: deploy notes, contracts, properties, people that became one."""

import math
from datetime import date, timedelta

from segue.quality import contract_changes, findings
from segue.warehouse import Connection, has_table
from segue.watch import CalendarEntry, day

_DAY = timedelta(days=1)
#: Days before, that say how many merges are usual.
_USUAL_DAYS = 28
#: Fewer merges than this are nobody's reason.
_FEW_MERGES = 10
_MOST_NOTES = 3


def what_else(
    con: Connection, *, first: date, last: date, calendar: tuple[CalendarEntry, ...], known: str | None = None
) -> list[str]:
    """What happened from the day before the first day to the last, a sentence each.

    Args:
        known: a fault of the data that has been named already.
    """
    since = first - _DAY
    lines = [
        f"On {day(entry.first_date, year=False)}: {entry.name}"
        for entry in calendar
        if entry.first_date <= last and entry.last_date >= since
    ]
    lines += contract_changes(con, first=since, last=last)
    lines += [
        f"New in the data since {day(f.first_date, year=False)}: {f.sentence}"
        for f in findings(con)
        if f.weight == "note" and since <= f.first_date <= last and f.sentence != known
    ][:_MOST_NOTES]
    return lines + _merges(con, since, last)


def _merges(con: Connection, first: date, last: date) -> list[str]:
    """Unusually many people that turned out to be one: counts of people, and shares of them, move without anybody
    doing anything. Unusual: twice what these days usually have, and by more than chance (4 Poisson deviations)."""
    if not has_table(con, "identity", "merges"):
        return []
    rows = con.execute(
        """
        select
            count(*) filter (where merged_at::date between $1 and $2),
            count(*) filter (where merged_at::date < $1)
        from identity.merges where merged_at::date between $3 and $2
        """,
        [first, last, first - timedelta(days=_USUAL_DAYS)],
    ).fetchall()
    count, before = rows[0]
    usual = before / _USUAL_DAYS * ((last - first).days + 1)
    if count < max(_FEW_MERGES, 2 * usual, usual + 4 * math.sqrt(usual)):
        return []
    when = f"from {day(first, year=False)} to {day(last, year=False)}"
    return [
        f"{count:,} people turned out to be somebody known already {when}, where {usual:,.0f} such merges are usual"
    ]
