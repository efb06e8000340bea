"""The pages of incidents as HTML: of KPIs, and of the data."""

from collections.abc import Sequence
from datetime import date
from html import escape
from urllib.parse import quote, urlencode

from segue.dashboard import read
from segue.dashboard.frame import WEIGHTS, empty
from segue.dashboard.svg import Line, chart
from segue.quality import DataIncident
from segue.watch import Anomaly, Explanation, Incident, change_of, describe, name_of, percent, period
from segue.watch.words import points, where_of


def drivers(found: Explanation | None, anomaly: Anomaly) -> str:
    """Why it moved, as a table."""
    who = "the audience" if anomaly.slice == "all" else where_of(anomaly.slice)
    if found is None or not found.is_divided:
        return f'<p class="soft">What the parts of {escape(who)} did is not known.</p>'
    if not found.drivers:
        return f'<p class="soft">No single part of {escape(who)} stands out.</p>'

    def unit(value: float) -> str:
        from segue.watch import amount

        return amount(value, kpi=anomaly.kpi, kind=anomaly.kind)

    rows = "".join(
        f"<tr><td>{escape(d.name)}</td><td class=number>{100 * d.share:.0f} %</td><td class=number>"
        f"{escape(unit(d.expected))}</td><td class=number>{escape(unit(d.actual))}</td><td class=number>"
        f"{escape(percent((d.actual - d.expected) / d.expected)) if d.expected else ''}</td></tr>"
        for d in found.drivers
    )
    effects = ""
    if found.rate_effect is not None and found.mix_effect is not None and anomaly.kind == "ratio":
        effects = (
            f'<p class="soft">Of the change, {points(found.rate_effect)} points come from the parts themselves '
            f"(rate), {points(found.mix_effect)} from more or fewer people in each (mix).</p>"
        )
    return (
        "<div class=wide-scroll><table><caption>Why it moved</caption><thead><tr><th>Part</th>"
        "<th class=number>Of the change</th><th class=number>Usual</th>"
        "<th class=number>Then</th><th class=number>Change</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{effects}"
    )


def incident_line(incident: Incident) -> str:
    """An incident in one line with its link."""
    lead = incident.lead
    others = {(a.kpi, a.slice) for a in incident.anomalies} - {(lead.kpi, lead.slice)}
    more = f", and {len(others)} more series" if others else ""
    cause = ' <span class="soft">(explained by the data)</span>' if incident.data_cause else ""
    return (
        f'<a href="/incident/{escape(incident.incident_id, quote=True)}"><b class="{incident.severity}">'
        f"{escape(name_of(lead.kpi, lead.slice, lead.label))} {escape(change_of(lead))}</b></a> "
        f"{escape(period(lead))}{more}{cause}"
    )


def incident_page(
    incident: Incident,
    one: read.ShownSeries | None,
    reasons: Sequence[str],
    why: Explanation | None,
    *,
    is_acknowledged: bool,
) -> str:
    """Exactly what an alert told of."""
    lead = incident.lead
    parts = [f"<p>{escape(describe(lead))}</p>"]
    state = {"open": "Still going on", "recovered": "Over", "dismissed": "Dismissed: no anomaly"}[incident.status]
    parts.append(f'<p class="soft">{state}. Severity <b class="{incident.severity}">{incident.severity}</b>.</p>')
    if one is not None:
        parts.append(
            f'<section class="card">{chart(one.line, unit=one.unit, summary=describe(lead))}'
            f'<p class="soft"><a href="/kpi/{quote(lead.kpi, safe="")}?'
            f'{escape(urlencode({"slice": lead.slice, "days": 90}))}">'
            "Open the KPI</a></p></section>"
        )
    if reasons or why is not None:
        lines = "".join(f"<li>{escape(line)}</li>" for line in reasons)
        # The reasons are those of the whole incident: where they name parts, its lead need not have any of its own.
        is_told = bool(reasons) and why is not None and why.is_divided and not why.drivers
        parts_of_it = "" if is_told else drivers(why, lead)
        parts.append(
            f'<section class="card"><h2>Why, and what else happened</h2><ul>{lines}</ul>{parts_of_it}</section>'
        )
    rows = "".join(
        f'<tr><td class="{a.severity}">{a.severity}</td><td><a href="/kpi/{quote(a.kpi, safe="")}?'
        f'{escape(urlencode({"slice": a.slice, "days": 90}))}">{escape(name_of(a.kpi, a.slice, a.label))}</a></td>'
        f"<td class=number>{escape(change_of(a))}</td><td>{escape(period(a))}</td></tr>"
        for a in incident.anomalies
    )
    parts.append(
        "<section class=card><div class=wide-scroll><table><caption>What moved</caption><thead><tr><th>Severity</th>"
        f"<th>Series</th><th class=number>Change</th><th>When</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )
    if incident.status != "dismissed":
        ident = escape(incident.incident_id, quote=True)
        on_it = (
            ""
            if is_acknowledged
            else f'<form method="post" action="/incident/{ident}/acknowledge"><button>I am on it</button></form>'
        )
        parts.append(
            f'<section class="card filters"><h2>Say what it is</h2>{on_it}'
            f'<form method="post" action="/incident/{ident}/dismiss"><button>Not an anomaly</button></form></section>'
        )
    return "".join(parts)


def data_incident_page(
    data: DataIncident, line: Line | None, moved: Sequence[Incident], reasons: Sequence[str], *, is_acknowledged: bool
) -> str:
    """A fault of the data, and which KPIs moved because of it."""
    state = {"open": "Still going on", "recovered": "Over", "withdrawn": "Filled in by late data"}[data.status]
    owner = f" Owner: {escape(data.owner)}." if data.owner else ""
    parts = [
        f"<p>{escape(data.lead.sentence)}</p>",
        f'<p class="soft">{state}. Severity <b class="{data.severity}">{data.severity}</b>.{owner}</p>',
    ]
    if line is not None:
        about = data.lead.event or f"source {data.lead.source}"
        drawn = chart(line, unit=lambda v: f"{v:,.0f}", summary=f"Messages of {about} by day. {data.lead.sentence}")
        note = f'<p class="soft">Messages of {escape(about)} by day, as received.</p>'
        parts.append(f'<section class="card">{drawn}{note}</section>')
    rows = "".join(
        f'<tr><td class="{WEIGHTS[f.weight]}">{f.weight}</td><td>{escape(f.check.replace("_", " "))}</td>'
        f"<td class=date>{f.first_date}</td><td class=date>{f.last_date}</td><td>{escape(f.sentence)}</td></tr>"
        for f in data.findings
    )
    parts.append(
        "<section class=card><div class=wide-scroll><table><caption>What is wrong</caption><thead><tr><th>Weight</th>"
        f"<th>Check</th><th>Since</th><th>Until</th><th>What</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
    lines = "".join(f"<li>{incident_line(incident)}</li>" for incident in moved)
    parts.append(
        f'<section class="card"><h2>KPIs that moved because of it</h2><ul>{lines}</ul></section>'
        if moved
        else '<p class="soft">No KPI has left its expected range with it.</p>'
    )
    if reasons:
        lines = "".join(f"<li>{escape(line)}</li>" for line in reasons)
        parts.append(f'<section class="card"><h2>What else happened</h2><ul>{lines}</ul></section>')
    if not is_acknowledged and data.status == "open":
        ident = escape(data.incident_id, quote=True)
        parts.append(
            '<section class="card filters"><h2>Say what it is</h2>'
            f'<form method="post" action="/incident/{ident}/acknowledge"><button>I am on it</button></form></section>'
        )
    return "".join(parts)


def data_line(data: DataIncident) -> str:
    """A fault of the data in one line with its link."""
    return (
        f'<a href="/incident/{escape(data.incident_id, quote=True)}"><b class="{data.severity}">Data: '
        f"{escape(data.lead.subject)}</b></a> {escape(data.lead.sentence)}"
    )


def incidents_page(found: Sequence[Incident], data: Sequence[DataIncident] = ()) -> str:
    """All of them, latest first."""
    if not found and not data:
        return empty("No incident is on record", "Days are judged when they are over, after six weeks of history.")
    lines: list[tuple[date, str, str]] = [(i.first_date, i.status, incident_line(i)) for i in found[:200]]
    lines += [(d.first_date, d.status, data_line(d)) for d in data[:200]]
    rows = "".join(
        f"<tr><td class=date>{since.isoformat()}</td><td>{status}</td><td>{line}</td></tr>"
        for since, status, line in sorted(lines, key=lambda row: row[0], reverse=True)
    )
    return (
        "<section class=card><div class=wide-scroll><table><thead><tr><th>Since</th><th>State</th><th>What</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div></section>"
    )
