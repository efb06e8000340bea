"""The tables of this room, and an anomaly as a value."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal

from segue.clock import from_warehouse
from segue.warehouse import Connection, has_table

Severity = Literal["low", "medium", "high"]
Direction = Literal["up", "down"]
#: How a measure varies, which decides the scale of its model and how its values are written.
Kind = Literal["count", "ratio", "mean", "amount", "signed"]

#: What one judged point of a series covers; a week is an ISO week.
Grain = Literal["day", "week", "hour"]

#: From least to most severe.
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")

_TABLES = {
    "forecasts": """
        kpi varchar, slice varchar, date date, expected double, lower double, upper double, fitted_at timestamp,
        basis varchar
    """,
    "series": """
        kpi varchar, slice varchar, status varchar, detail varchar, point_count bigint, judged_at timestamp,
        first_judged_date date, last_judged_date date, learned_since date, detectable_change double
    """,
    "anomalies": """
        anomaly_id varchar, kpi varchar, slice varchar, started_at timestamp, ended_at timestamp,
        value double, expected double, lower double, upper double, severity varchar, direction varchar,
        detected_at timestamp, worst_date date, score double, denominator double, kind varchar, grain varchar
    """,
    "incidents": """
        incident_id varchar, lead_id varchar, started_at timestamp, ended_at timestamp, severity varchar,
        status varchar, anomaly_count bigint, data_cause varchar, detected_at timestamp
    """,
    "incident_members": "incident_id varchar, anomaly_id varchar",
    "inside": "anomaly_id varchar, slice varchar, date date, value double, numerator double, denominator double",
    "dismissals": """
        anomaly_id varchar, kpi varchar, slice varchar, dismissed_at timestamp, dismissed_by varchar, reason varchar
    """,
}

#: The columns of each table, in the order of its rows.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    name: tuple(column.split()[0] for column in columns.split(",")) for name, columns in _TABLES.items()
}

#: Columns that tables of an earlier version lack.
_ADDED = {"anomalies": {"grain": "varchar"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """Consecutive days on which one series left its expected range in one direction.

    `value`, `expected`, `lower`, `upper` and `denominator` are those of the worst day, in the unit of the KPI.
    """

    anomaly_id: str
    kpi: str
    slice: str
    first_date: date
    last_date: date  # the last disturbed day, inclusive
    value: float
    expected: float
    lower: float
    upper: float
    severity: Severity
    direction: Direction
    detected_at: datetime  # aware UTC
    worst_date: date
    score: float  # two-sided normal deviate with the same probability
    denominator: float | None
    kind: Kind
    grain: Grain = "day"
    hours: tuple[datetime, datetime] | None = None  # of grain hour: first and last disturbed one, aware UTC
    label: str = field(default="", compare=False)  # how people call the KPI, where its YAML says so

    @property
    def day_count(self) -> int:
        """Days from the first to the last disturbed one, both counted."""
        return (self.last_date - self.first_date).days + 1

    @property
    def change(self) -> float | None:
        """Relative distance from what was expected: -0.8 is 80 % below it. None when nothing was expected."""
        return (self.value - self.expected) / abs(self.expected) if self.expected else None

    def is_going_on(self, known_until: date) -> bool:
        """Whether nothing later is known to be as expected: no later day, or of a week no whole later week."""
        return known_until < self.last_date + timedelta(days=7 if self.grain == "week" else 1)


def ensure_tables(con: Connection) -> None:
    """Create the schema `watch` and its tables where they are missing.

    `anomalies.started_at` and `ended_at` are the first instants of the first and the last disturbed day.
    """
    con.execute("create schema if not exists watch")
    for name, columns in _TABLES.items():
        con.execute(f"create table if not exists watch.{name} ({columns})")
    for name, added in _ADDED.items():
        there = {column[0] for column in con.execute(f"select * from watch.{name} limit 0").description or []}
        for column, kind in added.items():
            if column not in there:
                con.execute(f"alter table watch.{name} add column {column} {kind}")


def anomalies(
    con: Connection,
    *,
    min_severity: Severity = "low",
    ids: Sequence[str] | None = None,
    with_dismissed: bool = False,
) -> list[Anomaly]:
    """The anomalies on record, most severe first, then latest first. Empty before the first detection.

    Args:
        min_severity: leave out what is less severe.
        ids: only these anomalies.
        with_dismissed: those too of which a person has said that they are none.
    """
    if not has_table(con, "watch", "anomalies"):
        return []
    wanted = list(SEVERITIES[SEVERITIES.index(min_severity) :])
    has_dismissals = not with_dismissed and has_table(con, "watch", "dismissals")
    kept = "and anomaly_id not in (select anomaly_id from watch.dismissals)" if has_dismissals else ""
    *fields, grain = COLUMNS["anomalies"]
    rows = con.execute(
        f"""
        select {", ".join(fields)}, coalesce({grain}, 'day') from watch.anomalies
        where list_contains($1, severity) and ($2 is null or list_contains($2::varchar[], anomaly_id)) {kept}
        order by list_position(['high', 'medium', 'low'], severity), started_at desc, score desc, kpi, slice
        """,
        [wanted, None if ids is None else list(ids)],
    ).fetchall()
    labels: dict[str, str] = {}
    if has_table(con, "watch", "registry"):
        labels = dict(con.execute("select name, label from watch.registry where kind = 'kpi'").fetchall())
    return [replace(_anomaly(row), label=labels.get(row[1]) or "") for row in rows]


def _anomaly(row: tuple) -> Anomaly:  # type: ignore[type-arg]
    return Anomaly(
        anomaly_id=row[0],
        kpi=row[1],
        slice=row[2],
        first_date=row[3].date(),
        last_date=row[4].date(),
        value=row[5],
        expected=row[6],
        lower=row[7],
        upper=row[8],
        severity=row[9],
        direction=row[10],
        detected_at=from_warehouse(row[11]),
        worst_date=row[12],
        score=row[13],
        denominator=row[14],
        kind=row[15],
        grain=row[16],
        hours=(from_warehouse(row[3]), from_warehouse(row[4])) if row[16] == "hour" else None,
    )


def anomaly_id(kpi: str, slice_: str, direction: Direction, first: date) -> str:
    """The same for the same anomaly, on any machine."""
    text = "\x1f".join((kpi, slice_, direction, first.isoformat()))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def day_range(first: date, last: date) -> list[date]:
    """Every day from the first to the last, both included."""
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]
