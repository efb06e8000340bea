"""Which days the history of segments has no evaluation of."""

from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta

from segue.clock import end_of_day, to_warehouse
from segue.warehouse import Connection, has_table


def missing_days(
    con: Connection, segments: Collection[str], *, as_of: datetime, history_days: int
) -> Mapping[date, frozenset[str]]:
    """The segments that were not evaluated at a day's end, by day; days without a gap are left out.

    Only complete days count, from the first received event on, at most `history_days` before `as_of`.

    Args:
        con: a connection on which the warehouse is the default catalog and `raw.events` exists.
        segments: names of those that should have been.
        as_of: the time from which to look back.
        history_days: how far.
    """
    row = con.execute(
        "select min(received_at) from raw.events where received_at <= $1", [to_warehouse(as_of)]
    ).fetchone()
    if row is None or row[0] is None:
        return {}
    first = max(row[0].date(), (as_of - timedelta(days=history_days)).date())
    evaluated = _evaluated(con)
    missing = {}
    day = first
    while end_of_day(day) <= as_of:
        moment = to_warehouse(end_of_day(day))
        gap = frozenset(name for name in segments if (name, moment) not in evaluated)
        if gap:
            missing[day] = gap
        day += timedelta(days=1)
    return missing


def _evaluated(con: Connection) -> frozenset[tuple[str, datetime]]:
    if not has_table(con, "segments", "evaluations"):
        return frozenset()
    return frozenset(con.execute("select segment, as_of from segments.evaluations where not is_held").fetchall())
