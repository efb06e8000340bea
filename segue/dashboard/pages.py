"""The pages as HTML."""

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from urllib.parse import quote, urlencode

from segue.dashboard import read
from segue.dashboard.svg import Line, chart, sankey, spark
from segue.quality import DataIncident, Finding
from segue.watch import Anomaly, Explanation, Incident, Kpi, change_of, day, describe, name_of, percent, period
from segue.watch.words import where_of

RANGES = (28, 90, 180, 365)
#: The colour of a fault of the data, by its weight.
WEIGHTS = {"error": "high", "warning": "medium", "note": "soft"}
_NAV = (
    ("/", "KPIs"),
    ("/incidents", "Incidents"),
    ("/segments", "Segments"),
    ("/clusters", "Clusters"),
    ("/scores", "Scores"),
    ("/retention", "Retention"),
    ("/funnel", "Funnel"),
    ("/health", "Data health"),
)


def layout(title: str, body: str, *, path: str, stamp: str) -> str:
    """A whole page."""
    links = "".join(
        f'<a href="{href}"{" aria-current=page" if href == path else ""}>{label}</a>' for href, label in _NAV
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} · Segue</title><link rel="stylesheet" href="/style.css"></head><body>'
        '<a class="skip" href="#content">Skip to the content</a>'
        f'<header><a class="name" href="/">Segue</a><nav aria-label="Pages">{links}</nav></header>'
        f'<main id="content"><h1>{escape(title)}</h1>{body}</main><footer>{stamp}</footer></body></html>'
    )


def stamp(fresh: read.Freshness) -> str:
    """How old what is shown is."""
    if fresh.last_day is None:
        return "No KPI has been built yet."
    judged = f"{fresh.judged_at:%Y-%m-%d %H:%M} UTC" if fresh.judged_at else "never"
    event = f"{fresh.last_event_at:%Y-%m-%d %H:%M} UTC" if fresh.last_event_at else "none"
    return (
        f"Whole days up to {day(fresh.last_day)}, all in UTC. Watched as of {judged}. Last event received: {event}. "
        "Sums only: no person is shown here."
    )


def empty(what: str, fix: str) -> str:
    """Nothing to show, and what to do."""
    return f'<div class="card empty"><p><b>{escape(what)}</b></p><p class="soft">{fix}</p></div>'


def filters(
    action: str,
    slices: Sequence[str] | None,
    *,
    slice_: str = "",
    days: int,
    more: str = "",
    ranges: Sequence[int] = RANGES,
) -> str:
    """The form that changes the address."""
    parts = [f'<form class="filters" method="get" action="{escape(action, quote=True)}">']
    if slices is not None:
        options = "".join(
            f'<option value="{escape(s, quote=True)}"{" selected" if s == slice_ else ""}>'
            f"{escape(where_of(s) or 'everybody')}</option>"
            for s in dict.fromkeys([*slices, slice_])
        )
        parts.append(f'<label>Who<select name="slice">{options}</select></label>')
    options = "".join(f"<option value={n}{' selected' if n == days else ''}>{n} days</option>" for n in ranges)
    parts.append(f'<label>How far back<select name="days">{options}</select></label>{more}<button>Show</button></form>')
    return "".join(parts)


def overview(
    shown: Sequence[read.Shown],
    kpis: Mapping[str, Kpi],
    open_incidents: Sequence[Incident],
    open_faults: Sequence[DataIncident],
    form: str,
    query: str,
) -> str:
    """A card per KPI, and what is going on."""
    parts = [form]
    if open_incidents or open_faults:
        lines = [data_line(fault) for fault in open_faults[:5]] + [incident_line(i) for i in open_incidents[:5]]
        rows = "".join(f"<li>{line}</li>" for line in lines)
        parts.append(f'<section class="card"><h2>Going on now</h2><ul>{rows}</ul></section>')
    cards = []
    for one in shown:
        d, value = one.line.points[-1]
        band = next((row for row in reversed(one.line.band) if row[0] == d), None)
        expected = f"expected {escape(one.unit(band[1]))}" if band else "not judged"
        last = next((a for a in one.anomalies if a.first_date <= d <= a.last_date), None)
        flag = f'<span class="{last.severity}"> {escape(change_of(last))}</span>' if last else ""
        label = kpis[one.kpi].label if one.kpi in kpis else name_of(one.kpi, "all")
        cards.append(
            f'<a class="card" href="/kpi/{quote(one.kpi, safe="")}?{escape(query, quote=True)}">'
            f"<h2>{escape(label)}</h2>"
            f'<div class="figure">{escape(one.unit(value))}{flag}</div>'
            f'<div class="soft">{escape(day(d, year=False))}, {expected}</div>{spark(one.line)}</a>'
        )
    parts.append(f'<div class="cards">{"".join(cards)}</div>')
    return "".join(parts)


def kpi_page(one: read.Shown, kpi: Kpi | None, form: str, why: Mapping[str, Explanation]) -> str:
    """One series: chart, disturbed days, why, the numbers."""
    last, value = one.line.points[-1]
    summary = f"{name_of(one.kpi, one.slice)}, {len(one.line.points)} days up to {day(last)}, last {one.unit(value)}"
    parts = [form]
    if kpi is not None and kpi.description:
        owner = f" Owner: {escape(kpi.owner)}." if kpi.owner else ""
        parts.append(f'<p class="soft">{escape(kpi.description)}{owner}</p>')
    parts.append(f'<section class="card">{chart(one.line, unit=one.unit, summary=summary)}')
    parts.append(f'<p class="soft">Blue: where 99 of 100 ordinary days lie. {escape(one.note)}</p></section>')
    for anomaly in sorted(one.anomalies, key=lambda a: a.first_date, reverse=True):
        parts.append(
            f'<section class="card" id="a-{escape(anomaly.anomaly_id, quote=True)}"><h2 class="{anomaly.severity}">'
            f"{escape(change_of(anomaly))} {escape(period(anomaly))}</h2><p>{escape(describe(anomaly))}</p>"
            f"{drivers(why.get(anomaly.anomaly_id), anomaly)}</section>"
        )
    bands = {row[0]: row for row in one.line.band}
    rows = "".join(
        f"<tr><td>{d.isoformat()}</td><td class=number>{escape(one.unit(v))}</td>"
        + (
            f"<td class=number>{escape(one.unit(bands[d][1]))}</td><td class=number>{escape(one.unit(bands[d][2]))} – "
            f"{escape(one.unit(bands[d][3]))}</td></tr>"
            if d in bands
            else "<td></td><td></td></tr>"
        )
        for d, v in reversed(one.line.points)
    )
    parts.append(
        "<details class=card><summary>The numbers</summary><div class=wide-scroll><table><thead><tr><th>Day</th>"
        "<th class=number>Value</th><th class=number>Expected</th><th class=number>Ordinary</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )
    return "".join(parts)


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
            f'<p class="soft">Of the change, {100 * found.rate_effect:+.1f} points come from the parts themselves '
            f"(rate), {100 * found.mix_effect:+.1f} from more or fewer people in each (mix).</p>"
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
    more = f", and {len(incident.anomalies) - 1} more series" if len(incident.anomalies) > 1 else ""
    cause = ' <span class="soft">(explained by the data)</span>' if incident.data_cause else ""
    return (
        f'<a href="/incident/{escape(incident.incident_id, quote=True)}"><b class="{incident.severity}">'
        f"{escape(name_of(lead.kpi, lead.slice))} {escape(change_of(lead))}</b></a> "
        f"{escape(period(lead))}{more}{cause}"
    )


def incident_page(
    incident: Incident,
    one: read.Shown | None,
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
        parts.append(
            f'<section class="card"><h2>Why, and what else happened</h2><ul>{lines}</ul>{drivers(why, lead)}</section>'
        )
    rows = "".join(
        f'<tr><td class="{a.severity}">{a.severity}</td><td><a href="/kpi/{quote(a.kpi, safe="")}?'
        f'{escape(urlencode({"slice": a.slice, "days": 90}))}">{escape(name_of(a.kpi, a.slice))}</a></td>'
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
        f"<td>{f.first_date}</td><td>{f.last_date}</td><td>{escape(f.sentence)}</td></tr>"
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
        f"<tr><td>{since.isoformat()}</td><td>{status}</td><td>{line}</td></tr>"
        for since, status, line in sorted(lines, key=lambda row: row[0], reverse=True)
    )
    return (
        "<section class=card><div class=wide-scroll><table><thead><tr><th>Since</th><th>State</th><th>What</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div></section>"
    )


def segments_page(
    sizes: Mapping[str, Sequence[tuple[date, float]]],
    flows: Sequence[tuple[str, str, int]],
    overlap: tuple[Sequence[tuple[str, int]], Mapping[tuple[str, str], int]],
    form: str,
    days: int,
) -> str:
    """Sizes, flows, overlap."""
    if not sizes and not overlap[0]:
        return form + empty("No segment has been evaluated yet", "<code>segue refresh</code> does it.")
    cards = "".join(
        f'<a class="card" href="/kpi/segment_size?{escape(urlencode({"slice": f"segment={name}", "days": days}))}">'
        f"<h2>{escape(name.replace('_', ' '))}</h2><div class=figure>{points[-1][1]:,.0f}</div>"
        f'<div class="soft">{points[-1][1] - points[0][1]:+,.0f} in {len(points)} days</div>'.replace(">-", ">−")
        + f"{spark(Line(points=points))}</a>"
        for name, points in sorted(sizes.items(), key=lambda item: -item[1][-1][1])
    )
    parts = [form, f'<div class="cards">{cards}</div>']
    if flows:
        total = sum(n for *_, n in flows)
        drawn = sankey(flows, summary=f"{total:,} moves of people between segments in {days} days")
        rows = "".join(
            f"<tr><td>{escape(a)}</td><td>{escape(b)}</td><td class=number>{n:,}</td></tr>" for a, b, n in flows
        )
        parts.append(
            f'<section class="card"><h2>Moves between segments, {days} days</h2><div class=wide-scroll>{drawn}</div>'
            "<details><summary>The numbers</summary><table><thead><tr><th>From</th><th>To</th>"
            f"<th class=number>Moves</th></tr></thead><tbody>{rows}</tbody></table></details></section>"
        )
    names, pairs = overlap
    if names:
        head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name, _ in names)
        body = "".join(
            f"<tr><th>{escape(a.replace('_', ' '))}</th>"
            + "".join(_heat(pairs.get((a, b), 0) / count if count else 0.0) for b, _ in names)
            + "</tr>"
            for a, count in names
        )
        parts.append(
            '<section class="card"><h2>Overlap</h2><p class="soft">Of the members of the row, the share that is also '
            'in the column.</p><div class=wide-scroll><table class="heat"><thead><tr><th></th>'
            f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
        )
    return "".join(parts)


def _heat(share: float, *, partial: bool = False) -> str:
    level = 0 if share <= 0 else min(1 + int(share * 6), 6)
    return f'<td class="h{level}{" partial" if partial else ""}">{100 * share:.0f} %</td>'


def retention_page(rows: Sequence[tuple[date, int, int, int, bool]], which: str, form: str) -> str:
    """The heat map."""
    if not rows:
        return form + empty("No cohort yet", "<code>segue refresh</code> builds them from the events.")
    table: dict[date, dict[int, tuple[int, bool]]] = {}
    people: dict[date, int] = {}
    for cohort, age, count, returned, complete in rows:
        table.setdefault(cohort, {})[age] = (returned, complete)
        people[cohort] = count
    ages = range(max(age for _, age, *_ in rows) + 1)
    head = "".join(f"<th>{age}</th>" for age in ages)
    newest = max(cohort.toordinal() + age * (7 if which == "week" else 1) for cohort, age, *_ in rows)
    lines = []
    for cohort in table:
        cells = []
        for age in ages:
            known = cohort.toordinal() + age * (7 if which == "week" else 1) <= newest
            returned, complete = table[cohort].get(age, (0, True))
            cells.append(_heat(returned / people[cohort], partial=not complete) if known else "<td></td>")
        lines.append(f"<tr><th>{escape(day(cohort, year=False))} · {people[cohort]:,}</th>{''.join(cells)}</tr>")
    return (
        f'{form}<section class="card"><p class="soft">Of the people who were new in that {which}, the share that was '
        f"active so many {which}s after their first day. Italics: not over for all of them.</p><div class=wide-scroll>"
        f'<table class="heat"><thead><tr><th>New · people</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
        "</table></div></section>"
    )


def funnel_page(steps: Sequence[tuple[str, int]], form: str) -> str:
    """Steps as bars."""
    if not steps or not steps[0][1]:
        return form + empty("Nobody has been active", "The steps are the variable funnel_steps in dbt_project.yml.")
    first = steps[0][1]
    rows = []
    for number, (step, count) in enumerate(steps):
        before = steps[number - 1][1] if number else count
        kept = f"{100 * count / before:.0f} % of the step before" if number and before else ""
        share = f"{100 * count / first:.1f}"
        rows.append(
            f"<tr><td>{escape(step)}</td><td class=number>{count:,}</td><td class=meter>"
            f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" height="20" role="img" '
            f'aria-label="{share} % of all">'
            f'<rect width="100" height="10" class="band"/><rect width="{share}" height="10" class="part"/></svg></td>'
            f"<td class=number>{share} %</td><td class=soft>{kept}</td></tr>"
        )
    return (
        f'{form}<section class="card"><p class="soft">People who took this step and all steps before it on one day, '
        f"summed over the days.</p><div class=wide-scroll><table><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def health_page(
    found: Sequence[Finding],
    fresh: read.Freshness,
    left_out: Sequence[tuple[str, str, str]],
) -> str:
    """Whether the data can be believed."""
    parts = []
    if found:
        rows = "".join(
            f'<tr><td class="{WEIGHTS[f.weight]}">{f.weight}</td><td>{escape(f.check.replace("_", " "))}</td>'
            f"<td>{f.first_date}</td><td>{escape(f.sentence)}</td></tr>"
            for f in found
        )
        parts.append(
            "<section class=card><div class=wide-scroll><table><caption>What is not as it was</caption><thead><tr>"
            f"<th>Weight</th><th>Check</th><th>Since</th><th>What</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
        )
    else:
        parts.append(
            empty("Nothing is out of the usual", "Volume, freshness, contracts, missing values, duplicates, clocks.")
        )
    parts.append(f'<section class="card"><h2>Freshness</h2><p>{stamp(fresh)}</p></section>')
    if left_out:
        rows = "".join(f"<tr><td>{escape(n)}</td><td>{escape(s)}</td><td>{escape(t)}</td></tr>" for n, s, t in left_out)
        parts.append(
            f"<details class=card><summary>{len(left_out)} series that are not judged by the day</summary>"
            "<div class=wide-scroll><table><thead><tr><th>Series</th><th>State</th><th>Why</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div></details>"
        )
    return "".join(parts)
