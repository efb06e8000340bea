"""What was found wrong with the data, on record."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal

from segue.clock import to_warehouse
from segue.warehouse import Connection, has_table, insert_rows
from segue.watch import clean

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
    "event",
    "source",
)
_TYPES = (
    "varchar", "varchar", "varchar", "varchar", "date", "date", "varchar", "boolean", "timestamp", "varchar", "varchar",
)  # fmt: skip


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
    event: str = ""  # name of the event that it is about, if it is about one
    source: str = ""  # the source that it is about, if it is about one

    @property
    def finding_id(self) -> str:
        """The same for the same check, subject, weight and first day, however long it lasts."""
        about = (self.check, self.subject, self.event, self.source, self.weight)
        text = "\x1f".join((*about, self.first_date.isoformat()))
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def lasting(finding: Finding, until: date) -> Finding:
    """The same fault, gone on until a later day."""
    said = finding.sentence.split(" (until")[0].rstrip(".")
    return replace(finding, last_date=until, sentence=f"{said} (until {until.isoformat()}).")


def joined(found: Sequence[Finding]) -> list[Finding]:
    """Days in a row with the same fault are one finding; what is worse or milder on the same days is another one."""
    together: list[Finding] = []
    for one in sorted(found, key=lambda f: (*_about(f), f.first_date)):
        last = together[-1] if together else None
        if last is not None and _about(last) == _about(one) and (one.first_date - last.last_date).days <= 1:
            together[-1] = lasting(last, one.last_date)
        else:
            together.append(one)
    return together


def _about(finding: Finding) -> tuple[str, ...]:
    return finding.subject, finding.event, finding.source, finding.weight


def cleaned(finding: Finding) -> Finding:
    """As it is stored: names of events and properties come from outside."""
    return replace(
        finding,
        subject=clean(finding.subject, limit=120),
        sentence=clean(finding.sentence, limit=400),
        event=clean(finding.event, limit=120),
        source=clean(finding.source, limit=120),
    )


def record(con: Connection, found: Sequence[Finding], *, as_of: datetime) -> None:
    """Keep what was found in `quality.findings`, in place of what was found before; nothing is written when it is the
    same. A finding keeps the time at which it was first found."""
    con.execute("create schema if not exists quality")
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(_COLUMNS, _TYPES, strict=True))
    con.execute(f"create table if not exists quality.findings ({columns})")
    there = {column[0] for column in con.execute("from quality.findings limit 0").description or []}
    for name in _COLUMNS:
        if name not in there:  # a table of an earlier version
            con.execute(f"alter table quality.findings add column {name} varchar")
    before = {r[0]: r for r in con.execute(f"select {', '.join(_COLUMNS)} from quality.findings").fetchall()}
    rows = []
    for one in {f.finding_id: cleaned(f) for f in found}.values():
        old = before.get(one.finding_id)
        found_at = old[8] if old is not None else to_warehouse(as_of)
        rows.append(
            (
                one.finding_id, one.check, one.weight, one.subject, one.first_date, one.last_date, one.sentence,
                one.distorts, found_at, one.event, one.source,
            )
        )  # fmt: skip
    if sorted(rows, key=lambda row: row[0]) != sorted(before.values(), key=lambda row: row[0]):
        con.execute("delete from quality.findings")
        if rows:
            insert_rows(con, "quality.findings", _COLUMNS, rows)


def findings(con: Connection) -> list[Finding]:
    """What is on record, the worst first, then the latest; empty before the first examination."""
    if not has_table(con, "quality", "findings"):
        return []
    rows = con.execute(
        """
        select check_name, weight, subject, first_date, last_date, sentence, distorts, event, source
        from quality.findings
        order by list_position(['error', 'warning', 'note'], weight), last_date desc, check_name, subject
        """
    ).fetchall()
    return [finding_of(row) for row in rows]


def finding_of(row: Sequence[object]) -> Finding:
    """From check, weight, subject, first and last date, sentence, distorts, event and source."""
    names = ("check", "weight", "subject", "first_date", "last_date", "sentence", "distorts", "event", "source")
    values: dict[str, object] = dict(zip(names, row, strict=True))
    return Finding(**{**values, "event": values["event"] or "", "source": values["source"] or ""})  # type: ignore[arg-type]
