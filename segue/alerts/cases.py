"""What one message is about: a KPI incident, a fault of the data, or a fault with the KPI incidents it explains."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from segue.alerts.policy import Place, Policy
from segue.alerts.state import Mute
from segue.clock import from_warehouse
from segue.quality import DataIncident, Finding, data_incidents, explained
from segue.warehouse import Connection, has_table
from segue.watch import SEVERITIES, Anomaly, Incident, Severity, anomalies, incidents, owner_of
from segue.watch.incidents import group, incident_of

#: An incident that ended longer ago than this, before the last judged day, is history and no news: somebody who
#: sets up Slack today is not sent last year.
NEWS_DAYS = 35
#: What the data has is told together with what it does to the KPIs, unless nobody has looked at them for so long.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Incidents with one cause; at least one of `data` and `incidents` is there."""

    data: DataIncident | None = None
    incidents: tuple[Incident, ...] = ()  # of KPIs, the most severe first

    @property
    def ids(self) -> tuple[str, ...]:
        """Of every incident in it, that of the data first."""
        return (*((self.data.incident_id,) if self.data else ()), *(i.incident_id for i in self.incidents))

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        return tuple(anomaly for incident in self.incidents for anomaly in incident.anomalies)

    @property
    def faults(self) -> dict[str, Finding]:
        """By its id in the ledger, each fault of the data at its worst."""
        worst: dict[tuple[str, str], Finding] = {}
        for fault in self.data.findings if self.data else ():
            worst.setdefault((fault.check, fault.subject), fault)
        return {f"data:{self.ids[0]}:{f.check}:{f.weight}:{f.subject}": f for f in worst.values()}

    @property
    def severity(self) -> Severity:
        found = [i.severity for i in self.incidents] + ([self.data.severity] if self.data else [])
        return max(found, key=SEVERITIES.index)

    @property
    def first_date(self) -> date:
        return min([i.first_date for i in self.incidents] + ([self.data.first_date] if self.data else []))

    @property
    def last_date(self) -> date:
        return max([i.last_date for i in self.incidents] + ([self.data.last_date] if self.data else []))

    @property
    def detected_at(self) -> datetime:
        return min([i.detected_at for i in self.incidents] + ([self.data.detected_at] if self.data else []))

    @property
    def is_open(self) -> bool:
        return any(i.status == "open" for i in self.incidents) or (self.data is not None and self.data.status == "open")

    def place(self, con: Connection, policy: Policy, told: Collection[str]) -> Place:
        """Where it is told: where the data belongs to, should it be the data, unless a KPI was told of before.

        Args:
            told: the ids of the incidents that somebody has been told of.
        """
        before = [i for i in self.incidents if i.incident_id in told]
        if self.data is not None and (self.data.incident_id in told or not before):
            return policy.place_of_data(self.data.owner, self.data.source)
        lead = (before or self.incidents)[0].lead
        return policy.place_of(owner_of(con, lead.kpi, lead.slice))

    def is_muted(self, mutes: tuple[Mute, ...], as_of: datetime) -> bool:
        """Whether nobody is to be told of any of it; a fault of the data is silenced by a mute of everything only."""
        if self.data is not None and not any(m.covers_everything(as_of) for m in mutes):
            return False
        return all(any(m.covers(a, as_of) for m in mutes) for a in self.anomalies)


def last_judged(con: Connection) -> tuple[date | None, datetime | None]:
    """The last judged day, and as of when the last detection ran (aware UTC)."""
    if not has_table(con, "watch", "series"):
        return None, None
    row = con.execute("select max(last_judged_date), max(judged_at) from watch.series").fetchone()
    if row is None:
        return None, None
    return row[0], None if row[1] is None else from_warehouse(row[1])


def judged_through(con: Connection) -> date | None:
    """The last day that is judged: a week that was judged is the newest there can be until the next one is over."""
    if not has_table(con, "watch", "series"):
        return None
    rows = con.execute("select max(last_judged_date + if(status = 'by_week', 6, 0)) from watch.series").fetchall()
    found: date | None = rows[0][0]
    return found


def cases(con: Connection, min_severity: Severity, *, as_of: datetime | None) -> list[Case]:
    """What is news, the most severe first.

    Args:
        as_of: a fault of the data waits until the KPIs have been looked at since it was found, or for an hour.
    """
    moved = {i.incident_id: i for i in news(con, min_severity)}
    causes = explained(con)
    day, ran_at = last_judged(con)
    found = []
    for data in data_incidents(con):
        is_old = day is not None and data.last_date < day - timedelta(days=NEWS_DAYS)
        unseen = ran_at is not None and ran_at < data.detected_at
        waits = unseen and as_of is not None and as_of - data.detected_at < _PATIENCE
        if is_old or waits or SEVERITIES.index(data.severity) < SEVERITIES.index(min_severity):
            continue
        mine = tuple(moved.pop(i) for i, cause in causes.items() if cause == data.incident_id and i in moved)
        found.append(Case(data=data, incidents=tuple(sorted(mine, key=_order))))
    found += [Case(incidents=(incident,)) for incident in moved.values()]
    return sorted(found, key=lambda c: (-SEVERITIES.index(c.severity), c.first_date, c.ids))


def news(con: Connection, min_severity: Severity) -> list[Incident]:
    """The KPI incidents that are news, with those of their anomalies that are severe enough."""
    day, _ = last_judged(con)
    found = anomalies(con, min_severity=min_severity)
    if day is not None:
        found = [a for a in found if a.last_date >= day - timedelta(days=NEWS_DAYS)]
    fresh = {a.anomaly_id: a for a in found}
    result = []
    for incident in incidents(con):
        mine = tuple(fresh.pop(a.anomaly_id) for a in incident.anomalies if a.anomaly_id in fresh)
        if mine and incident.status != "dismissed":
            result.append(replace(incident, anomalies=mine, lead=mine[0]))
    # What a detection of an earlier version has left ungrouped.
    result += [incident_of(members) for members in group(list(fresh.values()))]
    return sorted(result, key=_order)


def _order(incident: Incident) -> tuple[int, date, str]:
    return -SEVERITIES.index(incident.severity), incident.first_date, incident.incident_id
