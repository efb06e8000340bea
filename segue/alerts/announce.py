"""Tell people, once."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from segue.alerts import ledger
from segue.alerts.channels import Channel, channels_of, folder_of
from segue.alerts.errors import DeliveryError
from segue.alerts.ledger import Entry
from segue.alerts.message import (
    Alert,
    Kind,
    anomaly_alert,
    check_failed_alert,
    recovered_alert,
    run_failed_alert,
    trouble_alert,
    web_address,
)
from segue.clock import to_warehouse
from segue.errors import BadInputError, SegueError
from segue.settings import Settings, load_settings
from segue.warehouse import Connection, Warehouse, WriterLock, has_table
from segue.watch import Anomaly, Severity, anomalies, plot_anomaly, plot_overview

log = logging.getLogger(__name__)

#: An anomaly that ended longer ago than this, before the last judged day, is history and no news: somebody who
#: sets up Slack today is not sent last year.
NEWS_DAYS = 35
_DRAWN = 3


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
        as_of: leaves out what is to be tried again only later than this.
    """
    names = [channel.name for channel in channels_of(settings or load_settings())]
    known = {(e.channel, e.subject_id): e for e in ledger.entries(con)}
    moment = None if as_of is None else to_warehouse(as_of)

    def is_due(entry: Entry) -> bool:
        return moment is None or entry.next_attempt_at is None or entry.next_attempt_at <= moment

    fresh = [
        Pending(kind="anomaly", subject_id=a.anomaly_id, channel=name, attempts=0)
        for name in names
        for a in _news(con, min_severity)
        if (name, a.anomaly_id) not in known
    ]
    still_there = {a.anomaly_id for a in _news(con, min_severity)}
    again = [
        Pending(kind=e.kind, subject_id=e.subject_id, channel=e.channel, attempts=e.attempts)
        for e in known.values()
        if e.channel in names and e.may_be_sent and is_due(e) and (e.kind != "anomaly" or e.subject_id in still_there)
    ]
    return [*fresh, *again]


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
    """Announce every anomaly that has not been, and send again what failed before.

    Each channel is told of an anomaly once, however often and wherever this runs: the ledger
    `alerts.announcements` says `pending`, committed, before a message is sent, and `sent` after. A process that
    dies between the two leaves it open whether the message arrived, so it is sent once more and then no more:
    twice at the worst. What a channel refuses is tried again at the next rounds, with growing pauses; what it
    will never take is kept in the folder `alerts` under the home.

    Opens transactions of its own, and none while it sends. All anomalies that wait go in one message.

    Args:
        as_of: aware UTC; stands in the message and in the ledger.
        run_url: where the message leads; default: the anomalies in the Dagster UI.
        min_severity: what is less severe stays in `watch.anomalies` only.

    Raises:
        BadSettingError: when the address of a channel cannot be used.
    """
    channels = channels_of(settings)
    outcomes: list[Sent | NotSent] = []
    with _turn(settings):
        for channel in channels:
            with warehouse.read() as con:
                before = {e.subject_id: e for e in ledger.entries(con) if e.channel == channel.name}
                given_up = [e.subject_id for e in before.values() if e.status == "pending" and not e.may_be_sent]
                new = [a for a in _news(con, min_severity) if (e := before.get(a.anomaly_id)) is None or e.may_be_sent]
                alerts: list[tuple[Alert, list[str]]] = []
                if new:
                    link = run_url or f"{settings.dagster_url.rstrip('/')}/assets/watch/anomalies"
                    alerts.append((_draw(con, new, as_of=as_of, url=link), [a.anomaly_id for a in new]))
                for entry in before.values():
                    if entry.kind != "anomaly" and entry.may_be_sent:
                        alerts.append((ledger.stored_alert(con, channel.name, entry.subject_id), [entry.subject_id]))
            if given_up:
                _give_up(warehouse, channel.name, given_up, as_of)
            for alert, subjects in alerts:
                if progress is not None:
                    progress(f"telling {channel.name}: {alert.title}")
                outcomes.append(_send(warehouse, settings, channel, alert, subjects, before, as_of))
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
) -> AnnounceReport:
    """Announce a failure, a trouble or its end, once per subject and channel, with the promise of `announce`.

    Args:
        kind: `run_failed`, `check_failed`, `trouble`, or `recovered` for the end of one.
        subject_id: the same for the same failure.
        title: one line. detail: the reason; may have several lines. url: where to look.

    Raises:
        BadInputError: on another kind.
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
    with _turn(settings):
        for channel in channels:
            with warehouse.read() as con:
                before = {e.subject_id: e for e in ledger.entries(con) if e.channel == channel.name}
            entry = before.get(subject_id)
            if entry is None or entry.may_be_sent:
                outcomes.append(_send(warehouse, settings, channel, alert, [subject_id], before, as_of))
    return _report(outcomes)


def send_sample(settings: Settings, *, as_of: datetime) -> AnnounceReport:
    """Send an invented alert to every channel, so that a person sees where alerts go. Not in the ledger."""
    from segue.alerts.sample import sample_alert

    alert = sample_alert(as_of=as_of, url=web_address(settings.dagster_url))
    outcomes = [_deliver(channel, alert, 1) for channel in channels_of(settings)]
    return _report(outcomes)


def _report(outcomes: Sequence[Sent | NotSent]) -> AnnounceReport:
    return AnnounceReport(
        sent=tuple(o for o in outcomes if isinstance(o, Sent)),
        not_sent=tuple(o for o in outcomes if isinstance(o, NotSent)),
    )


def _turn(settings: Settings) -> AbstractContextManager[None]:
    """One sender at a time, so that `pending` in the ledger can only mean that its sender died."""
    return WriterLock(settings.home / "alerts" / "send.lock").held("announce")


def _news(con: Connection, min_severity: Severity) -> list[Anomaly]:
    found = anomalies(con, min_severity=min_severity)
    if not found or not has_table(con, "watch", "series"):
        return found
    row = con.execute("select max(last_judged_date) from watch.series").fetchone()
    if row is None or row[0] is None:
        return found
    oldest = row[0] - timedelta(days=NEWS_DAYS)
    return [a for a in found if a.last_date >= oldest]


def _draw(con: Connection, new: Sequence[Anomaly], *, as_of: datetime, url: str) -> Alert:
    row = con.execute("select max(last_judged_date) from watch.series").fetchone()
    known_until = row[0] if row is not None else None
    plain = anomaly_alert(new, as_of=as_of, known_until=known_until, url=url)
    charts: dict[str, bytes] = {}
    overview = None
    try:
        for item in plain.items[:_DRAWN]:
            charts[item.subject_id] = plot_anomaly(con, item.subject_id)
        overview = plot_overview(con, ids=[a.anomaly_id for a in new]) if len(new) > 1 else None
    except Exception:  # a picture that cannot be drawn must not hold up the words
        log.exception("the alert goes out without its pictures")
    return anomaly_alert(new, as_of=as_of, known_until=known_until, url=url, overview=overview, charts=charts)


def _send(
    warehouse: Warehouse,
    settings: Settings,
    channel: Channel,
    alert: Alert,
    subjects: Sequence[str],
    before: dict[str, Entry],
    as_of: datetime,
) -> Sent | NotSent:
    with warehouse.write(f"about to tell {channel.name}") as con:
        ledger.ensure_tables(con)
        ledger.claim(con, alert, channel.name, subjects, before, as_of=as_of)
    outcome = _deliver(channel, alert, len(subjects))
    is_final = isinstance(outcome, NotSent) and outcome.is_final
    detail = outcome.where if isinstance(outcome, Sent) else outcome.reason
    if is_final and channel.name != "folder":
        detail = f"{detail}\n  kept in {folder_of(settings).deliver(alert)}"
    with warehouse.write(f"told {channel.name}") as con:
        ledger.settle(
            con,
            channel.name,
            subjects,
            as_of=as_of,
            detail=detail,
            error=isinstance(outcome, NotSent),
            is_final=is_final,
        )
    return outcome


def _deliver(channel: Channel, alert: Alert, subject_count: int) -> Sent | NotSent:
    try:
        where = channel.deliver(alert)
    except SegueError as error:
        log.warning("%s did not take the alert: %s", channel.name, error.message)
        return NotSent(
            channel=channel.name,
            title=alert.title,
            subject_count=subject_count,
            reason=str(error),
            is_final=not isinstance(error, DeliveryError) or error.is_final,
        )
    return Sent(
        channel=channel.name, alert_id=alert.alert_id, title=alert.title, subject_count=subject_count, where=where
    )


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
