"""The page of the clusters: what each is like, how large it was, what happened to it, and who is near whom."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from typing import Any

from segue.clock import from_warehouse
from segue.dashboard import frame
from segue.dashboard.svg_groups import COLOURS, Group, colour, leaning, plane, sizes
from segue.warehouse import Connection, has_table
from segue.watch import day

METHODS = {"kmeans": "everybody is in one (K-Means)", "hdbscan": "only where people lie densely (HDBSCAN)"}

_BARS = 5
_MOST_EVENTS = 40


@dataclass(frozen=True, kw_only=True)
class ShownCluster:
    """One cluster."""

    group: Group
    cluster_id: int
    name: str
    profile: str
    person_count: int
    share: float
    differences: Sequence[Mapping[str, Any]]  # largest first


@dataclass(frozen=True, kw_only=True)
class ShownDiscovery:
    """What the last discoveries by one method came to."""

    as_of: datetime  # of the newest discovery
    person_count: int  # compared by it
    left_out_count: int
    criterion: str
    decision: str
    clusters: tuple[ShownCluster, ...]  # largest first
    clusters_as_of: datetime | None  # when people were last assigned to them
    sizes: Mapping[int, Sequence[tuple[date, int]]]  # per cluster, one figure a day
    events: Sequence[tuple[datetime, str, str]]  # when, what, told; newest first
    cells: Mapping[int, Sequence[tuple[int, int, int]]]  # per cluster, −1 is none: across, up, people


def read(con: Connection, method: str, *, days: int) -> ShownDiscovery | None:
    """None when nothing was ever looked for."""
    if not has_table(con, "clusters", "runs"):
        return None
    runs = con.execute(
        "select r.as_of, r.person_count, r.left_out_count, r.criterion, d.decision from clusters.runs r"
        " left join clusters.decisions d using (method, as_of) where method = $1 order by r.as_of desc limit 1",
        [method],
    ).fetchall()
    if not runs:
        return None
    rows = con.execute(
        "select cluster_id, cluster_name, profile, person_count, share, features, as_of from clusters.profiles"
        " where method = $1 order by person_count desc, cluster_id",
        [method],
    ).fetchall()
    colours = _colours([row[0] for row in rows])
    clusters = tuple(
        ShownCluster(
            group=Group(sign=str(row[0]), place=colours[row[0]], name=row[1]), cluster_id=row[0], name=row[1],
            profile=row[2], person_count=row[3], share=row[4], differences=json.loads(row[5]),
        )
        for row in rows
    )  # fmt: skip
    lines: dict[int, list[tuple[date, int]]] = {}
    for number, d, count in con.execute(
        "select cluster_id, as_of::date, arg_max(person_count, as_of) from clusters.sizes where method = $1"
        " and as_of > (select max(as_of) from clusters.sizes where method = $1) - $2::int * interval 1 day"
        " group by all order by 1, 2",
        [method, days],
    ).fetchall():
        lines.setdefault(number, []).append((d, int(count)))
    cells: dict[int, list[tuple[int, int, int]]] = {}
    if has_table(con, "clusters", "map"):
        for number, across, up, count in con.execute(
            "select cluster_id, across, up, person_count from clusters.map where method = $1 order by all", [method]
        ).fetchall():
            cells.setdefault(number, []).append((across, up, int(count)))
    as_of, compared, left_out, criterion, decision = runs[0]
    return ShownDiscovery(
        as_of=from_warehouse(as_of),
        person_count=compared,
        left_out_count=left_out,
        criterion=criterion,
        decision=decision or "",
        clusters=clusters,
        clusters_as_of=from_warehouse(rows[0][6]) if rows else None,
        sizes=lines,
        events=con.execute(
            "select as_of, event, explanation from clusters.events where method = $1"
            " order by as_of desc, event, cluster_id limit $2",
            [method, _MOST_EVENTS],
        ).fetchall(),
        cells=cells,
    )


def _colours(numbers: Sequence[int]) -> dict[int, int]:
    """A place for each cluster's colour: it keeps it for as long as it lives, unless an older one has it."""
    found: dict[int, int] = {}
    for number in sorted(numbers):
        free = [place for place in range(COLOURS) if place not in found.values()]
        found[number] = number % COLOURS if number % COLOURS in free or not free else free[0]
    return found


def page(found: ShownDiscovery | None, method: str, days: int) -> str:
    """As HTML."""
    options = "".join(
        f'<option value="{name}"{" selected" if name == method else ""}>{escape(words)}</option>'
        for name, words in METHODS.items()
    )
    form = frame.filters(
        "/clusters", None, days=days, more=f'<label>Found so that<select name="method">{options}</select></label>'
    )
    if found is None:
        return form + frame.empty(
            "Nobody has looked for clusters yet",
            "<code>segue refresh</code> does, when at least 20 people have done something.",
        )
    if not found.clusters:
        return form + frame.empty(f"There are no clusters: {found.criterion}", _what_helps(found.criterion))
    parts = [form, _summary(found)]
    cards = "".join(_card(one) for one in found.clusters)
    parts.append(f'<div class="cards">{cards}</div>')
    parts += [_map(found), _sizes(found), _events(found)]
    return "".join(parts)


def _what_helps(criterion: str) -> str:
    if criterion.startswith("too few people"):
        return "Wait for more people, or bring in more of their history: <code>segue import</code>."
    if criterion.startswith("all "):
        return "Compare other columns: <code>meta.segue.cluster</code> in person_features.yml."
    return "Look at the other way of finding them, above."


def _summary(found: ShownDiscovery) -> str:
    stale = ""
    if found.clusters_as_of is not None and found.clusters_as_of < found.as_of:
        stale = (
            f' <b class="medium">The last good clusters are shown, of {found.clusters_as_of:%Y-%m-%d}</b>: '
            f"{escape(found.criterion)}."
        )
    compared = sum(one.person_count for one in found.clusters)
    left = (
        f", {found.left_out_count:,} left out (too little activity, or in no cluster)" if found.left_out_count else ""
    )
    return (
        f'<p class="soft">{compared:,} people in {len(found.clusters)} clusters{left}. As of '
        f"{found.as_of:%Y-%m-%d %H:%M} UTC: {escape(found.decision)}. Criterion: {escape(found.criterion)}."
        f"{stale}</p>"
    )


def _card(one: ShownCluster) -> str:
    most = max((abs(d["difference"]) for d in one.differences[:_BARS]), default=0.0)
    rows = "".join(
        f"<tr><td>{escape(_column(d))}</td><td class=lean>{leaning(d['difference'], most)}</td>"
        f"<td class=number>{d['difference']:+.1f}</td></tr>".replace(">-", ">−")
        for d in one.differences[:_BARS]
    )
    return (
        f'<section class="card" id="c-{one.cluster_id}"><h2><span class="sign {colour(one.group.place)}">'
        f"{one.cluster_id}</span> {escape(one.name)}</h2>"
        f'<div class="figure">{one.person_count:,} <span class="soft">{100 * one.share:.0f} %</span></div>'
        f"<p>{escape(one.profile)}</p><table><caption>Standard deviations from everybody</caption><tbody>{rows}</tbody>"
        f'</table><p class="soft"><code>segue clusters adopt {one.cluster_id}</code> makes it a segment.</p></section>'
    )


def _column(difference: Mapping[str, Any]) -> str:
    name = str(difference["column"]).replace("_", " ")
    return f"{name}: missing" if difference["is_missing"] else name


def _map(found: ShownDiscovery) -> str:
    groups = {one.cluster_id: one.group for one in found.clusters}
    known = {groups.get(number): rows for number, rows in found.cells.items() if number in groups or number == -1}
    if not known:
        return ""
    drawn = plane(known, summary=f"Map of {found.person_count:,} people, near those who behave alike")
    return (
        '<section class="card"><h2>Who is near whom</h2><p class="soft">People who behave alike are near each other; a '
        f"dot is as large as the people in that place are many. The axes have no unit.</p>"
        f"{drawn}{_key(found)}</section>"
    )


def _sizes(found: ShownDiscovery) -> str:
    groups = {one.cluster_id: one.group for one in found.clusters}
    lines = {groups[number]: points for number, points in found.sizes.items() if number in groups}
    if not lines or max(len(points) for points in lines.values()) < 2:
        return (
            '<section class="card"><h2>Sizes over time</h2><p class="soft">One day is known so far; the next '
            "<code>segue refresh</code> adds another.</p></section>"
        )
    begin = min(d for points in lines.values() for d, _ in points)
    marks = [(moment.date(), text) for moment, _, text in found.events if moment.date() > begin]
    summary = "Sizes: " + ", ".join(
        f"{group.name} from {points[0][1]:,} to {points[-1][1]:,}" for group, points in lines.items()
    )
    rows = "".join(
        f"<tr><td>{escape(group.name)}</td><td class=number>{points[0][1]:,}</td><td class=number>{points[-1][1]:,}"
        "</td></tr>"
        for group, points in lines.items()
    )
    return (
        f'<section class="card"><h2>Sizes over time</h2>{sizes(lines, marks, summary=summary)}{_key(found)}'
        '<p class="soft">Dashed: a day on which something happened to a cluster.</p>'
        "<details><summary>The numbers</summary><table><thead><tr><th>Cluster</th><th class=number>People at first</th>"
        f"<th class=number>Now</th></tr></thead><tbody>{rows}</tbody></table></details></section>"
    )


def _key(found: ShownDiscovery) -> str:
    items = "".join(
        f'<li><a href="#c-{one.cluster_id}"><span class="sign {colour(one.group.place)}">{one.cluster_id}</span> '
        f"{escape(one.name)}</a></li>"
        for one in found.clusters
    )
    return f'<ul class="key">{items}</ul>'


def _events(found: ShownDiscovery) -> str:
    rows = "".join(
        f"<tr><td class=date>{escape(day(moment.date()))}</td><td>{escape(event)}</td><td>{escape(text)}</td></tr>"
        for moment, event, text in found.events
    )
    told = (
        "<div class=wide-scroll><table><thead><tr><th>When</th><th>What</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        if rows
        else '<p class="soft">Nothing yet.</p>'
    )
    return f'<section class="card"><h2>Born, split, merged, died</h2>{told}</section>'
