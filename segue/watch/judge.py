"""Which days of one series are out of line, week by week, each by a forecast made before that week.

False alarms are controlled over all series and days together by Benjamini & Hochberg, "Controlling the false
discovery rate", J. R. Stat. Soc. B 57 (1995), which stays valid for the positive dependence that slices of one
measure have (Benjamini & Yekutieli, Ann. Stat. 29, 2001).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from statistics import median
from types import MappingProxyType
from typing import Literal

from segue.watch.forecast import Forecast, Training, fit, training
from segue.watch.series import Point, Series
from segue.watch.tables import Direction, Grain

Status = Literal["judged", "by_week", "too_short", "flat", "sparse", "ended", "failed"]

#: Six weeks: four to learn from before anything is judged, and some to judge.
MIN_DAYS = 42
LEARN_DAYS = 28
#: On this few days a forecast may be tried, to see how well it does, before one is believed.
_TRY_DAYS = 21
_TRY_WEEKS = 2
#: Fewer cases than this on the usual day, and a whole day's outage would hardly stand out.
_MIN_CASES = 5.0
#: A sum that is nothing more often than this is the sum of too few cases.
_EMPTY_SHARE = 0.05
#: A disturbance this long is the new normal: the model starts again from there.
SHIFT_DAYS = 14
#: A day next to a found one belongs to the same anomaly when this unlikely by itself.
UNLIKELY_P = 0.01
#: From here on a found day is of medium severity, which chance reaches once in 37,000 judged days, and of high.
MEDIUM_SCORE, HIGH_SCORE = 4.2, 5.5
#: Beyond this a day must not teach the model what is normal.
_MASK_SCORE = 3.5
_ENDED_AFTER_DAYS = 14
#: A forecast is believed as if it had been right about its spread on this many days.
_TRUST_DAYS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One judged day."""

    date: date
    value: float
    denominator: float | None
    forecast: Forecast
    direction: Direction
    p_value: float  # two-sided
    score: float  # the normal deviate with this probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is known of one series."""

    series: Series
    status: Status
    detail: str  # a sentence
    days: tuple[Day, ...] = ()  # judged days of the window, ascending
    forecasts: tuple[Forecast, ...] = ()  # those made anew
    fit_count: int = 0
    learned_since: date | None = None  # the level changed here; what was before is not learned from
    detectable_change: float | None = None  # smallest relative change of one day that would be noticed
    grain: Grain = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What earlier detections left about a series."""

    forecasts: Mapping[date, Forecast] = field(default_factory=dict)
    disturbed: frozenset[date] = frozenset()
    learned_since: date | None = None


def judge(
    series: Series,
    memory: Memory,
    *,
    first: date,
    last: date,
    country: str,
    events: Mapping[date, str] = MappingProxyType({}),
) -> Judgement:
    """Judge the complete days from `first` to `last`.

    Each calendar week is judged by a forecast that was trained on the days before its Monday. A forecast of an
    earlier detection is used again unless the days it learned from have changed. (One model for two past weeks
    would halve the time of a first run, but a fortnight ahead the trend of a young segment is anybody's guess.)
    """
    unfit = _unfit(series, last)
    if unfit is not None:
        return Judgement(series=series, status=unfit[0], detail=unfit[1])
    chain = _Chain(series, memory, first=first, last=last, country=country, events=events)
    chain.run()
    days = tuple(chain.days)
    if not days:
        since, grown = chain.learned_since, _grown_since(series, series.points)
        status: Status = "too_short" if since is not None or grown is None else "sparse"
        if since is not None:
            why = f"The level changed on {since.isoformat()} and stayed"
            detail = f"{why}; judged again once there are {LEARN_DAYS} days of it."
        elif grown is not None:
            why = f"Usually fewer than {_MIN_CASES:g} cases a day until {grown.isoformat()}"
            detail = f"{why}; judged by the day once there are {LEARN_DAYS} days with more."
        else:
            detail = f"There are fewer than {LEARN_DAYS} undisturbed days to learn from before the judged weeks."
        return Judgement(
            series=series,
            status=status,
            detail=detail,
            forecasts=tuple(chain.fresh.values()),
            fit_count=chain.fit_count,
            learned_since=since,
        )
    expected_days = (last - days[0].date).days + 1
    missing = expected_days - len(days)
    detail = f"Judged from {days[0].date.isoformat()} to {days[-1].date.isoformat()}."
    if missing:
        detail += f" {missing} of these days {'has' if missing == 1 else 'have'} no value; a missing day is not a zero."
    return Judgement(
        series=series,
        status="judged",
        detail=detail,
        days=days,
        forecasts=tuple(chain.fresh.values()),
        fit_count=chain.fit_count,
        learned_since=chain.learned_since,
        detectable_change=chain.detectable_change(),
    )


def _unfit(series: Series, last: date) -> tuple[Status, str] | None:
    """Why a series cannot be judged."""
    points = series.points
    if (last - points[-1].date).days > _ENDED_AFTER_DAYS:
        return "ended", f"No value since {points[-1].date.isoformat()}."
    span = (points[-1].date - points[0].date).days + 1
    if len(points) < MIN_DAYS:
        return (
            "too_short",
            f"{len(points)} complete days in {span}; a forecast that can be trusted needs {MIN_DAYS} (six weeks).",
        )
    recent = points[-(LEARN_DAYS * 2) :]
    different = len({point.value for point in recent})
    if different < 3:
        return "flat", f"The value hardly ever changes ({different} different in {len(recent)} days)."
    empty = sum(point.value == 0 for point in recent)
    if series.kind == "amount" and empty > _EMPTY_SHARE * len(recent):
        return "sparse", f"Nothing on {empty} of {len(recent)} days: too few cases to tell a change from chance."
    cases = _cases(series, recent)
    if cases is not None and cases < _MIN_CASES:
        what = "counted" if series.kind == "count" else "of the rarer outcome"
        return "sparse", f"Usually {cases:g} cases a day {what}: too few to tell a change from chance on one day."
    return None


def _cases(series: Series, points: Sequence[Point]) -> float | None:
    """How many cases the usual day rests on; None of a measure that rests on none."""
    each = [series.cases(point) for point in points]
    return median(n for n in each if n is not None) if each and None not in each else None


def _grown_since(series: Series, points: Sequence[Point]) -> date | None:
    """From when on the usual day of these has had enough cases; None when it always had.

    On a logarithm, what begins with nothing grows by as much each day as it ever will: a model that learned from those
    days expects the growth to go on for ever.
    """
    few = sum(n is not None and n < _MIN_CASES for n in map(series.cases, points))
    if few < LEARN_DAYS // 2:  # no four weeks can have a median below: nearly every series, and soon told
        return None
    for end in range(len(points), LEARN_DAYS - 1, -1):
        cases = _cases(series, points[end - LEARN_DAYS : end])
        if cases is not None and cases < _MIN_CASES:
            # From the next day on four weeks have enough: about the later half of these does.
            return points[end - LEARN_DAYS // 2].date
    return None


class _Chain:
    """The weeks of one series in order: forecast, compare, learn what not to learn from."""

    def __init__(
        self, series: Series, memory: Memory, *, first: date, last: date, country: str, events: Mapping[date, str]
    ) -> None:
        self.series = series
        self.first = first
        self.last = last
        self.country = country
        self.events = events
        self.points = {point.date: point for point in series.points}
        # One day can change how a measure has to be modelled; on the new scale an old forecast says nothing.
        self.forecasts = {day: f for day, f in memory.forecasts.items() if f.kind == series.kind}
        self.monday = first - timedelta(days=first.weekday()) - timedelta(weeks=_TRY_WEEKS)
        # From this Monday on, the chain finds out by itself, so that a second run repeats the first one.
        self.masked = {day for day in memory.disturbed | self._far_off(memory) if day < self.monday}
        self.errors: list[float] = []
        self.days: list[Day] = []
        self.fresh: dict[date, Forecast] = {}
        self.fit_count = 0
        self.run_start: date | None = None
        self.run_direction: Direction | None = None
        since = memory.learned_since
        self.learned_since = since if since is not None and since < self.monday else None
        self.latest: Forecast | None = None

    def _far_off(self, memory: Memory) -> frozenset[date]:
        """Days that taught earlier detections nothing: were they to teach again, what was kept would be made anew."""
        if memory.learned_since is not None:
            return frozenset()
        return frozenset(
            day
            for day, forecast in self.forecasts.items()
            if day < self.monday
            and (point := self.points.get(day)) is not None
            # The exact distance is slow; nothing within two deviations is beyond the mark.
            and abs(self.series.transform(point) - forecast.middle)
            > 2 * forecast.deviation(self.series, point.denominator)
            and abs(forecast.distance(self.series, point)) > _MASK_SCORE
        )

    def run(self) -> None:
        monday = self.monday
        while monday <= self.last:
            self._week(monday)
            monday += timedelta(weeks=1)

    def _week(self, monday: date) -> None:
        week = _days_from(monday, 7)
        least = LEARN_DAYS if week[-1] >= self.first else _TRY_DAYS
        forecasts = self._kept(week, least) or self._made(week, least)
        if not forecasts:
            return
        self.latest = forecasts[0]
        drift = forecasts[0].drift
        for stored in forecasts:
            forecast = replace(stored, drift=drift)
            if forecast != stored:
                self.fresh[forecast.day] = forecast
            if forecast.day in self.points and forecast.day <= self.last:
                self.latest = forecast
                drift = self._day(forecast, self.points[forecast.day])

    def _kept(self, week: list[date], least: int) -> list[Forecast]:
        """What was forecast for this week before, if it learned from the days as they are now."""
        kept = [self.forecasts[day] for day in week if day in self.forecasts]
        if len(kept) < len(week):
            return []
        known = self._known(week[0])
        return kept if len(known.values) >= least and known.is_that_of(kept[0], self.events) else []

    def _made(self, week: list[date], least: int) -> list[Forecast]:
        known = self._known(week[0])
        if len(known.values) < least:
            return []
        made = fit(self.series, known, week, country=self.country, inflation=self._inflation(), events=self.events)
        self.fit_count += 1
        self.fresh |= {forecast.day: forecast for forecast in made}
        return made

    def _known(self, before: date) -> Training:
        grown = _grown_since(self.series, [point for point in self.series.points if point.date < before])
        since = max(filter(None, (self.learned_since, grown)), default=None)
        return training(self.series, before=before, since=since, masked=self.masked)

    def _day(self, forecast: Forecast, point: Point) -> float:
        """Judge a day; returns the drift for the next one."""
        drift = forecast.drift

        error = forecast.distance(self.series, point)
        direction: Direction = "up" if error > 0 else "down"
        if abs(error) > _MASK_SCORE:
            self.masked.add(point.date)
            if self.run_direction != direction or self.run_start is None:
                self.run_start, self.run_direction = point.date, direction
            if (point.date - self.run_start).days + 1 >= SHIFT_DAYS:
                self.learned_since = self.run_start
                self.masked = {day for day in self.masked if day < self.run_start}
                self.errors = []
        else:
            drift = forecast.after(self.series.transform(point) - forecast.center)
            self.errors.append(error * forecast.inflation)
            self.run_start = self.run_direction = None
        if point.date < self.first:
            return drift
        self.days.append(judged(point, forecast, error))
        return drift

    def _inflation(self) -> float:
        """How much more the last weeks' forecasts erred than they said they would; a few days say little of it."""
        recent = self.errors[-28:]
        if not recent:
            return 1.0
        seen = 1.4826 * median(map(abs, recent))
        return max(1.0, math.sqrt((len(recent) * seen**2 + _TRUST_DAYS) / (len(recent) + _TRUST_DAYS)))

    def detectable_change(self) -> float | None:
        """The relative change of one usual day that has 1 chance in 1000 of being chance."""
        from scipy.stats import t

        if self.latest is None or self.series.kind == "signed":
            return None
        forecast = self.latest
        step = float(t.isf(0.0005, forecast.freedom)) * forecast.deviation(self.series, forecast.typical)
        expected = self.series.restore(forecast.middle)
        return (self.series.restore(forecast.middle + step) - expected) / expected if expected else None


def _days_from(first: date, count: int) -> list[date]:
    return [first + timedelta(days=i) for i in range(count)]


def judged(point: Point, forecast: Forecast, error: float) -> Day:
    """A point against its forecast, which it missed by `error` deviations."""
    from scipy.special import stdtr

    # Student's t knows how little history there is.
    p_value = min(2 * float(stdtr(forecast.freedom, -abs(error))), 1.0)
    return Day(
        date=point.date,
        value=point.value,
        denominator=point.denominator,
        forecast=forecast,
        direction="up" if error > 0 else "down",
        p_value=p_value,
        score=score_of(p_value),
    )


def score_of(p_value: float) -> float:
    """The normal deviate that has this two-sided probability; 37 at most."""
    from scipy.special import ndtri

    return -float(ndtri(max(p_value, 1e-300) / 2))


def discoveries(p_values: Sequence[float], *, rate: float) -> float:
    """The largest p-value that still counts, by Benjamini and Hochberg; -1 when none does.

    Args:
        rate: the share of what is found that may be chance.
    """
    threshold = -1.0
    for rank, p_value in enumerate(sorted(p_values), start=1):
        if p_value <= rate * rank / len(p_values) and not math.isnan(p_value):
            threshold = p_value
    return threshold
