"""What was found wrong with the data, on record, and which KPI incidents it explains."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from segue.clock import to_warehouse
from segue.warehouse import Connection, has_table
from segue.watch import clean
from segue.watch.tables import insert_rows

Weight = Literal["note", "warning", "error"]

_COLUMNS = (
    "finding_id",
    "check_name",
    "weight",
    "subject",
    "first_date",
    "last_date",
    "sentence",
    "distorts",
    "found_at",
)
_TYPES = ("varchar", "varchar", "varchar", "varchar", "date", "date", "varchar", "boolean", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it was."""

    check: str
    weight: Weight
    subject: str  # event, source or property that it is about
    first_date: date
    last_date: date
    sentence: str
    distorts: bool = False  # KPIs move because of it, though people did nothing else

    @property
    def finding_id(self) -> str:
        text = "\x1f".join((self.check, self.subject, self.first_date.isoformat()))
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def record(con: Connection, found: Sequence[Finding], *, as_of: datetime) -> None:
    """Keep what was found in `quality.findings`, in place of what was found before; nothing is written when it is the
    same. A finding keeps the time at which it was first found."""
    con.execute("create schema if not exists quality")
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(_COLUMNS, _TYPES, strict=True))
    con.execute(f"create table if not exists quality.findings ({columns})")
    before = {r[0]: r for r in con.execute(f"select {', '.join(_COLUMNS)} from quality.findings").fetchall()}
    rows = []
    for one in {f.finding_id: f for f in found}.values():
        old = before.get(one.finding_id)
        found_at = old[8] if old is not None else to_warehouse(as_of)
        rows.append(
            (
                one.finding_id, one.check, one.weight, clean(one.subject, limit=120), one.first_date, one.last_date,
                clean(one.sentence, limit=400), one.distorts, found_at,
            )
        )  # fmt: skip
    if sorted(rows) != sorted(before.values()):
        con.execute("delete from quality.findings")
        if rows:
            insert_rows(con, "quality.findings", _COLUMNS, rows)


def findings(con: Connection) -> list[Finding]:
    """What is on record, the worst first, then the latest; empty before the first examination."""
    if not has_table(con, "quality", "findings"):
        return []
    rows = con.execute(
        """
        select check_name, weight, subject, first_date, last_date, sentence, distorts from quality.findings
        order by list_position(['error', 'warning', 'note'], weight), last_date desc, check_name, subject
        """
    ).fetchall()
    return [
        Finding(check=r[0], weight=r[1], subject=r[2], first_date=r[3], last_date=r[4], sentence=r[5], distorts=r[6])
        for r in rows
    ]


def explain_incidents(con: Connection) -> int:
    """Say of each KPI incident which fault of the data explains it; returns how many are explained.

    A fault explains what begins while it lasts, or within a day of its beginning. Only faults that move KPIs by
    themselves count: an event, a source or a property that has vanished or has changed its type.
    """
    if not has_table(con, "watch", "incidents"):
        return 0
    faults = [f for f in findings(con) if f.distorts]
    day = timedelta(days=1)
    count = 0
    rows = con.execute("select incident_id, started_at, data_cause from watch.incidents").fetchall()
    for incident_id, started_at, before in rows:
        started = started_at.date()
        cause = next((f.sentence for f in faults if f.first_date - day <= started <= f.last_date), None)
        count += cause is not None
        if cause != before:
            con.execute("update watch.incidents set data_cause = $1 where incident_id = $2", [cause, incident_id])
    return count
