"""The words and pictures of what is due, from the warehouse."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from segue.alerts import ledger
from segue.alerts.cases import Case, cases, judged_through, last_judged
from segue.alerts.message import (
    MOST_ITEMS,
    STORED,
    Alert,
    Item,
    alert_id_of,
    anomaly_alert,
    item_of,
    series_count,
    web_address,
    with_title,
)
from segue.alerts.message_of_data import fault_alert, item_of_fault
from segue.alerts.plan import Notice
from segue.alerts.what_else import what_else
from segue.settings import Settings
from segue.warehouse import Connection
from segue.watch import (
    Anomaly,
    CalendarEntry,
    Incident,
    clean,
    day,
    explain,
    name_of,
    plot_anomaly,
    plot_overview,
)
from segue.watch.words import points, where_of

log = logging.getLogger(__name__)

_DRAWN = 3
#: Reasons in one message.
_LINES = 12
#: What is usual is learned from four weeks: a fault that lasts for half of them begins to look usual.
_USUAL_BY_NOW = 14


def compose(
    con: Connection,
    notice: Notice,
    settings: Settings,
    *,
    as_of: datetime,
    run_url: str | None,
    calendar: tuple[CalendarEntry, ...],
) -> Alert:
    """The alert of a notice. What cannot be drawn or explained is left out; the words go out all the same."""
    if notice.kind in STORED:
        return ledger.stored_alert(con, notice.channel.name, notice.subjects[0])
    if notice.kind == "dead_detector":
        return _dead(con, notice, settings, as_of)
    if notice.kind == "digest":
        return _digest(con, notice, settings, as_of)
    case = notice.case
    assert case is not None
    url = case_url(settings, case) or run_url or f"{settings.dagster_url.rstrip('/')}/assets/{_asset(case)}"
    if notice.kind == "incident_over":
        return _recovered(notice, case, as_of, url)
    if notice.is_backlog and settings.dashboard_url:
        url = web_address(f"{settings.dashboard_url.rstrip('/')}/incidents") or url
    is_whole = notice.kind == "escalation"
    found = case.anomalies if is_whole else notice.anomalies
    faults = tuple(case.faults.values()) if is_whole else notice.faults
    alert = _drawn(con, found, as_of=as_of, url=url) if found else None
    if faults:
        alert = fault_alert(
            faults,
            alert,
            moved_count=series_count(found),
            told_count=series_count(a for a in case.anomalies if a not in found),
            is_backlog=notice.is_backlog,
            subjects=notice.subjects,
            as_of=as_of,
            url=url,
        )
    assert alert is not None
    if settings.dashboard_url:
        there = "incidents" if notice.is_backlog else "chart" if found else "incident"
        alert = replace(alert, link_text=f"Open the {there}")
    if notice.is_backlog:
        return replace(alert, summary=f"{alert.summary} All of it is over; the dashboard says why.")
    lines = [line for incident in case.incidents for line in reasons(con, incident, calendar)]
    if not case.incidents:
        lines = what_else(con, first=case.first_date, last=case.last_date, calendar=calendar)
    lines = list(dict.fromkeys(lines))[:_LINES]
    if notice.is_update:
        alert = with_title(alert, "Also: ")
    else:
        if case.incidents:
            lines.append(f"Not an anomaly? segue anomalies dismiss {case.incidents[0].lead.anomaly_id}")
        lines.append(f"You are on it? segue alerts ack {case.ids[0]}")
    if is_whole:
        ident = alert_id_of("escalation", notice.subjects)
        alert = replace(with_title(alert, "Nobody is on it: "), kind="escalation", alert_id=ident)
    return replace(alert, detail="\n".join(clean(line, limit=400) for line in lines))


def case_url(settings: Settings, case: Case) -> str | None:
    """The page of the dashboard that shows exactly this; None when nobody has said where the dashboard is."""
    if not settings.dashboard_url:
        return None
    return web_address(f"{settings.dashboard_url.rstrip('/')}/incident/{case.ids[0]}")


def _asset(case: Case) -> str:
    return "quality/findings" if case.data is not None else "watch/anomalies"


def reasons(con: Connection, incident: Incident, calendar: tuple[CalendarEntry, ...]) -> list[str]:
    """Why it moved and what else happened, a sentence each."""
    lines = []
    if incident.data_cause:
        lines.append(f"Explained by the data, not by people: {incident.data_cause}")
    try:
        lead = next((a for a in incident.anomalies if a.slice == "all"), incident.lead)
        lines += why(con, lead)
    except Exception:  # an explanation that fails must not hold up the news
        log.exception("the alert goes out without its drivers")
    return lines + what_else(
        con,
        first=incident.first_date,
        last=incident.last_date,
        calendar=calendar,
        known=incident.data_cause,
    )


def why(con: Connection, anomaly: Anomaly) -> list[str]:
    """What explains an anomaly, in sentences; empty when nothing stands out."""
    found = explain(con, anomaly)
    lines = []
    if found.is_too_soon:
        lines.append("Which part moved most is known when the day is over")
    if found.words:
        inside = f" within {where_of(anomaly.slice)}" if anomaly.slice != "all" else ""
        lines.append(f"Moved most{inside}: {found.words}")
    if found.rate_effect is not None and found.mix_effect is not None and anomaly.kind == "ratio":
        lines.append(
            f"Of the change, {points(found.rate_effect)} points come from the parts themselves, "
            f"{points(found.mix_effect)} from more or fewer people in each"
        )
    return lines


def _drawn(con: Connection, found: tuple[Anomaly, ...], *, as_of: datetime, url: str) -> Alert:
    known_until, _ = last_judged(con)
    plain = anomaly_alert(found, as_of=as_of, known_until=known_until, url=url)
    charts: dict[str, bytes] = {}
    overview = None
    try:
        for item in plain.items[:_DRAWN]:
            charts[item.subject_id] = plot_anomaly(con, item.subject_id)
        overview = plot_overview(con, ids=[a.anomaly_id for a in found]) if len(found) > 1 else None
    except Exception:  # a picture that cannot be drawn must not hold up the words
        log.exception("the alert goes out without its pictures")
    return anomaly_alert(
        found,
        as_of=as_of,
        known_until=known_until,
        url=url,
        overview=overview,
        charts=charts,
    )


def _recovered(notice: Notice, case: Case, as_of: datetime, url: str) -> Alert:
    data = case.data
    moved = series_count(case.anomalies)
    if data is None:
        lead = case.incidents[0].lead
        title = f"Recovered: {name_of(lead.kpi, lead.slice, lead.label)} is as expected again"
        summary = f"{moved} series had left {'their' if moved > 1 else 'its'} expected range."
    else:
        title = f"Over: {data.lead.sentence}"
        summary = f"{moved} KPI series had moved with it." if moved else "No KPI had moved with it."
        if data.status == "withdrawn":
            title, summary = f"Filled in: {data.lead.sentence}", "What was missing has arrived late."
        elif (case.last_date - case.first_date).days >= _USUAL_BY_NOW:
            summary += " After so long it may also be what is usual by now: look whether it was mended."
    return _plain(
        notice,
        title=title,
        summary=f"What began on {day(case.first_date)} ended on {day(case.last_date)}; {summary}",
        as_of=as_of,
        url=url,
        link_text="Open the chart" if case.incidents else "Open the incident",
    )


def _dead(con: Connection, notice: Notice, settings: Settings, as_of: datetime) -> Alert:
    _, ran_at = last_judged(con)
    hours = (as_of - ran_at).total_seconds() / 3600 if ran_at is not None else 0.0
    alert = _plain(
        notice,
        title=f"Nothing has been watched for {hours:.0f} hours",
        summary="The detection of anomalies has not run since "
        f"{ran_at:%Y-%m-%d %H:%M} UTC. No alert does not mean that all is well.",
        as_of=as_of,
        url=web_address(f"{settings.dagster_url.rstrip('/')}/assets/watch/anomalies"),
        link_text="Open the asset in Dagster",
    )
    return replace(alert, severity="high")


def _digest(con: Connection, notice: Notice, settings: Settings, as_of: datetime) -> Alert:
    since = as_of.date() - timedelta(days=2)
    found = [c for c in cases(con, "low", as_of=None) if c.last_date >= since and (c.is_open or c.incidents)]
    items: list[Item] = [_item_of_case(case) for case in found]
    words = f"{len(found)} incidents" if len(found) != 1 else "1 incident"
    title, said = [words] if found else [], []
    if found:
        said.append(f"{words} touched the last two days, {sum(c.is_open for c in found)} still going on.")
    unjudged = _unjudged(con, as_of)
    if unjudged is not None:
        title.append(unjudged[0])
        said.append(f"{unjudged[0][:1].upper()}{unjudged[0][1:]}. {unjudged[1]}")
    elif not found:
        title.append("nothing out of line")
        said.append("Every series that is watched was as expected on the last two days.")
    alert = _plain(
        notice,
        title=f"Daily digest: {', '.join(title)}",
        summary=" ".join(said),
        as_of=as_of,
        url=web_address(settings.dashboard_url or settings.dagster_url),
        link_text="Open the dashboard" if settings.dashboard_url else "Open Dagster",
    )
    return replace(
        alert,
        severity="low" if unjudged is None else "high",
        items=tuple(items[:MOST_ITEMS]),
        left_out_count=len(items[MOST_ITEMS:]),
    )


def _unjudged(con: Connection, as_of: datetime) -> tuple[str, str] | None:
    """That yesterday has not been judged, and what to do; None when it has been."""
    through, (newest, ran_at) = judged_through(con), last_judged(con)
    if through is None or newest is None or ran_at is None:
        return "nothing has been judged yet", 'Why not, says `segue sql "from watch.series"`.'
    if through >= as_of.date() - timedelta(days=1):
        return None
    when = f"{ran_at:%Y-%m-%d %H:%M} UTC"
    fix = f"The detection has not run since {when}: Dagster says why, and `segue refresh` runs it."
    if through < ran_at.date() - timedelta(days=1):
        fix = f"The detection of {when} found no newer whole day: look whether events arrive, and run `segue refresh`."
    return f"nothing has been judged since {day(newest)}", f"{fix} No alert does not mean that all is well."


def _item_of_case(case: Case) -> Item:
    if case.data is not None:
        return item_of_fault(case.data.lead, case.data.incident_id)
    return item_of(case.incidents[0].lead, known_until=None, chart=None)


def _plain(notice: Notice, *, title: str, summary: str, as_of: datetime, url: str | None, link_text: str) -> Alert:
    return Alert(
        alert_id=alert_id_of(notice.kind, notice.subjects),
        kind=notice.kind,
        severity="low",
        title=clean(title, limit=140),
        summary=clean(summary, limit=600),
        items=(),
        left_out_count=0,
        detail="",
        link_text=link_text,
        url=url,
        as_of=as_of,
    )
