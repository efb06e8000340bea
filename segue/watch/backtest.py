"""How the detector's settings would have done on the past: the days that were judged, each by the forecast of its week.

No fit is made: the forecasts that are kept hold what is needed to judge a day with and without each setting.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from statistics import median

import numpy as np

from segue.warehouse import Connection, has_table, insert_rows
from segue.watch.forecast import Forecast
from segue.watch.judge import MEDIUM_SCORE
from segue.watch.series import Point, Series, read_series
from segue.watch.tables import anomalies, day_range

#: 99 of 100 ordinary days lie within this many deviations.
_BAND = 2.576

_COLUMNS = ("setting", "day_count", "inside_share", "median_error", "quiet_found_count", "disturbed_found_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """One setting on the past, over all series."""

    setting: str
    day_count: int
    inside_share: float | None  # of the undisturbed days, within the range that 99 of 100 should lie in
    median_error: float | None  # relative distance from what was expected, of undisturbed days
    quiet_found_count: int  # undisturbed or dismissed days that it would have told of
    disturbed_found_share: float | None  # of the days of anomalies that nobody has dismissed


#: What each setting makes of a forecast; None: no forecast at all, a z-score over the last 28 days instead.
SETTINGS: Mapping[str, Callable[[Forecast], Forecast] | None] = {
    "as it is": lambda forecast: forecast,
    "without following the series": lambda forecast: replace(forecast, drift=0.0),
    "without correcting the spread": lambda forecast: replace(forecast, inflation=1.0),
    "without the level of four weeks": lambda forecast: replace(forecast, level=None),
    "28-day z-score instead": None,
}


def backtest(con: Connection, *, as_of: datetime) -> list[Backtest]:
    """Judge the past with each setting and keep the outcome in `watch.backtest`; the same again writes nothing.

    Args:
        con: a connection inside a write transaction.
    """
    judged, disturbed = _past(con, as_of)
    found = [_one(name, change, judged, disturbed) for name, change in SETTINGS.items()]
    con.execute("create schema if not exists watch")
    con.execute(
        "create table if not exists watch.backtest (setting varchar, day_count bigint, inside_share double,"
        " median_error double, quiet_found_count bigint, disturbed_found_share double)"
    )
    rows = [tuple(getattr(b, column) for column in _COLUMNS) for b in found]
    before = con.execute(f"select {', '.join(_COLUMNS)} from watch.backtest").fetchall()
    if sorted(rows, key=str) != sorted(before, key=str):
        con.execute("delete from watch.backtest")
        insert_rows(con, "watch.backtest", _COLUMNS, rows)
    return found


_Day = tuple[Series, Forecast, Point, Mapping[date, Point]]


def _past(con: Connection, as_of: datetime) -> tuple[list[_Day], set[tuple[str, str, date]]]:
    """The judged days, and those of anomalies that nobody has dismissed."""
    if not has_table(con, "watch", "forecasts") or not has_table(con, "kpis", "daily"):
        return [], set()
    forecasts: dict[tuple[str, str], list[tuple[date, str]]] = {}
    for kpi, slice_, day, basis in con.execute("select kpi, slice, date, basis from watch.forecasts").fetchall():
        forecasts.setdefault((kpi, slice_), []).append((day, basis))
    judged: list[_Day] = []
    for series in read_series(con, as_of=as_of):
        days = {point.date: point for point in series.points}
        judged += [
            (series, forecast, days[day], days)
            for day, basis in forecasts.get(series.key, [])
            if day in days and (forecast := Forecast.from_basis(day, basis)).kind == series.kind
        ]
    disturbed = {(a.kpi, a.slice, day) for a in anomalies(con) for day in day_range(a.first_date, a.last_date)}
    return judged, disturbed


def _rolling(point: Point, days: Mapping[date, Point]) -> float | None:
    before = [days[d].value for n in range(1, 29) if (d := point.date - timedelta(days=n)) in days]
    if len(before) < 14:
        return None
    # Of `statistics` the exact sums of fractions would take most of a backtest.
    return (point.value - float(np.mean(before))) / max(float(np.std(before, ddof=1)), 1e-9)


def _one(
    name: str,
    change: Callable[[Forecast], Forecast] | None,
    judged: Sequence[_Day],
    disturbed: set[tuple[str, str, date]],
) -> Backtest:
    inside = quiet = quiet_found = loud = loud_found = 0
    errors = []
    for series, forecast, point, days in judged:
        tried = None if change is None else change(forecast)
        score = _rolling(point, days) if tried is None else tried.distance(series, point)
        if score is None:
            continue
        if (*series.key, point.date) in disturbed:
            loud += 1
            loud_found += abs(score) >= MEDIUM_SCORE
            continue
        quiet += 1
        inside += abs(score) <= _BAND
        quiet_found += abs(score) >= MEDIUM_SCORE
        if tried is not None and (expected := series.restore(tried.middle)):
            errors.append(abs(point.value - expected) / abs(expected))
    return Backtest(
        setting=name,
        day_count=quiet + loud,
        inside_share=inside / quiet if quiet else None,
        median_error=median(errors) if errors else None,
        quiet_found_count=quiet_found,
        disturbed_found_share=loud_found / loud if loud else None,
    )


def plot_backtest(found: Sequence[Backtest]) -> bytes:
    """PNG: per setting, ordinary days that lie where they should, and disturbed days that would be found."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 1.2 + 0.5 * len(found)), dpi=110, facecolor="white", layout="constrained")
    for axes, title, values in (
        (fig.add_subplot(1, 2, 1), "ordinary days within the band (99 % should be)", [b.inside_share for b in found]),
        (fig.add_subplot(1, 2, 2), "disturbed days that would be told", [b.disturbed_found_share for b in found]),
    ):
        shares = [100 * (v or 0.0) for v in values]
        axes.barh(range(len(found)), shares, color="#3b5bdb")
        for y, share in enumerate(shares):
            axes.text(min(share, 88) + 1, y, f"{share:.0f} %", va="center", fontsize=9)
        axes.set_yticks(range(len(found)), [b.setting for b in found] if title.startswith("ord") else [], fontsize=9)
        axes.set_xlim(0, 105)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10, loc="left")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
