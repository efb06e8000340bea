"""What is due to be told, to whom, over which channel: a function of the warehouse, the policy and the time."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from segue.alerts import ledger, state
from segue.alerts.cases import Case, cases, last_judged
from segue.alerts.channels import Channel, channels_of
from segue.alerts.ledger import LedgerEntry
from segue.alerts.message import STORED, Kind
from segue.alerts.policy import Policy
from segue.alerts.slack_bot import Posted
from segue.quality import Finding
from segue.settings import Settings
from segue.warehouse import Connection
from segue.watch import Anomaly, Severity

_MOST_OVER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message that has to go out over one channel."""

    kind: Kind
    channel: Channel
    subjects: tuple[str, ...]  # ids in the ledger
    case: Case | None = None
    anomalies: tuple[Anomaly, ...] = ()  # that the channel does not know yet
    faults: tuple[Finding, ...] = ()  # of the data, that the channel does not know yet
    root_id: str = ""  # of the incident that the channel was told of first
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
    found = _case_notices(con, situation, known)
    found += _stored_notices(situation, known)
    found += _clockwork(con, situation, known)
    return found


def _may_send(entry: LedgerEntry | None, situation: Situation) -> bool:
    return ledger.is_due(entry, as_of=None if situation.retry_now else situation.as_of)


def _case_notices(con: Connection, situation: Situation, known: dict[tuple[str, str], LedgerEntry]) -> list[Notice]:
    as_of, policy = situation.as_of, situation.policy
    told = state.threads(con)
    told_ids = {incident_id for incident_id, _ in told}
    silenced = state.mutes(con)
    on_it = state.acknowledged(con)
    quiet = as_of is not None and policy.quiet is not None and policy.quiet.contains(as_of)
    found = []
    for case in cases(con, situation.min_severity, as_of=as_of):
        if as_of is not None and case.is_muted(silenced, as_of):
            continue
        held = quiet and case.severity != "high"
        for channel in channels_of(situation.settings, case.place(con, policy, told_ids)):
            threads = [(told[i, channel.name], i) for i in case.ids if (i, channel.name) in told]
            before, root_id = min(threads, key=lambda t: t[0][1]) if threads else (None, case.ids[0])
            thread = before[0] if before is not None and channel.has_threads and before[0].ts else None
            fresh = [a for a in case.anomalies if _may_send(known.get((channel.name, a.anomaly_id)), situation)]
            faults = {s: f for s, f in case.faults.items() if _may_send(known.get((channel.name, s)), situation)}
            if before is None and case.data is not None and case.data.status == "withdrawn":
                faults = {}
            subjects = (*faults, *(a.anomaly_id for a in fresh))
            if subjects and not held:
                entries = [known.get((channel.name, s)) for s in subjects]
                found.append(
                    Notice(
                        kind="data_fault" if faults else "anomaly",
                        channel=channel,
                        subjects=subjects,
                        case=case,
                        anomalies=tuple(fresh),
                        faults=tuple(faults.values()),
                        root_id=root_id,
                        thread=thread,
                        is_update=before is not None,
                        again=any(e is not None and e.status == "pending" for e in entries),
                        attempts=max((e.attempts for e in entries if e is not None), default=0),
                    )
                )
            if before is None:
                continue
            if not case.is_open and not held and not subjects and _lasted(con, case):
                found += _once(f"recovered:{root_id}", "incident_over", channel, known, situation, case, thread)
            waits = (
                policy.escalate_after is not None and as_of is not None and as_of - before[1] >= policy.escalate_after
            )
            if waits and case.is_open and case.severity == "high" and not on_it.intersection(case.ids):
                subject = f"escalated:{root_id}"
                for higher in channels_of(situation.settings, policy.escalate_to):
                    found += _once(subject, "escalation", higher, known, situation, case, None)
    unique = {(n.channel.name, n.subjects): n for n in found}
    return _without_flood(list(unique.values()))


def _without_flood(notices: list[Notice]) -> list[Notice]:
    """More than a few that are over already are one message a kind: a first look at a history is no reason to shout."""
    found = [n for n in notices if not _is_over(n)]
    for name in dict.fromkeys(n.channel.name for n in notices):
        over = [n for n in notices if _is_over(n) and n.channel.name == name]
        if len(over) <= _MOST_OVER:
            found += over
            continue
        # Kind by kind: what a fault of the data has moved is told with it, and nothing else is.
        for kind in dict.fromkeys(n.kind for n in over):
            mine = [n for n in over if n.kind == kind]
            found.append(_together(mine) if len(mine) > 1 else mine[0])
    return found


def _together(over: list[Notice]) -> Notice:
    return replace(
        over[0],
        subjects=tuple(subject for n in over for subject in n.subjects),
        anomalies=tuple(anomaly for n in over for anomaly in n.anomalies),
        faults=tuple(fault for n in over for fault in n.faults),
        again=any(n.again for n in over),
        attempts=max(n.attempts for n in over),
        is_backlog=True,
    )


def _is_over(notice: Notice) -> bool:
    is_old = notice.case is not None and not notice.case.is_open
    return notice.kind in ("anomaly", "data_fault") and is_old and not notice.is_update


def _lasted(con: Connection, case: Case) -> bool:
    """A recovery tells of what lasted or was told while it was going on; what happened on one past day was over when it
    was told. That a KPI is as expected again, only days after it can say, once they have been judged."""
    day, _ = last_judged(con)
    is_judged = day is not None or not case.incidents
    return is_judged and case.detected_at.date() <= case.last_date + timedelta(days=1)


def _once(
    subject: str,
    kind: Kind,
    channel: Channel,
    known: dict[tuple[str, str], LedgerEntry],
    situation: Situation,
    case: Case | None,
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
            case=case,
            thread=thread,
            again=entry is not None and entry.status == "pending",
            attempts=entry.attempts if entry is not None else 0,
        )
    ]


def _stored_notices(situation: Situation, known: dict[tuple[str, str], LedgerEntry]) -> list[Notice]:
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


def _clockwork(con: Connection, situation: Situation, known: dict[tuple[str, str], LedgerEntry]) -> list[Notice]:
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
