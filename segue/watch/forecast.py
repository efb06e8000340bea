"""Prophet on one series: what to expect of the coming week, and how far off it usually is.

Method: Taylor & Letham, "Forecasting at Scale", The American Statistician 72 (2018). A stiff trend, a weekly
season and the country's holidays. Days further off than 3.5 median absolute deviations (Rousseeuw & Croux, J. Am.
Stat. Assoc. 88, 1993) are dropped and the rest is fitted again; the spread is the standard deviation of what
remains. Taking that from the median absolute deviation, too, costs power where history is short: on 24 series of
60 days, the median score of a rise by half was 2.9 instead of 3.2, with as few quiet days below p = 0.05.

Where the level of four weeks has erred hardly more than the model (a weak season, a wandering series), both are
combined with equal weight (Bates & Granger, "The combination of forecasts", Operational Research Quarterly 20, 1969):
`steady_level` decides it per series, on the past.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from functools import cache
from statistics import fmean, median, stdev

import orjson

from segue.errors import BadSettingError
from segue.watch.calendar import mark_of
from segue.watch.counts import BetaBinomial, CountLaw, NegativeBinomial
from segue.watch.prophet import Fitted
from segue.watch.series import Point, Series
from segue.watch.tables import Kind

#: Days further back than this say little about next week.
_HISTORY_DAYS = 800
_OUTLIER = 3.5
#: From here on the exact distribution of a ratio is slow and tells nothing more.
_MANY_CASES = 5000
#: Paces at which a forecast may follow a series away from its model; the first one is not to.
_PACES = (0.0, 0.05, 0.1, 0.2, 0.35)
_TRIED_DAYS = 180
_CUT = 3.0
#: The level is the mean of this many days. A day counts as no further off than so many deviations: one outage must not
#: hide the next for four weeks, yet right after a disturbance a little more doubt is in order.
_LEVEL_DAYS = 28
_LEVEL_CUT = 6.0
#: A level that errs up to this much more than the model still adds something to it. Of the training seeds of
#: `benchmarks.anomaly`, 98 % of the series with a weak season lie below, and none of those with a strong one.
_LEVEL_WORTH = 1.5
_FEWEST_LEVELS = 28
#: The median absolute deviation of a normal distribution times this is its standard deviation.
_MAD = 1.4826
#: A holiday in a series that has had none may move it by half as easily as not at all (log or logit scale).
_UNSEEN_HOLIDAY_SPREAD = 0.35
_PRIOR_HOLIDAYS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one day should bring, on the scale of the model. All of it was known before `trained_until` ended."""

    day: date
    center: float
    spread: float  # standard deviation beyond what counting few cases explains
    inflation: float  # how much more earlier forecasts of this series erred than they said; at least 1
    freedom: float  # degrees of freedom of Student's t
    typical: float | None  # usual denominator
    trained_until: date
    trained_count: int
    trained_level: float  # mean of the last four weeks of training
    trained_mean: float
    # How far the series has lately been from the model, and how quickly that is followed (0: not at all).
    drift: float = 0.0
    follow: float = 0.0
    calendar: str = ""  # which known events it was made with
    # Where the usual level tells as much as the model: the level, and its share in what is expected.
    level: float | None = None
    level_share: float = 0.0
    kind: Kind | None = None  # of its scale; a forecast of an earlier version does not say

    @property
    def middle(self) -> float:
        """What is expected, on the scale of the model."""
        modelled = self.center + self.drift
        return modelled if self.level is None else modelled + self.level_share * (self.level - modelled)

    def after(self, error: float) -> float:
        """The drift once a day's distance from `center` is known."""
        return self.drift + self.follow * (error - self.drift)

    def basis(self) -> str:
        """As stored beside the plain columns of `watch.forecasts`."""
        return orjson.dumps({k: v for k, v in asdict(self).items() if k != "day"}).decode()

    @classmethod
    def from_basis(cls, day: date, text: str) -> "Forecast":
        fields = orjson.loads(text)
        return cls(day=day, **{**fields, "trained_until": date.fromisoformat(fields["trained_until"])})

    def deviation(self, series: Series, denominator: float | None) -> float:
        """Standard deviation of the day, given how many cases it had."""
        factor = series.spread_factor(denominator, self.typical)
        variance = self.spread**2 * factor + series.sampling_variance(self.middle, denominator)
        # Half the distance from the model and half that from the level, each in deviations of its own, is the distance
        # from their weighted mean in this many deviations of the model.
        combined = 1.0 if self.level is None else 2 * (1 - self.level_share)
        return combined * self.inflation * math.sqrt(variance)

    def law(self, series: Series, denominator: float | None) -> CountLaw | None:
        """The distribution of that day's count of cases; None where the scale of the model is as good or all there is.

        Negative binomial for counts, beta-binomial for ratios, with the same mean and variance: they know how
        skewed small numbers are.
        """
        mean = series.restore(self.middle)
        sampling = series.sampling_variance(self.middle, denominator)
        extra = max(self.deviation(series, denominator) ** 2 - sampling, 1e-6)
        if series.kind == "count" and mean > 0:
            return NegativeBinomial(mean=mean, extra=extra)
        if series.kind == "ratio" and denominator and denominator <= _MANY_CASES and 0 < mean < 1:
            return BetaBinomial(total=round(denominator), share=mean, extra=extra)
        return None

    def distance(self, series: Series, point: Point) -> float:
        """How far off the day is, as a normal deviate; negative below."""
        from scipy.special import ndtri

        law = self.law(series, point.denominator)
        if law is None:
            return (series.transform(point) - self.middle) / self.deviation(series, point.denominator)
        count = round(point.value if series.kind == "count" else point.value * (point.denominator or 0.0))
        below, above = law.tails(count)
        return float(ndtri(max(below, 1e-300)) if below < above else -ndtri(max(above, 1e-300)))

    def band(self, series: Series, denominator: float | None = None) -> tuple[float, float, float]:
        """Expected value and the interval that 99 of 100 ordinary days fall into, in the unit of the KPI."""
        from scipy.special import ndtr, stdtrit

        cases = denominator or self.typical
        reach = -float(stdtrit(self.freedom, 0.005))
        law = self.law(series, cases)
        if law is None:
            half = reach * self.deviation(series, cases)
            lower, upper = series.restore(self.middle - half), series.restore(self.middle + half)
        else:
            total = round(cases or 1.0) if series.kind == "ratio" else 1
            lower, upper = (count / total for count in law.interval(float(ndtr(-reach))))
        return series.restore(self.middle), lower, upper


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The days a forecast may learn from."""

    points: Sequence[Point]
    values: Sequence[float]
    until: date

    @property
    def level(self) -> float:
        recent = self.values[-28:]
        return sum(recent) / len(recent)

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    def is_that_of(self, forecast: Forecast, events: Mapping[date, str]) -> bool:
        """Whether a forecast learned from these days, give or take what could not change it noticeably.

        A few late events or a merge of two people move old days by a hair; only what moves the level by a
        tenth of the spread is worth a refit.
        """
        slack = 0.1 * max(forecast.spread, 1e-9)
        return (
            forecast.trained_until == self.until
            and forecast.calendar
            == mark_of(events, first=self.points[0].date, last=forecast.trained_until + timedelta(days=7))
            and forecast.trained_count == len(self.values)
            and abs(forecast.trained_level - self.level) <= slack
            and abs(forecast.trained_mean - self.mean) <= slack
        )


def training(series: Series, *, before: date, since: date | None, masked: set[date]) -> Training:
    """Complete days before a day, without those known to be disturbed."""
    oldest = max(before - timedelta(days=_HISTORY_DAYS), since or date.min)
    points = [p for p in series.points if oldest <= p.date < before and p.date not in masked]
    return Training(points=points, values=[series.transform(p) for p in points], until=before - timedelta(days=1))


def fit(
    series: Series,
    known: Training,
    days: Sequence[date],
    *,
    country: str,
    inflation: float,
    events: Mapping[date, str],
) -> list[Forecast]:
    """Forecasts of `days` by a model trained on `known`. About 0.04 s.

    Args:
        country: ISO 3166 code whose public holidays matter; empty for none.
        events: names of what is known to happen, by day; they come before holidays.
        inflation: factor for the spread, from how earlier forecasts of the series fared.
    """
    calendar = holiday_names(country, known.points[0].date.year, days[-1].year) | dict(events)
    keep = list(range(len(known.values)))
    model = Fitted([p.date for p in known.points], known.values, days, calendar)
    fitted, ahead, effects = model.learn(keep)
    residuals = [y - f for y, f in zip(known.values, fitted, strict=True)]
    scale = max(_MAD * median(map(abs, residuals)), 1e-9)
    inliers = [i for i, r in enumerate(residuals) if abs(r) <= _OUTLIER * scale]
    if len(inliers) < len(keep) and len(inliers) >= 0.8 * len(keep):
        keep = inliers
        fitted, ahead, effects = model.learn(keep)

    usual, unusual = _unseen_holiday(effects)
    seen: dict[str, int] = {}
    for i in keep:
        if name := calendar.get(known.points[i].date):
            seen[name] = seen.get(name, 0) + 1
    # Trend 2, weekly season 6, one per holiday: residuals are that much smaller than errors.
    parameters = min(8 + len(seen), len(keep) // 2)
    freedom = len(keep) - parameters
    follow, drifts = following([y - f for y, f in zip(known.values, fitted, strict=True)], scale)
    followed = [f + d for f, d in zip(fitted, drifts, strict=False)]
    spread, variance = spread_of(series, known, followed, keep, freedom)
    recent = [p.denominator for p in known.points[-28:] if p.denominator is not None]
    forecasts = [
        Forecast(
            day=day,
            center=center + (usual if day in calendar and calendar[day] not in seen else 0.0),
            spread=math.sqrt(spread**2 + _holiday_variance(calendar.get(day), seen, variance, unusual)),
            inflation=inflation,
            freedom=float(min(freedom, 60)),
            typical=median(recent) if recent else None,
            trained_until=known.until,
            trained_count=len(known.values),
            trained_level=known.level,
            trained_mean=known.mean,
            drift=drifts[-1],
            follow=follow,
            calendar=mark_of(events, first=known.points[0].date, last=days[-1]),
            kind=series.kind,
        )
        for day, center in zip(days, ahead, strict=True)
    ]
    level = steady_level(series, known, math.sqrt(variance))
    if level is None:
        return forecasts
    # Of a day that is known to be special, the level knows nothing.
    return [f if f.day in calendar else _with_level(f, series, *level) for f in forecasts]


def steady_level(series: Series, known: Training, spread: float) -> tuple[float, float] | None:
    """Mean and standard deviation of the last four weeks; None where they tell much less than a model that errs by
    `spread`, or where there is too little to tell.

    Judged on the last half year, each day against the median of the 28 before it.
    """
    values = known.values
    tried = range(max(_LEVEL_DAYS // 2, len(values) - _TRIED_DAYS), len(values))
    if len(tried) < _FEWEST_LEVELS:
        return None
    erred = _MAD * median(abs(values[i] - median(values[max(i - _LEVEL_DAYS, 0) : i])) for i in tried)
    if erred > _LEVEL_WORTH * spread:
        return None
    since = max(known.until - timedelta(days=_LEVEL_DAYS - 1), known.points[0].date)
    days = [series.transform(p) for p in series.points if since <= p.date <= known.until]
    if len(days) < _LEVEL_DAYS // 2:
        return None
    middle = median(days)
    reach = _LEVEL_CUT * max(_MAD * median(abs(y - middle) for y in days), 1e-9)
    cut = [min(max(y, middle - reach), middle + reach) for y in days]
    return fmean(cut), max(stdev(cut), 1e-9)


def _with_level(forecast: Forecast, series: Series, level: float, spread: float) -> Forecast:
    own = forecast.deviation(series, forecast.typical)
    return replace(forecast, level=level, level_share=own / (own + spread))


def following(errors: Sequence[float], scale: float) -> tuple[float, list[float]]:
    """How quickly to follow a series away from its model, and the drift before each day and after the last.

    Simple exponential smoothing of the errors (Brown 1956), each cut at three times the usual one so that a disturbed
    day moves little. The pace is the one that would have erred least, day by day, over the last half year; following
    at all has to be worth 2 %.
    """
    best, chosen, least = 0.0, [0.0] * (len(errors) + 1), math.inf
    for pace in _PACES:
        drift, drifts, cost = 0.0, [0.0], 0.0
        for number, error in enumerate(errors):
            away = min(max(error - drift, -_CUT * scale), _CUT * scale)
            if number >= len(errors) - _TRIED_DAYS:
                cost += away**2
            drift += pace * away
            drifts.append(drift)
        if cost < least * (1.0 if best else 0.98):
            best, chosen, least = pace, drifts, cost
    return best, chosen


def spread_of(
    series: Series, known: Training, fitted: Sequence[float], keep: Sequence[int], freedom: int
) -> tuple[float, float]:
    """Standard deviation beyond what counting cases explains, and the variance with it on the usual day.

    By moments, each day weighted by how much its cases tell.
    """
    squares = [series.residual(known.values[i], fitted[i]) ** 2 * len(keep) / freedom for i in keep]
    sampling = [series.sampling_variance(fitted[i], known.points[i].denominator) for i in keep]
    if not any(sampling):
        variance = max(sum(squares) / len(squares), 1e-18)
        return math.sqrt(variance), variance
    weights = [1 / v for v in sampling]
    beyond = sum(w * (r - v) for w, r, v in zip(weights, squares, sampling, strict=True)) / sum(weights)
    return math.sqrt(max(beyond, 0.0)), max(beyond, 0.0) + median(sampling)


def _unseen_holiday(effects: Sequence[float]) -> tuple[float, float]:
    """Mean and variance of what a holiday does that this series has not had: as others did to it, and as if four more
    had done nothing with the prior's spread."""
    count = len(effects) + _PRIOR_HOLIDAYS
    mean = sum(effects) / count
    squares = sum((effect - mean) ** 2 for effect in effects)
    return mean, (squares + _PRIOR_HOLIDAYS * _UNSEEN_HOLIDAY_SPREAD**2) / count


def _holiday_variance(name: str | None, seen: Mapping[str, int], variance: float, unseen: float) -> float:
    if name is None:
        return 0.0
    return variance / seen[name] if name in seen else unseen


@cache
def holiday_names(country: str, first_year: int, last_year: int) -> dict[date, str]:
    """Name of the public holiday on each day that has one; the eves of Christmas and New Year count as such.

    Raises:
        BadSettingError: when the country is not known.
    """
    if not country:
        return {}
    import holidays

    years = range(first_year, last_year + 1)
    try:
        known = holidays.country_holidays(country, years=years)
    except NotImplementedError:
        raise BadSettingError(
            f"SEGUE_COUNTRY: no calendar of holidays for {country!r}",
            fix="use the two letters of ISO 3166, such as US, DE or GB; nothing for no holidays",
        ) from None
    eves = {date(year, 12, day): name for year in years for day, name in ((24, "eve of 25 Dec"), (31, "eve of 1 Jan"))}
    return eves | dict(known.items())
