"""What people say of anomalies: that one is none. It is shown and told no more; an incident of such ones alone is none.

A series with dismissals is judged more strictly. A dismissed anomaly keeps its id as it grows, so it stays dismissed;
its days are left out of what is learned from, as those of any anomaly are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from segue.clock import from_warehouse, to_warehouse
from segue.errors import BadInputError
from segue.warehouse import Connection, has_table, insert_rows
from segue.watch.incidents import group_anomalies, incidents
from segue.watch.judge import Judgement, score_of
from segue.watch.series import last_complete_day
from segue.watch.tables import COLUMNS, Anomaly, anomalies, ensure_tables

_COLUMNS = COLUMNS["dismissals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How often what was found of a KPI was something, as far as people have said."""

    kpi: str
    found_count: int
    dismissed_count: int

    @property
    def precision(self) -> float:
        return 1 - self.dismissed_count / self.found_count if self.found_count else 1.0


def dismiss(con: Connection, anomaly_id: str, *, by: str, reason: str, as_of: datetime) -> None:
    """Record that an anomaly is none, and bring its incident up to that. Twice is once.

    Args:
        con: a connection inside a write transaction.

    Raises:
        BadInputError: when there is no such anomaly.
    """
    ensure_tables(con)
    found = anomalies(con, ids=[anomaly_id], with_dismissed=True)
    if not found:
        raise BadInputError(f"there is no anomaly {anomaly_id!r}", fix="`segue anomalies list` shows those on record")
    _dismiss(con, found, by=by, reason=reason, as_of=as_of)


def dismiss_incident(con: Connection, incident_id: str, *, by: str, reason: str, as_of: datetime) -> None:
    """Record that nothing of an incident is an anomaly. Twice is once.

    Args:
        con: a connection inside a write transaction.

    Raises:
        BadInputError: when there is no such incident.
    """
    ensure_tables(con)
    found = incidents(con, ids=[incident_id])
    if not found:
        raise BadInputError(
            f"there is no incident {incident_id!r}", fix="`segue anomalies incidents` shows those on record"
        )
    _dismiss(con, found[0].anomalies, by=by, reason=reason, as_of=as_of)


def restore(con: Connection, anomaly_id: str) -> None:
    """Take a dismissal back, and bring its incident up to that. Not dismissed: nothing happens."""
    if has_table(con, "watch", "dismissals") and _is_dismissed(con, anomaly_id):
        con.execute("delete from watch.dismissals where anomaly_id = $1", [anomaly_id])
        _follow(con)


def precision(con: Connection) -> list[Precision]:
    """Per KPI, what was found and what of it people dismissed."""
    if not has_table(con, "watch", "anomalies", "dismissals"):
        return []
    rows = con.execute(
        """
        select anomalies.kpi, count(*), count(dismissals.anomaly_id)
        from watch.anomalies left join watch.dismissals using (anomaly_id)
        group by all order by 1
        """
    ).fetchall()
    return [Precision(kpi=kpi, found_count=found, dismissed_count=gone) for kpi, found, gone in rows]


def _is_dismissed(con: Connection, anomaly_id: str) -> bool:
    return con.execute("select 1 from watch.dismissals where anomaly_id = $1", [anomaly_id]).fetchone() is not None


def _dismiss(con: Connection, found: Sequence[Anomaly], *, by: str, reason: str, as_of: datetime) -> None:
    new = [one for one in found if not _is_dismissed(con, one.anomaly_id)]
    if new:
        rows = [(one.anomaly_id, one.kpi, one.slice, to_warehouse(as_of), by, reason) for one in new]
        insert_rows(con, "watch.dismissals", _COLUMNS, rows)
        _follow(con)


def _follow(con: Connection) -> None:
    """Incidents as the last detection would have left them, so that none says otherwise until the next one."""
    judged_at = con.execute("select max(judged_at) from watch.series").fetchall()[0][0]
    if judged_at is not None:
        group_anomalies(con, known_until=last_complete_day(from_warehouse(judged_at)))


def stricter_where_dismissed(con: Connection, judgements: Sequence[Judgement]) -> list[Judgement]:
    """A series with n dismissals has its p-values multiplied by (n + 1)²."""
    rows = con.execute("select kpi, slice, count(*) from watch.dismissals group by all").fetchall()
    factors = {(kpi, slice_): 1 + count for kpi, slice_, count in rows}
    return [
        replace(
            judgement,
            days=tuple(
                replace(day, p_value=p, score=score_of(p))
                for day in judgement.days
                for p in [min(day.p_value * factors[judgement.series.key] ** 2, 1.0)]
            ),
        )
        if judgement.series.key in factors
        else judgement
        for judgement in judgements
    ]
