"""Faults of the data that belong together are one incident, kept as long as they last: one cause, one alert.

Two faults belong together when they begin within a day of each other and are about the same event or source, or one is
about a source and the other about an event that it sends: a release that breaks a tracker breaks several things.
An incident keeps its id, and what was found of it, after the findings have left the days that are examined.
A new property is no fault: it is what else happened.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, get_args

from segue.clock import from_warehouse, to_warehouse
from segue.events import Contract
from segue.quality.findings import Finding, Weight, cleaned, finding_of, findings, lasting
from segue.quality.look import first_judged_day, looked_at_since
from segue.warehouse import Connection, has_table, insert_rows
from segue.watch import Severity
from segue.watch.series import last_complete_day

DataStatus = Literal["open", "recovered", "withdrawn"]

_DAY = timedelta(days=1)
#: What is true of a moment: not to be found any more means that it is over, not that it never was.
_OF_A_MOMENT = ("freshness", "cardinality", "references")
_SEVERITIES: dict[Weight, Severity] = {"error": "high", "warning": "medium", "note": "low"}

_TABLES = {
    "incidents": (
        "incident_id varchar", "started_at timestamp", "ended_at timestamp", "weight varchar", "status varchar",
        "owner varchar", "source varchar", "detected_at timestamp",
    ),
    "incident_members": (
        "incident_id varchar", "check_name varchar", "weight varchar", "subject varchar", "first_date date",
        "last_date date", "sentence varchar", "distorts boolean", "event varchar", "source varchar",
    ),
    "explained": ("incident_id varchar", "data_incident_id varchar"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIncident:
    """Faults of the data with one cause, as far as one can tell."""

    incident_id: str
    findings: tuple[Finding, ...]  # the worst first
    status: DataStatus  # withdrawn: late data has filled the gap, so that nothing was wrong after all
    owner: str  # who answers for the event, by its contract; empty when it is about no event or nobody is named
    source: str  # the source it is about, or the only one that sends the event; else empty
    detected_at: datetime  # aware UTC

    @property
    def lead(self) -> Finding:
        """The finding that speaks for all."""
        return self.findings[0]

    @property
    def first_date(self) -> date:
        return min(f.first_date for f in self.findings)

    @property
    def last_date(self) -> date:
        return max(f.last_date for f in self.findings)

    @property
    def severity(self) -> Severity:
        """On the scale of the KPIs' alerts: an error is high, a warning medium."""
        return _SEVERITIES[self.lead.weight]


def data_incidents(con: Connection, *, ids: Sequence[str] | None = None) -> list[DataIncident]:
    """The incidents on record, latest first; empty before the first examination."""
    if not has_table(con, "quality", "incidents", "incident_members"):
        return []
    members: dict[str, list[Finding]] = {}
    for row in con.execute(f"select {_names('incident_members')} from quality.incident_members").fetchall():
        members.setdefault(row[0], []).append(finding_of(row[1:]))
    rows = con.execute(
        "select incident_id, status, owner, source, detected_at from quality.incidents"
        " where $1 is null or list_contains($1::varchar[], incident_id) order by started_at desc, incident_id",
        [None if ids is None else list(ids)],
    ).fetchall()
    return [
        DataIncident(
            incident_id=ident,
            findings=tuple(sorted(members[ident], key=_worst_first)),
            status=status,
            owner=owner,
            source=source,
            detected_at=from_warehouse(detected_at),
        )
        for ident, status, owner, source, detected_at in rows
        if ident in members
    ]


def keep_incidents(con: Connection, *, contracts: Sequence[Contract] = (), as_of: datetime) -> int:
    """Bring the incidents up to the findings on record; returns how many are open. Writes nothing when nothing changed.

    Args:
        con: a connection inside a write transaction, after `record`.
        contracts: say who answers for an event.
        as_of: aware UTC, that of the examination.
    """
    con.execute("create schema if not exists quality")
    for name, columns in _TABLES.items():
        con.execute(f"create table if not exists quality.{name} ({', '.join(columns)})")
    before = {i.incident_id: i for i in data_incidents(con)}
    found = [f for f in findings(con) if f.weight != "note"]
    senders = _senders(con, {f.event for f in found if f.event}, as_of)
    members = {ident: list(i.findings) for ident, i in before.items()}
    current: dict[str, list[Finding]] = {ident: [] for ident in before}
    by_age = sorted(before.values(), key=lambda i: (i.detected_at, i.incident_id))
    for one in sorted(found, key=lambda f: (f.first_date, *_worst_first(f))):
        ident = next(
            (i.incident_id for i in by_age if any(_goes_on(old, one, i.status) for old in i.findings)), None
        ) or next((known for known, faults in members.items() if any(_together(one, f, senders) for f in faults)), None)
        if ident is None:
            ident = _id(one)
            members[ident], current[ident] = [], []
        members[ident] = _with(members[ident], one)
        current[ident].append(one)
    # What an examination does not find any more on a day that it judges, was put right by late data.
    judged_from = first_judged_day(as_of)
    kept = []
    for ident, faults in members.items():
        old = before.get(ident)
        late = [f for f in faults if _was_mended(f, current[ident], judged_from)]
        left = [f for f in faults if f not in late]
        lead = min(left or faults, key=_worst_first)
        last = max(f.last_date for f in left) if left else None
        open_now = last is not None and bool(current[ident]) and last >= last_complete_day(as_of)
        kept.append(
            DataIncident(
                incident_id=ident,
                findings=tuple(sorted(left or faults, key=_worst_first)),
                status="withdrawn" if not left else "open" if open_now else "recovered",
                owner=next((c.owner for c in contracts if c.name == lead.event), old.owner if old else ""),
                source=_source(lead, senders) or (old.source if old else ""),
                detected_at=old.detected_at if old else as_of,
            )
        )
    if {i.incident_id: i for i in kept} != before:
        _write(con, kept)
    return sum(i.status == "open" for i in kept)


def explain_incidents(con: Connection) -> int:
    """Say of each KPI incident which fault of the data explains it; returns how many are explained.

    A fault explains what begins while it lasts, or within a day of its beginning. Only faults that move KPIs by
    themselves count: an event, a source or a property that has vanished or has changed its type, a source whose
    messages have fallen far.
    """
    if not has_table(con, "watch", "incidents") or not has_table(con, "quality", "incidents"):
        return 0
    faults = [
        (f, i.incident_id) for i in data_incidents(con) if i.status != "withdrawn" for f in i.findings if f.distorts
    ]
    rows = con.execute("select incident_id, started_at, data_cause from watch.incidents").fetchall()
    links = []
    for incident_id, started_at, before in rows:
        started = started_at.date()
        cause = next(((f, i) for f, i in faults if f.first_date - _DAY <= started <= f.last_date), None)
        if cause is not None:
            links.append((incident_id, cause[1]))
        sentence = cause[0].sentence if cause is not None else None
        if sentence != before:
            con.execute("update watch.incidents set data_cause = $1 where incident_id = $2", [sentence, incident_id])
    if sorted(links) != sorted(con.execute("select incident_id, data_incident_id from quality.explained").fetchall()):
        con.execute("delete from quality.explained")
        if links:
            insert_rows(con, "quality.explained", ("incident_id", "data_incident_id"), links)
    return len(links)


def explained(con: Connection) -> dict[str, str]:
    """By KPI incident, the incident of the data that explains it."""
    if not has_table(con, "quality", "explained"):
        return {}
    return dict(con.execute("select incident_id, data_incident_id from quality.explained").fetchall())


def _goes_on(old: Finding, new: Finding, status: DataStatus) -> bool:
    """Whether it is the same fault: it overlaps, follows, or is of a moment and was still there the last time."""
    if (old.check, old.subject) != (new.check, new.subject):
        return False
    if new.check in _OF_A_MOMENT and status == "open":
        return True
    return new.first_date <= old.last_date + _DAY and old.first_date <= new.last_date + _DAY


def _together(a: Finding, b: Finding, senders: dict[str, list[str]]) -> bool:
    if abs(a.first_date - b.first_date) > _DAY:
        return False
    return bool(_sources(a, senders) & _sources(b, senders)) or bool(a.event and a.event == b.event)


def _sources(finding: Finding, senders: dict[str, list[str]]) -> set[str]:
    return {finding.source} if finding.source else set(senders.get(finding.event, ()))


def _source(finding: Finding, senders: dict[str, list[str]]) -> str:
    """The source that a fault is about, if it is about one."""
    found = _sources(finding, senders)
    return next(iter(found)) if len(found) == 1 else ""


def _senders(con: Connection, events: set[str], as_of: datetime) -> dict[str, list[str]]:
    """By event, the sources that have sent it lately."""
    if not events or not has_table(con, "raw", "events"):
        return {}
    rows = con.execute(
        """
        select distinct coalesce(event, type), coalesce(source, '?') from raw.events
        where received_at > $1 and received_at <= $2 and list_contains($3::varchar[], coalesce(event, type))
        order by all
        """,
        [looked_at_since(as_of), to_warehouse(as_of), sorted(events)],
    ).fetchall()
    senders: dict[str, list[str]] = {}
    for event, source in rows:
        senders.setdefault(event, []).append(source)
    return senders


def _with(faults: Sequence[Finding], new: Finding) -> list[Finding]:
    """The faults of an incident with one that was found now; the same one only lasts longer."""
    same = [f for f in faults if _key(f) == _key(new) and _goes_on(f, new, "open")]
    if not same:
        return [*faults, new]
    first = min(same, key=lambda f: f.first_date)
    if first.first_date < new.first_date:
        # The days before have left those that are examined.
        new = cleaned(lasting(first, new.last_date)) if new.last_date > first.last_date else first
    return [f for f in faults if f not in same] + [new]


def _was_mended(fault: Finding, current: Sequence[Finding], judged_from: date) -> bool:
    return (
        fault.check not in _OF_A_MOMENT
        and fault.first_date >= judged_from
        and not any(_key(f) == _key(fault) and _goes_on(fault, f, "open") for f in current)
    )


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.check, finding.subject, finding.weight


def _worst_first(finding: Finding) -> tuple[int, bool, date, str, str]:
    weights = get_args(Weight)
    return -weights.index(finding.weight), not finding.distorts, finding.first_date, finding.check, finding.subject


def _id(finding: Finding) -> str:
    text = "\x1f".join(("data", finding.check, finding.subject, finding.first_date.isoformat()))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _write(con: Connection, kept: Sequence[DataIncident]) -> None:
    con.execute("delete from quality.incidents")
    con.execute("delete from quality.incident_members")
    if not kept:
        return
    midnight = datetime.min.time()
    rows = [
        (
            i.incident_id, datetime.combine(i.first_date, midnight), datetime.combine(i.last_date, midnight),
            i.lead.weight, i.status, i.owner, i.source, to_warehouse(i.detected_at),
        )
        for i in kept
    ]  # fmt: skip
    members = [
        (
            i.incident_id, f.check, f.weight, f.subject, f.first_date, f.last_date, f.sentence, f.distorts, f.event,
            f.source,
        )
        for i in kept
        for f in i.findings
    ]  # fmt: skip
    insert_rows(con, "quality.incidents", _names("incidents").split(", "), rows)
    insert_rows(con, "quality.incident_members", _names("incident_members").split(", "), members)


def _names(table: str) -> str:
    return ", ".join(column.split()[0] for column in _TABLES[table])
