"""The pages of KPIs, segments, retention, funnel and the data's health as HTML."""

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from urllib.parse import quote, urlencode

from segue.dashboard import read
from segue.dashboard.frame import WEIGHTS, empty, stamp
from segue.dashboard.incident_pages import data_line, drivers, incident_line
from segue.dashboard.svg import Line, chart, sankey, spark
from segue.quality import DataIncident, Finding
from segue.watch import Explanation, Incident, Kpi, change_of, day, describe, name_of, period
from segue.watch.cohorts import Cohort


def overview(
    shown: Sequence[read.ShownSeries],
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
        unjudged = "judged by the week" if one.is_by_week else "not judged"
        expected = f"expected {escape(one.unit(band[1]))}" if band else unjudged
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


def kpi_page(one: read.ShownSeries, kpi: Kpi | None, form: str, why: Mapping[str, Explanation]) -> str:
    """One series: chart, disturbed days, why, the numbers."""
    last, value = one.line.points[-1]
    name = name_of(one.kpi, one.slice, kpi.label if kpi else "")
    summary = f"{name}, {len(one.line.points)} days up to {day(last)}, last {one.unit(value)}"
    parts = [form]
    if kpi is not None and kpi.description:
        owner = f" Owner: {escape(kpi.owner)}." if kpi.owner else ""
        parts.append(f'<p class="soft">{escape(kpi.description)}{owner}</p>')
    parts.append(f'<section class="card">{chart(one.line, unit=one.unit, summary=summary)}')
    blue = "Blue: where 99 of 100 ordinary days lie. " if one.line.band else ""
    parts.append(f'<p class="soft">{blue}{escape(one.note)}</p></section>')
    for anomaly in sorted(one.anomalies, key=lambda a: a.first_date, reverse=True):
        parts.append(
            f'<section class="card" id="a-{escape(anomaly.anomaly_id, quote=True)}"><h2 class="{anomaly.severity}">'
            f"{escape(change_of(anomaly))} {escape(period(anomaly))}</h2><p>{escape(describe(anomaly))}</p>"
            f"{drivers(why.get(anomaly.anomaly_id), anomaly)}</section>"
        )
    bands = {row[0]: row for row in one.line.band}
    rows = "".join(
        f"<tr><td class=date>{d.isoformat()}</td><td class=number>{escape(one.unit(v))}</td>"
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


def segments_page(
    sizes: Mapping[str, Sequence[tuple[date, float]]],
    flows: read.Flows,
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
    if flows.largest:
        summary = f"{flows.move_count:,} moves of people between segments in {days} days"
        note = "Between segments that exclude each other."
        if flows.flow_count > len(flows.largest):
            shown = sum(n for *_, n in flows.largest)
            note += (
                f" The {len(flows.largest)} largest flows of {flows.flow_count:,}: "
                f"{shown:,} of {flows.move_count:,} moves."
            )
        drawn = sankey(flows.largest, summary=f"{summary}. {note}")
        rows = "".join(
            f"<tr><td>{escape(a)}</td><td>{escape(b)}</td><td class=number>{n:,}</td></tr>" for a, b, n in flows.largest
        )
        parts.append(
            f'<section class="card"><h2>Moves between segments, {days} days</h2><p class="soft">{note}</p>'
            f"<div class=wide-scroll>{drawn}</div>"
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
            'in the column.</p><div class=wide-scroll><table class="heat narrow-names"><thead><tr><th></th>'
            f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
        )
    return "".join(parts)


def _heat(share: float, *, partial: bool = False) -> str:
    level = 0 if share <= 0 else min(1 + int(share * 6), 6)
    return f'<td class="h{level}{" partial" if partial else ""}">{100 * share:.0f} %</td>'


def retention_page(found: Sequence[Cohort], which: str, form: str) -> str:
    """The heat map."""
    if not found:
        return form + empty("No cohort yet", "<code>segue refresh</code> builds them from the events.")
    head = "".join(f"<th>{age}</th>" for age in range(len(found[0].cells)))
    lines = []
    for cohort in found:
        cells = ["<td></td>" if cell is None else _heat(cell[0], partial=not cell[1]) for cell in cohort.cells]
        name = f"{escape(day(cohort.first_date, year=False))} · {cohort.person_count:,}"
        lines.append(f"<tr><th>{name}</th>{''.join(cells)}</tr>")
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
            f"<td class=date>{f.first_date}</td><td>{escape(f.sentence)}</td></tr>"
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
