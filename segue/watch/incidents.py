"""Anomalies that move together are one incident: one cause, one alert.

Two belong together when they share the KPI or the slice and begin within a day of each other, or when one of the same
KPI begins while the other goes on. An outage that moves forty series shares both ways, so it is one incident; a KPI
that moves in one country on a day on which another KPI moves in one channel is another one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

from segue.clock import from_warehouse, to_warehouse
from segue.warehouse import Connection, has_table, insert_rows
from segue.watch.tables import COLUMNS, SEVERITIES, Anomaly, Severity, anomalies

IncidentStatus = Literal["open", "recovered", "dismissed"]

_DAY = timedelta(days=1)
_COLUMNS = COLUMNS["incidents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What moved together."""

    incident_id: str
    lead: Anomaly  # the most severe; of these what concerns everybody
    anomalies: tuple[Anomaly, ...]  # the lead first
    first_date: date
    last_date: date
    severity: Severity
    status: IncidentStatus
    data_cause: str | None  # a data incident that explains it
    detected_at: datetime  # aware UTC


def importance(anomaly: Anomaly) -> tuple[int, bool, float, str, str]:
    """Sorts the most severe first; of these what concerns everybody, then the largest."""
    return (-SEVERITIES.index(anomaly.severity), anomaly.slice != "all", -anomaly.score, anomaly.kpi, anomaly.slice)


def group(found: Sequence[Anomaly]) -> list[list[Anomaly]]:
    """The anomalies by incident, each with its most important first; incidents by their first day."""
    parents = list(range(len(found)))

    def root(n: int) -> int:
        while parents[n] != n:
            parents[n] = parents[parents[n]]
            n = parents[n]
        return n

    for i, one in enumerate(found):
        for j in range(i):
            if _together(one, found[j]):
                parents[root(i)] = root(j)
    groups: dict[int, list[Anomaly]] = {}
    for i, one in enumerate(found):
        groups.setdefault(root(i), []).append(one)
    return sorted(
        (sorted(members, key=importance) for members in groups.values()),
        key=lambda members: (min(a.first_date for a in members), members[0].anomaly_id),
    )


def incident_of(members: Sequence[Anomaly]) -> Incident:
    """Anomalies that belong together, as an incident that is on no record."""
    oldest = min(members, key=lambda a: (a.detected_at, a.first_date, a.anomaly_id))
    shown = sorted(members, key=importance)
    return Incident(
        incident_id=_id(oldest),
        lead=shown[0],
        anomalies=tuple(shown),
        first_date=min(a.first_date for a in members),
        last_date=max(a.last_date for a in members),
        severity=shown[0].severity,
        status="open",
        data_cause=None,
        detected_at=oldest.detected_at,
    )


def _together(a: Anomaly, b: Anomaly) -> bool:
    if a.kpi != b.kpi and _audience(a) != _audience(b):
        return False
    if abs(a.first_date - b.first_date) <= _DAY:
        return True
    earlier, later = (a, b) if a.first_date <= b.first_date else (b, a)
    return a.kpi == b.kpi and later.first_date <= earlier.last_date


def _audience(anomaly: Anomaly) -> str:
    """Whom it is about; the size of a segment follows from what everybody does."""
    return "all" if anomaly.kpi == "segment_size" else anomaly.slice


def group_anomalies(con: Connection, *, known_until: date) -> int:
    """Bring `watch.incidents` and `watch.incident_members` up to the anomalies on record; returns how many are open.

    An incident keeps its id as it grows: that of the incident that the oldest of its anomalies was in. Nothing is
    written when nothing has changed.
    """
    everything = anomalies(con, with_dismissed=True)
    dismissed = {row[0] for row in con.execute("select anomaly_id from watch.dismissals").fetchall()}
    before = {a: i for i, a in con.execute("select incident_id, anomaly_id from watch.incident_members").fetchall()}
    old_rows = {row[0]: row for row in con.execute(f"select {', '.join(_COLUMNS)} from watch.incidents").fetchall()}
    rows, members = [], []
    taken: set[str] = set()
    for found in group(everything):
        oldest = sorted(found, key=lambda a: (a.detected_at, a.first_date, a.anomaly_id))
        known = [before[a.anomaly_id] for a in oldest if a.anomaly_id in before and before[a.anomaly_id] not in taken]
        incident_id = known[0] if known else _id(oldest[0])
        taken.add(incident_id)
        kept = [a for a in found if a.anomaly_id not in dismissed]
        shown = kept or found
        last = max(a.last_date for a in shown)
        status: IncidentStatus = "open" if any(a.is_going_on(known_until) for a in shown) else "recovered"
        rows.append(
            (
                incident_id,
                shown[0].anomaly_id,
                datetime.combine(min(a.first_date for a in shown), time()),
                datetime.combine(last, time()),
                max((a.severity for a in shown), key=SEVERITIES.index),
                status if kept else "dismissed",
                len(shown),
                old_rows[incident_id][7] if incident_id in old_rows else None,
                min(to_warehouse(a.detected_at) for a in shown),
            )
        )
        members += [(incident_id, a.anomaly_id) for a in found]
    if sorted(rows) != sorted(old_rows.values()):
        con.execute("delete from watch.incidents")
        if rows:
            insert_rows(con, "watch.incidents", _COLUMNS, rows)
    if {a: i for i, a in members} != before:
        con.execute("delete from watch.incident_members")
        if members:
            insert_rows(con, "watch.incident_members", COLUMNS["incident_members"], members)
    return sum(row[5] == "open" for row in rows)


def incidents(con: Connection, *, ids: Sequence[str] | None = None) -> list[Incident]:
    """The incidents on record with their anomalies, latest first; empty before the first detection."""
    if not has_table(con, "watch", "incidents", "incident_members"):
        return []
    by_id = {a.anomaly_id: a for a in anomalies(con, with_dismissed=True)}
    dismissed = {row[0] for row in con.execute("select anomaly_id from watch.dismissals").fetchall()}
    members: dict[str, list[Anomaly]] = {}
    for incident_id, anomaly_id in con.execute("select incident_id, anomaly_id from watch.incident_members").fetchall():
        if anomaly_id in by_id:
            members.setdefault(incident_id, []).append(by_id[anomaly_id])
    rows = con.execute(
        f"select {', '.join(_COLUMNS)} from watch.incidents"
        " where $1 is null or list_contains($1::varchar[], incident_id)"
        " order by started_at desc, incident_id",
        [None if ids is None else list(ids)],
    ).fetchall()
    found = []
    for row in rows:
        everything = members.get(row[0], [])
        if not everything:
            continue
        shown = [a for a in everything if a.anomaly_id not in dismissed] or everything
        shown.sort(key=importance)
        found.append(
            Incident(
                incident_id=row[0],
                lead=shown[0],
                anomalies=tuple(shown),
                first_date=row[2].date(),
                last_date=row[3].date(),
                severity=row[4],
                status=row[5],
                data_cause=row[7],
                detected_at=from_warehouse(row[8]),
            )
        )
    return found


def _id(anomaly: Anomaly) -> str:
    return hashlib.sha256(f"incident\x1f{anomaly.anomaly_id}".encode()).hexdigest()[:20]
