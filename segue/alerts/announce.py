"""Tell people, once."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from segue.alerts import ledger, state
from segue.alerts.channels import Channel, channels_of, folder_of
from segue.alerts.compose import compose
from segue.alerts.errors import DeliveryError
from segue.alerts.ledger import LedgerEntry
from segue.alerts.message import (
    Alert,
    Kind,
    check_failed_alert,
    recovered_alert,
    run_failed_alert,
    trouble_alert,
    web_address,
)
from segue.alerts.plan import Notice, Situation, due
from segue.alerts.policy import load_policy
from segue.alerts.slack_bot import Posted
from segue.errors import BadInputError, SegueError
from segue.settings import Settings, load_settings
from segue.warehouse import Connection, Warehouse, WriterLock
from segue.watch import Severity, load_calendar

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that was taken."""

    channel: str
    alert_id: str
    title: str
    subject_count: int
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """A message that was not."""

    channel: str
    title: str
    subject_count: int
    reason: str
    is_final: bool  # trying again is of no use
    retry_after: float | None = None  # seconds that the channel asked to wait


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceReport:
    """What one round sent."""

    sent: tuple[Sent, ...] = ()
    not_sent: tuple[NotSent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A subject that a channel has still to be told of."""

    kind: Kind
    subject_id: str
    channel: str
    attempts: int  # so far


def pending(
    con: Connection,
    *,
    settings: Settings | None = None,
    as_of: datetime | None = None,
    min_severity: Severity = "medium",
) -> list[Pending]:
    """What waits to be announced, for the sensor that starts `announce`.

    Args:
        settings: decide the channels; default: those in force.
        as_of: leaves out what is to be told only later than this: what waits to be tried again, quiet hours.
    """
    current = settings or load_settings()
    situation = Situation(
        settings=current,
        policy=load_policy(current.dbt_project / "alerts.yml"),
        as_of=as_of,
        min_severity=min_severity,
        retry_now=False,
    )
    known = {(e.channel, e.subject_id): e for e in ledger.entries(con)}
    return [
        Pending(
            kind=notice.kind,
            subject_id=subject,
            channel=notice.channel.name,
            attempts=entry.attempts if (entry := known.get((notice.channel.name, subject))) else 0,
        )
        for notice in due(con, situation)
        for subject in notice.subjects
    ]


def pending_key(waiting: Sequence[Pending]) -> str:
    """The same for the same things waiting after the same attempts: a run key for the sensor."""
    lines = sorted(f"{p.channel} {p.subject_id} {p.attempts}" for p in waiting)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:20]


def announce(
    warehouse: Warehouse,
    settings: Settings,
    *,
    as_of: datetime,
    run_url: str | None = None,
    min_severity: Severity = "medium",
    progress: Callable[[str], None] | None = None,
) -> AnnounceReport:
    """Announce what has not been: one message per incident, an update in its thread, its recovery.

    Each channel is told of an anomaly once, however often and wherever this runs: the ledger
    `alerts.announcements` says `pending`, committed, before a message is sent, and `sent` after. A process that
    dies between the two leaves it open whether the message arrived: by bot token Slack is asked; elsewhere it is sent
    once more and then no more, twice at the worst. What a channel refuses is tried again at the next rounds, with
    growing pauses or as long as it asked; what it will never take is kept in the folder `alerts` under the home.

    Opens transactions of its own, and none while it sends.

    Args:
        as_of: aware UTC; stands in the message and in the ledger, and decides quiet hours, mutes and digests.
        run_url: where the message leads without a dashboard; default: the anomalies in the Dagster UI.
        min_severity: what is less severe stays in `watch.anomalies` only, and in the digest.

    Raises:
        BadSettingError: when the address of a channel cannot be used.
        DefinitionError: when `alerts.yml` or `calendar.yml` is wrong.
    """
    situation = Situation(
        settings=settings,
        policy=load_policy(settings.dbt_project / "alerts.yml"),
        as_of=as_of,
        min_severity=min_severity,
        retry_now=True,
    )
    calendar = load_calendar(settings.dbt_project / "calendar.yml")
    outcomes: list[Sent | NotSent] = []
    with _turn(settings):
        with warehouse.read() as con:
            entries = ledger.entries(con)
            before = {(e.channel, e.subject_id): e for e in entries}
            notices = due(con, situation)
            alerts = [
                compose(con, notice, settings, as_of=as_of, run_url=run_url, calendar=calendar) for notice in notices
            ]
        names = {notice.channel.name for notice in notices} | {c.name for c in channels_of(settings)}
        for name in sorted(names):
            given_up = [
                e.subject_id for e in entries if e.channel == name and e.status == "pending" and not e.may_be_sent
            ]
            if given_up:
                _give_up(warehouse, name, given_up, as_of)
        for notice, alert in zip(notices, alerts, strict=True):
            if progress is not None:
                progress(f"telling {notice.channel.name}: {alert.title}")
            outcomes.append(_send(warehouse, settings, notice, alert, before, as_of))
    return _report(outcomes)


def announce_failure(
    warehouse: Warehouse,
    settings: Settings,
    *,
    kind: Kind,
    subject_id: str,
    title: str,
    detail: str,
    url: str | None,
    as_of: datetime,
    patience: float | None = None,
) -> AnnounceReport:
    """Announce a failure, a trouble or its end, once per subject and channel, with the promise of `announce`.

    Whoever calls again with the same failure, since its tick was cut short, uses up no attempt: what was refused waits
    for its pause.

    Args:
        kind: `run_failed`, `check_failed`, `trouble`, or `recovered` for the end of one.
        subject_id: the same for the same failure.
        title: one line. detail: the reason; may have several lines. url: where to look.
        patience: seconds to wait, each time before anything is sent, for whoever else writes; left out: as long as it
            takes.

    Raises:
        BadInputError: on another kind.
        BusyError: when the patience has ended. What was sent by then is on record.
        BadSettingError: when the address of a channel cannot be used.
    """
    makers = {
        "run_failed": run_failed_alert,
        "check_failed": check_failed_alert,
        "trouble": trouble_alert,
        "recovered": recovered_alert,
    }
    if kind not in makers:
        raise BadInputError(f"{kind!r} is no kind of failure", fix=f"use one of {', '.join(makers)}")
    alert = makers[kind](subject_id=subject_id, title=title, detail=detail, url=url, as_of=as_of)
    outcomes: list[Sent | NotSent] = []
    channels = channels_of(settings)
    with _turn(settings, patience):
        for channel in channels:
            with warehouse.read() as con:
                before = {e.subject_id: e for e in ledger.entries(con) if e.channel == channel.name}
            if ledger.is_due(before.get(subject_id), as_of=as_of):
                notice = Notice(kind=kind, channel=channel, subjects=(subject_id,))
                known = {(channel.name, subject): e for subject, e in before.items()}
                outcomes.append(_send(warehouse, settings, notice, alert, known, as_of, patience=patience))
    return _report(outcomes)


def send_sample(settings: Settings, *, as_of: datetime) -> AnnounceReport:
    """Send an invented alert to every channel, so that a person sees where alerts go. Not in the ledger."""
    from segue.alerts.sample import sample_alert

    alert = sample_alert(as_of=as_of, url=web_address(settings.dashboard_url or settings.dagster_url))
    outcomes = [_deliver(channel, alert, 1)[0] for channel in channels_of(settings)]
    return _report(outcomes)


def _report(outcomes: Sequence[Sent | NotSent]) -> AnnounceReport:
    return AnnounceReport(
        sent=tuple(o for o in outcomes if isinstance(o, Sent)),
        not_sent=tuple(o for o in outcomes if isinstance(o, NotSent)),
    )


def _turn(settings: Settings, patience: float | None = None) -> AbstractContextManager[None]:
    """One sender at a time, so that `pending` in the ledger can only mean that its sender died."""
    return WriterLock(settings.home / "alerts" / "send.lock").held("announce", patience=patience)


def _send(
    warehouse: Warehouse,
    settings: Settings,
    notice: Notice,
    alert: Alert,
    before: dict[tuple[str, str], LedgerEntry],
    as_of: datetime,
    *,
    patience: float | None = None,
) -> Sent | NotSent:
    channel, subjects = notice.channel, notice.subjects
    mine = {subject: e for (name, subject), e in before.items() if name == channel.name}
    with warehouse.write(f"about to tell {channel.name}", patience=patience) as con:
        ledger.ensure_tables(con)
        ledger.claim(con, alert, channel.name, subjects, mine, as_of=as_of)
    outcome, posted = _deliver(channel, alert, len(subjects), thread=notice.thread, again=notice.again)
    is_final = isinstance(outcome, NotSent) and outcome.is_final
    detail = outcome.where if isinstance(outcome, Sent) else outcome.reason
    if is_final and channel.name != "folder":
        detail = f"{detail}\n  kept in {folder_of(settings).deliver(alert, None, False).where}"
    # Without a limit: what is not on record is sent twice.
    with warehouse.write(f"told {channel.name}") as con:
        ledger.settle(
            con,
            channel.name,
            subjects,
            as_of=as_of,
            detail=detail,
            error=isinstance(outcome, NotSent),
            is_final=is_final,
            retry_after=outcome.retry_after if isinstance(outcome, NotSent) else None,
        )
        if isinstance(outcome, Sent) and notice.case is not None and notice.kind in ("anomaly", "data_fault"):
            state.keep_thread(con, notice.root_id, channel.name, posted, as_of)
    return outcome


def _deliver(
    channel: Channel, alert: Alert, subject_count: int, *, thread: Posted | None = None, again: bool = False
) -> tuple[Sent | NotSent, Posted | None]:
    try:
        delivered = channel.deliver(alert, thread, again)
    except SegueError as error:
        log.warning("%s did not take the alert: %s", channel.name, error.message)
        return (
            NotSent(
                channel=channel.name,
                title=alert.title,
                subject_count=subject_count,
                reason=str(error),
                is_final=not isinstance(error, DeliveryError) or error.is_final,
                retry_after=error.retry_after if isinstance(error, DeliveryError) else None,
            ),
            None,
        )
    sent = Sent(
        channel=channel.name,
        alert_id=alert.alert_id,
        title=alert.title,
        subject_count=subject_count,
        where=delivered.where,
    )
    return sent, delivered.posted


def _give_up(warehouse: Warehouse, channel: str, subjects: Sequence[str], as_of: datetime) -> None:
    with warehouse.write(f"no more attempts at {channel}") as con:
        ledger.settle(
            con,
            channel,
            subjects,
            as_of=as_of,
            detail="the process stopped twice while sending, so it may have arrived; not sent again",
            error=True,
            is_final=True,
        )
