"""Pictures of a series, an anomaly, and all anomalies at once: PNG, readable without a legend hunt."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any

from segue.clock import to_warehouse
from segue.errors import BadInputError
from segue.warehouse import Connection, has_table
from segue.watch.forecast import Forecast
from segue.watch.series import Point, Series, read_one
from segue.watch.tables import Anomaly, Kind, anomalies
from segue.watch.weekly import by_week
from segue.watch.words import amount, change_of, clean, day, name_of, period

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
LINE, BAND = "#3b5bdb", "#dbe4ff"
COLOURS = {"high": "#c92a2a", "medium": "#e8590c", "low": "#b08900"}
_DPI = 110
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What a picture of one series shows."""

    points: list[Point]
    band: list[tuple[date, float, float, float]]  # date, expected, lower, upper
    kind: Kind
    step_days: int = 1  # between two points


def plot_anomaly(con: Connection, anomaly_id: str, *, as_of: datetime | None = None) -> bytes:
    """PNG of an anomaly: six weeks before it, what was expected, the disturbed days.

    Args:
        as_of: shows no day that was not over then; default: every complete day on record.

    Raises:
        BadInputError: when there is no such anomaly.
    """
    found = anomalies(con, ids=[anomaly_id])
    if not found:
        raise BadInputError(f"there is no anomaly {anomaly_id!r}", fix="`segue anomalies list` shows those on record")
    anomaly = found[0]
    if anomaly.hours is not None:
        return _draw_hours(con, anomaly, anomaly.hours)
    first, last = anomaly.first_date - timedelta(days=42), anomaly.last_date + timedelta(days=14)
    series = read_one(con, anomaly.kpi, anomaly.slice)
    if anomaly.grain == "week":
        view = _by_week(series, anomaly, last=_cap(last, as_of))
    else:
        view = _view(con, series, first=first, last=_cap(last, as_of))
    title = f"{name_of(anomaly.kpi, anomaly.slice, anomaly.label)}: {change_of(anomaly)} {period(anomaly)}"
    return _draw(view, kpi=anomaly.kpi, title=title, marked=[anomaly], subtitle=_legend(anomaly))


def plot_overview(
    con: Connection,
    *,
    as_of: datetime | None = None,
    days: int = 35,
    most: int = 30,
    ids: Sequence[str] | None = None,
) -> bytes:
    """PNG with a row per disturbed series and a bar per anomaly, coloured by severity.

    Args:
        days: how far back it looks.
        most: at most this many series; the most severe are kept.
        ids: only these anomalies.
    """
    last = _cap(date.max, as_of)
    found = [a for a in anomalies(con, ids=ids) if a.first_date <= last]
    ends = [a.last_date for a in found]
    if has_table(con, "watch", "series"):
        judged = con.execute("select max(last_judged_date) from watch.series").fetchall()
        ends += [day_ for (day_,) in judged if day_ is not None]
    until = min(max(ends, default=date(2000, 1, 1)), last)
    first = until - timedelta(days=days - 1)
    found = [a for a in found if a.last_date >= first]
    order = list(dict.fromkeys((a.kpi, a.slice) for a in found))
    rows = order[:most]
    fig, ax = canvas(height=1.5 + 0.34 * max(len(rows), 2))
    label: dict[str, Any] = {
        "va": "center",
        "ha": "left",
        "fontsize": 8,
        "color": INK,
        "zorder": 4,
        "parse_math": False,
    }
    labels = {(a.kpi, a.slice): a.label for a in found}
    for y, key in enumerate(rows):
        bars = sorted((a for a in found if (a.kpi, a.slice) == key), key=lambda a: a.first_date)
        for anomaly, following in zip_longest(bars, bars[1:]):
            start = max(anomaly.first_date, first)
            width = (anomaly.last_date - start).days + 1
            ax.barh(y, width - 0.12, left=_number(start) - 0.44, height=0.62, color=COLOURS[anomaly.severity], zorder=3)
            if following is None or (following.first_date - anomaly.last_date).days >= 5:
                ax.text(_number(anomaly.last_date) + 0.7, y, change_of(anomaly), **label)
    ax.set_yticks(
        range(len(rows)), [drawable(name_of(*key, labels[key]), 36) for key in rows], fontsize=9, parse_math=False
    )
    ax.set_ylim(max(len(rows), 2) - 0.4, -0.6)
    ax.set_xlim(_number(first) - 0.6, _number(until) + 3.4)
    _dates(ax)
    ax.grid(axis="x", color=GRID, linewidth=0.8)
    if rows:
        counts = {s: sum(a.severity == s for a in found) for s in COLOURS}
        titles(fig, ax, f"{len(found)} anomalies in {len(order)} series, {day(first, year=False)} – {day(until)}", "")
        parts = [(f"■ {n} {severity}   ", COLOURS[severity]) for severity, n in counts.items() if n]
        _coloured(fig, parts + ([(f"showing the {most} most severe series", MUTED)] if len(order) > most else []))
    else:
        subtitle = f"in the {days} days to {day(until)}" if ends else "nothing has been judged yet"
        titles(fig, ax, "No anomalies", subtitle)
    return png(fig)


def _cap(last: date, as_of: datetime | None) -> date:
    return last if as_of is None else min(last, as_of.date() - timedelta(days=1))


def _view(con: Connection, series: Series, *, first: date, last: date) -> _View:
    by_day = {point.date: point for point in series.points}
    band = []
    if has_table(con, "watch", "forecasts"):
        rows = con.execute(
            """
            select date, expected, lower, upper, basis from watch.forecasts
            where kpi = $1 and slice = $2 and date between $3 and $4 order by date
            """,
            [*series.key, first, last],
        ).fetchall()
        for stored_day, expected, lower, upper, basis in rows:
            row = (stored_day, expected, lower, upper)
            forecast, point = Forecast.from_basis(stored_day, basis), by_day.get(stored_day)
            # The band of a day that has happened knows how many cases it had; of another scale it stays as it was kept.
            if point is not None and forecast.kind == series.kind:
                row = (stored_day, *forecast.band(series, point.denominator))
            band.append(row)
    shown = [point for point in series.points if first <= point.date <= last]
    return _View(points=shown, band=band, kind=series.kind)


def _by_week(series: Series, anomaly: Anomaly, *, last: date) -> _View:
    """Whole weeks of half a year, each on its Sunday, with what was expected of the week in question."""
    weekly = by_week(series, last=last)
    shown = [point for point in weekly.points if point.date >= anomaly.first_date - timedelta(weeks=26)]
    band = [(anomaly.worst_date, anomaly.expected, anomaly.lower, anomaly.upper)]
    return _View(points=shown, band=band, kind=weekly.kind, step_days=7)


def _draw_hours(con: Connection, anomaly: Anomaly, hours: tuple[datetime, datetime]) -> bytes:
    """The hours of three days, the disturbed ones marked, with what was expected of them on average."""
    start, end = (to_warehouse(hour) for hour in hours)
    rows = con.execute(
        """
        select hour_at, value from kpis.hourly
        where kpi = $1 and slice = $2 and hour_at between $3 and $4 and is_complete order by hour_at
        """,
        [anomaly.kpi, anomaly.slice, start - timedelta(hours=60), end + timedelta(hours=12)],
    ).fetchall()
    fig, ax = canvas(height=4.2)

    def x(at: datetime) -> float:
        return (at - datetime(1970, 1, 1)).total_seconds() / 86_400  # noqa: DTZ001 — naive UTC, as in the warehouse

    count = 1 if anomaly.kind == "ratio" else round((end - start).total_seconds() / 3600) + 1
    colour = COLOURS[anomaly.severity]
    ax.axvspan(x(start) - 0.02, x(end) + 0.02, color=colour, alpha=0.15, linewidth=0)
    ax.hlines(anomaly.expected / count, x(start), x(end), color=LINE, linestyle=(0, (4, 2)))
    ax.plot([x(at) for at, _ in rows], [v for _, v in rows], color=INK, linewidth=1.4, marker="o", markersize=2.6)
    ax.yaxis.set_major_formatter(lambda value, _: amount(value, kpi=anomaly.kpi, kind=anomaly.kind))
    ax.xaxis.set_major_formatter(
        lambda value, _: f"{datetime(1970, 1, 1) + timedelta(days=value):%a %H:%M}"  # noqa: DTZ001
    )
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    title = f"{name_of(anomaly.kpi, anomaly.slice, anomaly.label)}: {change_of(anomaly)} {period(anomaly)}"
    titles(fig, ax, title, "By the hour, UTC. Blue: what these hours bring on average")
    return png(fig)


def _draw(view: _View, *, kpi: str, title: str, marked: Sequence[Anomaly], subtitle: str) -> bytes:
    fig, ax = canvas(height=4.2)
    for piece in _pieces(view.band, lambda row: row[0]):
        if len(piece) == 1:
            # A line through one point is nothing to see: as wide as the day or the week that it is about.
            end = _number(piece[0][0]) + 0.5
            xs, piece = [end - view.step_days, end], piece * 2
        else:
            xs = [_number(row[0]) for row in piece]
        ax.fill_between(xs, [row[2] for row in piece], [row[3] for row in piece], color=BAND, linewidth=0, zorder=1)
        ax.plot(xs, [row[1] for row in piece], color=LINE, linewidth=1.2, linestyle=(0, (4, 2)), zorder=2)
    # A missing day is a gap in the line, not a slope.
    for run in _pieces(view.points, lambda p: p.date) if view.step_days == 1 else [view.points]:
        style: dict[str, Any] = {"color": INK, "linewidth": 1.4, "marker": "o", "markersize": 2.6, "zorder": 3}
        ax.plot([_number(p.date) for p in run], [p.value for p in run], **style)
    for anomaly in marked:
        colour = COLOURS[anomaly.severity]
        days = [p for p in view.points if anomaly.first_date <= p.date <= anomaly.last_date]
        span = (_number(anomaly.first_date) - 0.5, _number(anomaly.last_date) + 0.5)
        ax.axvspan(*span, color=colour, alpha=0.1, linewidth=0, zorder=0)
        ax.plot([_number(p.date) for p in days], [p.value for p in days], "o", color=colour, markersize=6.5, zorder=5)
        up = anomaly.direction == "up"
        ax.annotate(
            change_of(anomaly), (_number(anomaly.worst_date), anomaly.value), xytext=(0, 9 if up else -9),
            textcoords="offset points", ha="center", va="bottom" if up else "top", color=colour, fontsize=10,
            fontweight="bold", zorder=6, parse_math=False,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5},
        )  # fmt: skip
    ax.yaxis.set_major_formatter(lambda value, _: amount(value, kpi=kpi, kind=view.kind).replace(".0 %", " %"))
    _limits(ax, view, marked)
    _dates(ax)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    titles(fig, ax, title, subtitle)
    return png(fig)


def _limits(ax: "Axes", view: _View, marked: Sequence[Anomaly]) -> None:
    """Room for the labels; from zero when that does not flatten the line."""
    values = [p.value for p in view.points] + [x for row in view.band for x in row[1:]] + [a.value for a in marked]
    if not values:
        return
    # A band over a nearly empty day can be enormous; it must not decide the scale.
    seen = [p.value for p in view.points] + [row[1] for row in view.band]
    top = min(max(values), 1.35 * max(seen)) if max(seen) > 0 else max(values)
    bottom = min(values)
    if bottom >= 0 and bottom < 0.6 * top:
        bottom = 0.0
    room = 0.14 * ((top - bottom) or abs(top) or 1.0)
    low_labels = any(a.direction == "down" for a in marked)
    ax.set_ylim(bottom - (room if low_labels or bottom else 0.25 * room), top + room)
    days = [p.date for p in view.points] + [row[0] for row in view.band]
    ax.set_xlim(_number(min(days)) - 1, _number(max(days)) + 1)


def _legend(anomaly: Anomaly) -> str:
    numbers = (anomaly.value, anomaly.expected, anomaly.lower, anomaly.upper)
    value, expected, lower, upper = (amount(n, kpi=anomaly.kpi, kind=anomaly.kind) for n in numbers)
    unit, when = ("weeks", "in the week to") if anomaly.grain == "week" else ("days", "on")
    return (
        f"{value} where {expected} was expected. Blue: the range of 99 of 100 ordinary {unit} "
        f"({lower} to {upper} {when} {day(anomaly.worst_date, year=False)})"
    )


def _pieces(rows: Sequence[Any], day_of: Callable[[Any], date]) -> list[list[Any]]:
    numbered = enumerate(rows)
    return [[row for _, row in run] for _, run in groupby(numbered, lambda pair: day_of(pair[1]).toordinal() - pair[0])]


def canvas(*, height: float) -> "tuple[Figure, Axes]":
    # Figure by itself, not pyplot: no global state, no window, safe in any thread.
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, height), dpi=_DPI, facecolor="white")
    ax = fig.add_subplot()
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(GRID)
    ax.tick_params(colors=MUTED, length=0, labelsize=9)
    ax.set_axisbelow(True)
    return fig, ax


def _dates(ax: "Axes") -> None:
    from matplotlib.dates import WeekdayLocator

    low, high = ax.get_xlim()
    step = max(1, round((high - low) / 7 / 8))
    ax.xaxis.set_major_locator(WeekdayLocator(byweekday=0, interval=step))  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_formatter(lambda x, _: day(_EPOCH + timedelta(days=round(x)), year=False))


def titles(fig: "Figure", ax: "Axes", title: str, subtitle: str) -> None:
    inches = fig.get_figheight()
    long_labels = any(len(label.get_text()) > 12 for label in ax.get_yticklabels())
    left = 0.34 if long_labels else 0.085
    fig.subplots_adjust(left=left, right=0.95, top=1 - 0.72 / inches, bottom=0.36 / inches)
    text = drawable(title, 96)
    # So many characters fit into one line at full size; a longer title is made smaller, not cut.
    size = 13 * min(1.0, 72 / max(len(text), 1))
    _write(fig, 0.018, 0.16, text, fontsize=size, fontweight="bold", color=INK)
    _write(fig, 0.018, 0.44, drawable(subtitle, 150), fontsize=9, color=MUTED)


def _coloured(fig: "Figure", parts: Sequence[tuple[str, str]]) -> None:
    x = 0.018
    for text, colour in parts:
        _write(fig, x, 0.44, text, fontsize=9, color=colour)
        x += 0.0105 * len(text)


def _write(fig: "Figure", x: float, inches_from_top: float, text: str, **style: Any) -> None:
    fig.text(x, 1 - inches_from_top / fig.get_figheight(), text, ha="left", va="top", parse_math=False, **style)


def drawable(text: str, limit: int) -> str:
    """Cut, and without what the font has no glyph for."""
    return clean("".join(c if ord(c) < 0x3000 else "□" for c in text), limit=limit)


def _number(value: date) -> float:
    """Days since 1970, as the date axis counts."""
    return float((value - _EPOCH).days)


def png(fig: "Figure") -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
