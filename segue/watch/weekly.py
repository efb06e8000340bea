"""Series too small to tell a change on one day: judged by the week instead.

A drop by 30 % of a day with few cases lies within chance; of a week it may not. Each ISO week is compared with the
weeks before it: their median, followed as in `forecast`, with the spread beyond what counting cases explains.
"""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import date, timedelta
from statistics import median

from segue.watch.forecast import Forecast, Training, following, spread_of
from segue.watch.judge import Day, Judgement, judged
from segue.watch.series import Point, Series, series_on

#: Weeks to learn from, at the most and at the least.
_MOST, _LEAST = 26, 8
#: A disturbance of this many weeks is the new normal: the weeks before it are not learned from any more.
SHIFT_WEEKS = 4
#: Cases a week without which not even a week tells anything.
MIN_CASES = 10.0
_MASK_SCORE = 3.5
#: When only a change beyond this (relative) can be told on one day, a drop by 30 % is less than two deviations.
TOO_MUCH = 0.8


def by_week_where_needed(judgement: Judgement, *, first: date, last: date, masked: Collection[date]) -> list[Judgement]:
    """The judgement itself; or, of a series that tells nothing on one day, that of its weeks."""
    change = judgement.detectable_change
    if judgement.status != "sparse" and not (judgement.status == "judged" and change is not None and change > TOO_MUCH):
        return [judgement]
    weekly = by_week(judgement.series, last=last)
    days = judge_weeks(weekly, first=first, last=last, masked=masked) if weekly.points else []
    if not days:
        return [judgement]
    why = judgement.detail if change is None else f"On one day only a change by {100 * change:.0f} % could be told."
    return [
        replace(
            judgement,
            series=weekly,
            status="by_week",
            detail=f"Judged by the week. {why}",
            days=tuple(days),
            forecasts=(),
            grain="week",
        )
    ]


def by_week(series: Series, *, last: date) -> Series:
    """One point for each whole ISO week, dated on its Sunday; of each of its days it is known what it had, or that it
    had no case."""
    weeks: dict[date, list[Point]] = {}
    for point in series.points:
        weeks.setdefault(_sunday(point.date), []).append(point)
    empty = Counter(map(_sunday, series.empty))
    points = [
        _sum(sunday, days, series)
        for sunday, days in sorted(weeks.items())
        if len(days) + empty[sunday] == 7 and sunday <= last
    ]
    return series_on(series.kind, series.kpi, series.slice, points)


def judge_weeks(weekly: Series, *, first: date, last: date, masked: Collection[date] = ()) -> list[Day]:
    """The weeks whose Sunday lies between two days, each judged by those before it; empty when there are too few."""
    known: list[Point] = []
    off: list[Point] = []  # the last weeks, all far off in one direction
    was_above = False
    days: list[Day] = []
    skipped = {_sunday(day) for day in masked}
    for point in weekly.points:
        enough = len(known) >= _LEAST and _cases(weekly, known) >= MIN_CASES
        forecast = _forecast(weekly, known[-_MOST:], point.date) if enough else None
        error = forecast.distance(weekly, point) if forecast is not None else 0.0
        if forecast is not None and first <= point.date <= last:
            days.append(judged(point, forecast, error))
        if abs(error) > _MASK_SCORE:
            off = [*off, point] if was_above == (error > 0) else [point]
            was_above = error > 0
            if len(off) == SHIFT_WEEKS:
                known, off = off, []
            continue
        off = []
        if point.date not in skipped:
            known.append(point)
    return days


def _forecast(weekly: Series, known: list[Point], sunday: date) -> Forecast:
    values = [weekly.transform(point) for point in known]
    center = median(values)
    errors = [value - center for value in values]
    scale = max(1.4826 * median(map(abs, errors)), 1e-9)
    follow, drifts = following(errors, scale)
    training = Training(points=known, values=values, until=known[-1].date)
    freedom = len(known) - 1
    spread, _ = spread_of(weekly, training, [center + d for d in drifts[:-1]], range(len(known)), freedom)
    denominators = [p.denominator for p in known if p.denominator is not None]
    return Forecast(
        day=sunday,
        center=center,
        spread=spread,
        inflation=1.0,
        freedom=float(freedom),
        typical=median(denominators) if denominators else None,
        trained_until=known[-1].date,
        trained_count=len(known),
        trained_level=training.level,
        trained_mean=training.mean,
        drift=drifts[-1],
        follow=follow,
        kind=weekly.kind,
    )


def _sunday(day: date) -> date:
    """The last day of its week."""
    return day + timedelta(days=6 - day.weekday())


def _sum(sunday: date, days: list[Point], series: Series) -> Point:
    """A week of a measure: sums of counts and money; quotients of the sums."""
    total = sum(p.value for p in days)
    if series.kind in ("ratio", "mean"):
        numerator, denominator = sum(p.numerator or 0.0 for p in days), sum(p.denominator or 0.0 for p in days)
        return Point(date=sunday, value=numerator / denominator, numerator=numerator, denominator=denominator)
    if any(p.denominator not in (None, 1) for p in days):
        # A level, such as the size of a segment or a median: the week's average.
        average = total / len(days)
        value = round(average) if series.kind == "count" else average
        return Point(date=sunday, value=value, numerator=None, denominator=None)
    return Point(date=sunday, value=total, numerator=total, denominator=None)


def _cases(weekly: Series, known: list[Point]) -> float:
    each = [n for point in known if (n := weekly.cases(point)) is not None]
    return median(each) if each else math.inf if all(p.value for p in known) else 0.0
