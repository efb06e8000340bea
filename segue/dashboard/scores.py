"""The page of the scores: which model is in force, how good it is, how people are scored, and where segments lead."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from typing import Any

from segue.clock import from_warehouse
from segue.dashboard import frame
from segue.dashboard.svg_groups import Group, calibration, share, sizes
from segue.scoring import DRIFTED, WAYS
from segue.warehouse import Connection, has_table

_FIGURES = (
    ("auc", "AUC"), ("pr_auc", "PR-AUC"), ("log_loss", "Log-loss"), ("brier", "Brier"),
    ("calibration_error", "Calibration error"),
)  # fmt: skip

#: Bands in the order in which they are read; others follow by name.
_BANDS = ("high", "medium", "low")

_MOST_CHANGES = 12


@dataclass(frozen=True, kw_only=True)
class ShownTraining:
    """What a training came to."""

    version: str | None
    as_of: datetime
    status: str  # published, challenger, refused
    reason: str
    metrics: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ShownPropensity:
    """One propensity."""

    name: str
    description: str
    score: str  # column of marts.person_scores; empty when that is not known
    horizon_days: int | None
    in_force: str | None  # version
    since: datetime | None  # of what is in force, or of the withdrawal; None: never was any
    why: str  # of that
    judged: ShownTraining | None  # whose figures are shown: of the model in force, else of the last one that has any
    last: ShownTraining  # the last training
    tenths: Sequence[int]  # people by their score today: below 0.1, below 0.2, …
    unscored_count: int
    bands: Mapping[str, Sequence[tuple[date, int]]]  # segment → members by day
    drifted: Sequence[tuple[str, float]]  # column → stability index beyond the limit


def read(con: Connection, *, days: int) -> list[ShownPropensity]:
    """Every propensity that training was ever asked for, by name."""
    if not has_table(con, "propensity", "versions"):
        return []
    columns = set()
    if has_table(con, "marts", "person_scores"):
        columns = {row[0] for row in con.execute("describe marts.person_scores").fetchall()}
    names = con.execute("select distinct name from propensity.versions order by 1").fetchall()
    return [_one(con, str(name), columns, days) for (name,) in names]


def _one(con: Connection, name: str, columns: set[str], days: int) -> ShownPropensity:
    rows = con.execute(
        "select version, as_of, status, reason, metrics, declaration from propensity.versions where name = $1"
        " order by as_of desc",
        [name],
    ).fetchall()
    trained = [
        ShownTraining(
            version=row[0], as_of=from_warehouse(row[1]), status=row[2], reason=row[3],
            metrics=json.loads(row[4]) if row[4] else None,
        )
        for row in rows
    ]  # fmt: skip
    said = json.loads(rows[0][5])
    published = con.execute(
        "select version, published_at, reason from propensity.published where name = $1"
        " order by published_at desc limit 1",
        [name],
    ).fetchall()
    version, since, why = published[0] if published else (None, None, "")
    score = str(said.get("score", ""))
    tenths, unscored = _scores(con, score) if score in columns else ([], 0)
    judged = next((t for t in trained if t.metrics and (version is None or t.version == version)), None)
    drifted = con.execute(
        'select "column", stability_index from propensity.drift where name = $1 and version = $3'
        " and stability_index > $2 and as_of = (select max(as_of) from propensity.drift where name = $1"
        " and version = $3) order by 2 desc, 1",
        [name, DRIFTED, version],
    ).fetchall()
    return ShownPropensity(
        name=name, description=str(said.get("description", "")), score=score, horizon_days=said.get("horizon_days"),
        in_force=version, since=from_warehouse(since) if since else None, why=why or "", judged=judged,
        last=trained[0], tenths=tenths, unscored_count=unscored, bands=_bands(con, score, days), drifted=drifted,
    )  # fmt: skip


def _scores(con: Connection, score: str) -> tuple[list[int], int]:
    column = '"' + score.replace('"', '""') + '"'
    found, unscored = [0] * 10, 0
    for place, count in con.execute(
        # `least` would pass over a null.
        f"select case when {column} >= 1 then 9 else floor(10 * {column})::int end, count(*) from marts.person_scores"
        " group by 1"
    ).fetchall():
        if place is None:
            unscored = int(count)
        else:
            found[place] = int(count)
    return found, unscored


def _bands(con: Connection, score: str, days: int) -> dict[str, list[tuple[date, int]]]:
    """The segments that are called after the score."""
    found: dict[str, list[tuple[date, int]]] = {}
    if not score or not has_table(con, "kpis", "daily"):
        return found
    for slice_, d, value in con.execute(
        "select slice, date::date, value from kpis.daily where kpi = 'segment_size'"
        " and starts_with(slice, 'segment=' || $1 || '_') and value is not null"
        " and date > (select max(date) from kpis.daily) - $2::int order by 1, 2",
        [score, days],
    ).fetchall():
        found.setdefault(slice_.partition("=")[2], []).append((d, int(value)))
    return found


def next_changes(con: Connection) -> list[tuple[str, str, int, float, int]]:
    """from, to, stays, probability, horizon in days: the likeliest, over all months."""
    if not has_table(con, "propensity", "next_changes"):
        return []
    return con.execute(
        "select from_segment, to_segment, stay_count, probability, horizon_days from propensity.next_changes"
        " where cohort = 'all' order by probability desc, 1, 2 limit $1",
        [_MOST_CHANGES],
    ).fetchall()


def page(shown: Sequence[ShownPropensity], changes: Sequence[tuple[str, str, int, float, int]], days: int) -> str:
    """As HTML."""
    form = frame.filters("/scores", None, days=days)
    if not shown:
        return form + frame.empty(
            "No score has been learnt yet",
            "<code>segue refresh</code> trains what is declared in <code>models/propensity</code>, when the history "
            "goes back far enough; <code>segue propensity list</code> says where it stands.",
        )
    return form + "".join(_section(one, days) for one in shown) + _changes(changes)


def _section(one: ShownPropensity, days: int) -> str:
    title = one.name.replace("_", " ")
    parts = [f'<section class="card" id="{escape(one.name, quote=True)}"><h2>{escape(title.capitalize())}</h2>']
    if one.description:
        parts.append(f'<p class="soft">{escape(one.description)}</p>')
    parts.append(_state(one))
    if one.drifted:
        listed = ", ".join(f"{column.replace('_', ' ')} ({index:.2f})" for column, index in one.drifted)
        parts.append(
            f'<p class="medium">Not distributed any more as when it was trained (index above {DRIFTED}): '
            f"{escape(listed)}. It is trained anew within a day.</p>"
        )
    if one.judged is not None and one.judged.metrics is not None:
        parts.append(_quality(one.judged, one.judged.metrics, is_in_force=one.in_force is not None))
    parts += [_today(one), _over_time(one, days), "</section>"]
    return "".join(parts)


def _state(one: ShownPropensity) -> str:
    last = f"{one.last.as_of:%Y-%m-%d}"
    name = escape(one.name)
    if one.in_force is not None and one.since is not None:
        text = (
            f'<p><b class="good">In force</b>: version <code>{escape(one.in_force)}</code> since '
            f"{one.since:%Y-%m-%d %H:%M} UTC: {escape(one.why)}.</p>"
        )
        if one.last.version != one.in_force:
            text += (
                f'<p class="soft">The last training, as of {last}, was {escape(one.last.status)}: '
                f"{escape(one.last.reason)}.</p>"
            )
        return text
    if one.since is not None:
        return (
            f'<p><b class="medium">No model is in force</b>: withdrawn {one.since:%Y-%m-%d %H:%M} UTC: '
            f"{escape(one.why)}. Nobody has this score. <code>segue propensity rollback {name}</code> puts the "
            "last one back.</p>"
        )
    return (
        f'<p><b class="medium">No model is in force</b>: as of {last}, {escape(one.last.reason)}. '
        f"Nobody has this score. It is tried again by itself; <code>segue propensity train</code> tries now.</p>"
    )


def _quality(judged: ShownTraining, metrics: Mapping[str, Any], *, is_in_force: bool) -> str:
    head = "".join(f"<th class=number>{words}</th>" for _, words in _FIGURES)
    rows = "".join(
        f"<tr><td>{escape(words)}</td>"
        + "".join(f"<td class=number>{metrics[way][key]:.3f}</td>" for key, _ in _FIGURES)
        + "</tr>"
        for way, words in WAYS
        if way in metrics
    )
    points = [(t["mean_score"], t["rate"], t["person_count"]) for t in metrics["tenths"]]
    worst = max(points, key=lambda p: abs(p[0] - p[1]))
    summary = (
        f"Calibration: {len(points)} groups of examples; the furthest off was said {100 * worst[0]:.0f} % and came to "
        f"{100 * worst[1]:.0f} %"
    )
    lift = "".join(
        f"<tr><td>{n}</td><td class=number>{100 * t['mean_score']:.1f} %</td><td class=number>{100 * t['rate']:.1f} %"
        f"</td><td class=number>{t['lift']:.2f}×</td></tr>"
        for n, t in enumerate(metrics["tenths"], start=1)
    )
    whose = "" if is_in_force else f" Of the last model that was trained, as of {judged.as_of:%Y-%m-%d}."
    return (
        f'<h3>How good it is</h3><p class="soft">Judged by {metrics["person_count"]:,} examples at '
        f"{len(metrics['dates'])} past dates, each time with what was known by then: somebody is an example at each "
        f"date.{whose}</p>"
        f"<div class=wide-scroll><table><thead><tr><th>Predicted by</th>{head}</tr></thead><tbody>{rows}</tbody>"
        '</table></div><p class="soft">AUC, PR-AUC: more is better; the others: less.</p><div class="pair"><div>'
        f"<h3>Is 70 % really 70 %?</h3>{calibration(points, summary=summary)}"
        '<p class="soft">A dot is a tenth of the examples; on the dashed line what was said came true.</p></div>'
        "<div><h3>By tenth of the examples, highest first</h3><div class=wide-scroll><table><thead><tr><th>Tenth</th>"
        "<th class=number>Said</th><th class=number>Came</th><th class=number>Lift</th></tr></thead>"
        f"<tbody>{lift}</tbody></table></div></div></div>"
    )


def _today(one: ShownPropensity) -> str:
    total = sum(one.tenths)
    if not total:
        return ""
    rows = "".join(
        f"<tr><td>{10 * n}–{10 * n + 10} %</td><td class=lean>{share(count / max(one.tenths))}</td>"
        f"<td class=number>{count:,}</td></tr>"
        for n, count in enumerate(one.tenths)
    )
    without = f" {one.unscored_count:,} are not asked about and have none." if one.unscored_count else ""
    return (
        f'<h3>Scores today</h3><p class="soft">{total:,} people have a score, <code>{escape(one.score)}</code>.'
        f"{without}</p><table class=narrow-first><tbody>{rows}</tbody></table>"
    )


def _over_time(one: ShownPropensity, days: int) -> str:
    if not one.score:
        return ""
    if not one.bands:
        return (
            f'<h3>Bands over time</h3><p class="soft">No segment is called after this score. One file '
            f"<code>models/segments/{escape(one.score)}_high.sql</code> makes one, as for churn_risk_high.</p>"
        )
    ranks = {f"{one.score}_{band}": n for n, band in enumerate(_BANDS)}
    named = sorted(one.bands, key=lambda name: (ranks.get(name, len(ranks)), name))
    groups = {
        name: Group(sign=name.removeprefix(f"{one.score}_").replace("_", " "), place=n, name=name.replace("_", " "))
        for n, name in enumerate(named)
    }
    now = ", ".join(f"{groups[name].name} {one.bands[name][-1][1]:,}" for name in named)
    links = ", ".join(
        f'<a href="/kpi/segment_size?slice=segment%3D{escape(name, quote=True)}&amp;days={days}">'
        f"{escape(groups[name].name)}</a> ({one.bands[name][-1][1]:,})"
        for name in named
    )
    if not any(count for points in one.bands.values() for _, count in points):
        return f'<h3>Bands over time</h3><p class="soft">Nobody has been in a band so far.</p><p>{links}</p>'
    if max(len(points) for points in one.bands.values()) < 2:
        return f"<h3>Bands</h3><p>{links}</p>"
    drawn = sizes({groups[name]: one.bands[name] for name in named}, (), summary=f"Bands over time, now: {now}")
    return f"<h3>Bands over time</h3>{drawn}<p>{links}</p>"


def _changes(changes: Sequence[tuple[str, str, int, float, int]]) -> str:
    if not changes:
        return ""
    horizon = changes[0][4]
    rows = "".join(
        f"<tr><td>{escape(a.replace('_', ' '))}</td><td>{escape(b.replace('_', ' '))}</td>"
        f"<td class=number>{100 * chance:.0f} %</td><td class=number>{stays:,}</td></tr>"
        for a, b, stays, chance, _ in changes
    )
    return (
        f'<section class="card"><h2>Where people go next</h2><p class="soft">Of those who entered one segment, how '
        f"many entered another within {horizon} days.</p><div class=wide-scroll><table><thead><tr><th>Entered</th>"
        f"<th>Then</th><th class=number>Chance</th><th class=number>Judged by stays</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )
