"""What is due to be told, to whom, over which channel: a function of the warehouse, the policy and the time."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from segue.alerts import ledger, state
from segue.alerts.channels import Channel, channels_of
from segue.alerts.ledger import Entry
from segue.alerts.message import STORED, Kind
from segue.alerts.policy import Policy
from segue.alerts.slack_bot import Posted
from segue.clock import from_warehouse, to_warehouse
from segue.settings import Settings
from segue.warehouse import Connection, has_table
from segue.watch import SEVERITIES, Anomaly, Incident, Severity, anomalies, incidents, owner_of
from segue.watch.incidents import group, incident_of

#: An anomaly that ended longer ago than this, before the last judged day, is history and no news: somebody who
#: sets up Slack today is not sent last year.
NEWS_DAYS = 35
_MOST_OVER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message that has to go out over one channel."""

    kind: Kind
    channel: Channel
    subjects: tuple[str, ...]  # ids in the ledger
    incident: Incident | None = None
    anomalies: tuple[Anomaly, ...] = ()  # that the channel does not know yet
    thread: Posted | None = None
    is_update: bool = False
    is_backlog: bool = False  # several incidents that were over before anybody could be told
    again: bool = False  # an attempt was cut off
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the plan is made from."""

    settings: Settings
    policy: Policy
    as_of: datetime | None  # None: whatever the hour
    min_severity: Severity
    retry_now: bool  # what is to be tried again only later, is tried now


def due(con: Connection, situation: Situation) -> list[Notice]:
    """Every message that is due, incidents first."""
    entries = ledger.entries(con)
    known = {(e.channel, e.subject_id): e for e in entries}
    found = _incident_notices(con, situation, known)
    found += _stored_notices(situation, known)
    found += _clockwork(con, situation, known)
    return found


def last_judged(con: Connection) -> tuple[date | None, datetime | None]:
    """The last judged day, and as of when the last detection ran (aware UTC)."""
    if not has_table(con, "watch", "series"):
        return None, None
    row = con.execute("select max(last_judged_date), max(judged_at) from watch.series").fetchone()
    if row is None:
        return None, None
    return row[0], None if row[1] is None else from_warehouse(row[1])


def _may_send(entry: Entry | None, situation: Situation) -> bool:
    if entry is None:
        return True
    if not entry.may_be_sent:
        return False
    moment = None if situation.as_of is None or situation.retry_now else to_warehouse(situation.as_of)
    return moment is None or entry.next_attempt_at is None or entry.next_attempt_at <= moment


def news(con: Connection, min_severity: Severity) -> list[Incident]:
    """The incidents that are news, with those of their anomalies that are severe enough."""
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
    return sorted(result, key=lambda i: (-SEVERITIES.index(i.severity), i.first_date, i.incident_id))


def _incident_notices(con: Connection, situation: Situation, known: dict[tuple[str, str], Entry]) -> list[Notice]:
    as_of, policy = situation.as_of, situation.policy
    told = state.threads(con)
    silenced = state.mutes(con)
    on_it = state.acknowledged(con)
    quiet = as_of is not None and policy.quiet is not None and policy.quiet.contains(as_of)
    found = []
    for incident in news(con, situation.min_severity):
        if as_of is not None and all(any(m.covers(a, as_of) for m in silenced) for a in incident.anomalies):
            continue
        held = quiet and incident.severity != "high"
        place = policy.place_of(owner_of(con, incident.lead.kpi, incident.lead.slice))
        for channel in channels_of(situation.settings, place):
            before = told.get((incident.incident_id, channel.name))
            thread = before[0] if before is not None and channel.has_threads and before[0].ts else None
            fresh = [a for a in incident.anomalies if _may_send(known.get((channel.name, a.anomaly_id)), situation)]
            if fresh and not held:
                entries = [known.get((channel.name, a.anomaly_id)) for a in fresh]
                found.append(
                    Notice(
                        kind="anomaly",
                        channel=channel,
                        subjects=tuple(a.anomaly_id for a in fresh),
                        incident=incident,
                        anomalies=tuple(fresh),
                        thread=thread,
                        is_update=before is not None,
                        again=any(e is not None and e.status == "pending" for e in entries),
                        attempts=max((e.attempts for e in entries if e is not None), default=0),
                    )
                )
            if before is None:
                continue
            if incident.status == "recovered" and not held and _ended(con, incident):
                found += _once(
                    f"recovered:{incident.incident_id}", "incident_over", channel, known, situation, incident, thread
                )
            waits = (
                policy.escalate_after is not None and as_of is not None and as_of - before[1] >= policy.escalate_after
            )
            if (
                waits
                and incident.status == "open"
                and incident.severity == "high"
                and incident.incident_id not in on_it
            ):
                subject = f"escalated:{incident.incident_id}"
                for higher in channels_of(situation.settings, policy.escalate_to):
                    found += _once(subject, "escalation", higher, known, situation, incident, None)
    unique = {(n.channel.name, n.subjects): n for n in found}
    return _without_flood(list(unique.values()))


def _without_flood(notices: list[Notice]) -> list[Notice]:
    """What is over already, and more than a few, is one message: a first look at a history is no reason to shout."""
    found = [n for n in notices if not _is_over(n)]
    for name in dict.fromkeys(n.channel.name for n in notices):
        over = [n for n in notices if _is_over(n) and n.channel.name == name]
        if len(over) <= _MOST_OVER:
            found += over
            continue
        found.append(
            replace(
                over[0],
                subjects=tuple(subject for n in over for subject in n.subjects),
                anomalies=tuple(anomaly for n in over for anomaly in n.anomalies),
                again=any(n.again for n in over),
                attempts=max(n.attempts for n in over),
                is_backlog=True,
            )
        )
    return found


def _is_over(notice: Notice) -> bool:
    is_old = notice.incident is not None and notice.incident.status == "recovered"
    return notice.kind == "anomaly" and is_old and not notice.is_update


def _ended(con: Connection, incident: Incident) -> bool:
    """Whether days after it have been judged: only those can say that it is over. A recovery tells of what lasted or
    was told while it was going on; an anomaly of one past day was over when it was told."""
    day, _ = last_judged(con)
    return incident.detected_at.date() <= incident.last_date + timedelta(days=1) and day is not None


def _once(
    subject: str,
    kind: Kind,
    channel: Channel,
    known: dict[tuple[str, str], Entry],
    situation: Situation,
    incident: Incident | None,
    thread: Posted | None,
) -> list[Notice]:
    entry = known.get((channel.name, subject))
    if not _may_send(entry, situation):
        return []
    return [
        Notice(
            kind=kind,
            channel=channel,
            subjects=(subject,),
            incident=incident,
            thread=thread,
            again=entry is not None and entry.status == "pending",
            attempts=entry.attempts if entry is not None else 0,
        )
    ]


def _stored_notices(situation: Situation, known: dict[tuple[str, str], Entry]) -> list[Notice]:
    """Failures that could not be told: what they said is in the ledger."""
    by_name = {channel.name: channel for channel in channels_of(situation.settings)}
    return [
        Notice(
            kind=entry.kind,
            channel=by_name[entry.channel],
            subjects=(entry.subject_id,),
            again=entry.status == "pending",
            attempts=entry.attempts,
        )
        for entry in known.values()
        if entry.kind in STORED and entry.channel in by_name and _may_send(entry, situation)
    ]


def _clockwork(con: Connection, situation: Situation, known: dict[tuple[str, str], Entry]) -> list[Notice]:
    """What comes with time: the digest of a day, and the silence of a detector that has died."""
    as_of, policy = situation.as_of, situation.policy
    if as_of is None:
        return []
    _, ran_at = last_judged(con)
    subjects: list[tuple[Kind, str]] = []
    if ran_at is not None and as_of - ran_at > policy.heartbeat:
        subjects.append(("dead_detector", f"dead:{ran_at.isoformat()}"))
    day = policy.digest_day(as_of)
    if day is not None and ran_at is not None:
        subjects.append(("digest", f"digest:{day}"))
    return [
        notice
        for kind, subject in subjects
        for channel in channels_of(situation.settings)
        for notice in _once(subject, kind, channel, known, situation, None, None)
    ]
