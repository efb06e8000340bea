"""A made-up world of KPI series whose incidents are known. Seeded: the same seed gives the same world."""

from dataclasses import dataclass, field
from datetime import date, timedelta

import holidays
import numpy as np

from segue.watch.series import Point, Series, make_series

DAYS = 400
JUDGED = 84  # the last twelve weeks; everything before is there to learn from
LAST = date(2026, 3, 1)  # a Sunday
#: A level shift can be found for this long; from then on it is neither right nor wrong to call it unusual.
FIND_DAYS, GREY_DAYS = 14, 35


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What was done to one series."""

    kind: str  # drop, spike, shift, outage, leak
    first: date
    last: date  # within which it can be found
    size: float  # relative change at its largest
    sigmas: float  # that change on the scale of the series' own noise

    @property
    def direction(self) -> str:
        return "up" if self.size > 0 else "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One series and its truth."""

    series: Series
    strong: bool  # weekly season well above the noise
    sigmas_of_30: float  # how many standard deviations a drop by 30 % is
    incidents: tuple[Incident, ...] = ()
    grey: frozenset[date] = field(default_factory=frozenset)


def world(*, seed: int, count: int) -> list[Case]:
    """So many series: two in five counts, the rest ratios and durations by half; half with a strong season."""
    rng = np.random.default_rng(seed)
    return [_case(rng, number) for number in range(count)]


def _case(rng: np.random.Generator, number: int) -> Case:
    kind = ("count", "ratio", "mean", "count", "ratio", "mean", "count", "count", "ratio", "mean")[number % 10]
    strong = (number // 10) % 2 == 0
    days = [LAST - timedelta(days=DAYS - 1 - i) for i in range(DAYS)]
    t = np.arange(DAYS)
    # Log scale throughout; a ratio's share and a duration's mean swing less than a count.
    swing = (rng.uniform(0.25, 0.55) if strong else rng.uniform(0.0, 0.05)) * (1.0 if kind == "count" else 0.5)
    shape = rng.normal(size=7)
    shape = (shape - shape.mean()) / np.abs(shape - shape.mean()).max()
    season = swing * shape[[d.weekday() for d in days]]
    slope = rng.normal(0, 0.0006)
    break_at = rng.integers(60, DAYS - JUDGED) if rng.random() < 0.6 else DAYS
    trend = slope * t + np.where(t > break_at, rng.normal(0, 0.0012) * (t - break_at), 0.0)
    calendar = holidays.country_holidays("US", years=[days[0].year, days[-1].year, days[-1].year - 1])
    effects = {name: rng.normal(-0.35, 0.15) for name in sorted(set(calendar.values()))}
    holiday = np.array([effects[calendar[d]] * (1.0 if strong else 0.3) if d in calendar else 0.0 for d in days])
    noise_sd = float(rng.choice([0.03, 0.05, 0.07, 0.12], p=[0.3, 0.35, 0.2, 0.15]))
    # A weakly seasonal series wanders: its level is what it was yesterday rather than what a trend says.
    wander = np.zeros(DAYS)
    if not strong:
        step = rng.uniform(0.0, 0.35) * noise_sd
        for i in range(1, DAYS):
            wander[i] = 0.98 * wander[i - 1] + rng.normal(0, step)
    tails = rng.standard_t(8, DAYS) * np.sqrt(6 / 8)
    log_mean = season + trend + holiday + wander + noise_sd * tails
    level = {"count": rng.choice([60, 300, 1500, 8000]), "ratio": rng.uniform(0.03, 0.4), "mean": rng.uniform(60, 400)}
    cases_mean = float(rng.choice([400, 1500, 6000]))
    if kind == "mean":
        sampling = 0.9 / np.sqrt(cases_mean)
    elif kind == "ratio":
        sampling = np.sqrt((1 - level["ratio"]) / (level["ratio"] * cases_mean))
    else:
        sampling = 1 / np.sqrt(level["count"])
    deviation = float(np.hypot(noise_sd, sampling))
    incidents, change, grey = _incidents(rng, days, deviation)
    log_mean = log_mean + change
    points = []
    for i, day in enumerate(days):
        if rng.random() < 0.002:
            continue  # a missing day
        if kind == "count":
            value = float(rng.poisson(level["count"] * np.exp(log_mean[i])))
            points.append(Point(date=day, value=value, numerator=value, denominator=None))
            continue
        total = int(rng.poisson(cases_mean * np.exp(0.5 * season[i] / max(swing, 1e-9) * 0.3)))
        total = max(total, 1)
        if kind == "ratio":
            hits = int(rng.binomial(total, min(level["ratio"] * np.exp(log_mean[i]), 0.95)))
            points.append(Point(date=day, value=hits / total, numerator=float(hits), denominator=float(total)))
        else:
            seconds = rng.gamma(total / 0.81, 0.81 * level["mean"] * np.exp(log_mean[i]))
            points.append(Point(date=day, value=seconds / total, numerator=seconds, denominator=float(total)))
    return Case(
        series=make_series(f"{kind}_{number}", "all", points),
        strong=strong,
        sigmas_of_30=abs(float(np.log(0.7))) / deviation,
        incidents=tuple(incidents),
        grey=frozenset(grey),
    )


def _incidents(
    rng: np.random.Generator, days: list[date], deviation: float
) -> tuple[list[Incident], np.ndarray, set[date]]:
    """Up to two incidents in the judged weeks, well apart, and now and then one before that nobody told of."""
    change = np.zeros(DAYS)
    grey: set[date] = set()
    found = []
    if rng.random() < 0.5:
        at = int(rng.integers(40, DAYS - JUDGED - 40))
        change[at : at + int(rng.integers(1, 4))] += np.log(0.4)
    starts = [DAYS - JUDGED + int(rng.integers(7, 20)), DAYS - JUDGED + int(rng.integers(56, 76))]
    for number, at in enumerate(starts):
        if rng.random() < 0.15:
            continue
        lasting = ("shift", "leak") if number else ("drop", "spike")
        kind = str(rng.choice(("drop", "spike", "outage", *lasting)))
        size = float(rng.uniform(0.1, 0.6))
        length = int(rng.integers(1, 4))
        if kind == "spike":
            effect, last = np.log1p(size), at + length - 1
        elif kind == "outage":
            size, length = float(rng.uniform(0.8, 0.98)), 1
            effect, last = np.log1p(-size), at
        elif kind == "drop":
            effect, last = np.log1p(-size), at + length - 1
        else:
            effect, last = np.log1p(-size), DAYS - 1
        if kind == "leak":
            ramp = np.clip((np.arange(DAYS) - at) / 14.0, 0, 1)
            change += effect * ramp
            found_until = min(at + FIND_DAYS + 7, DAYS - 1)
        else:
            change[at : last + 1] += effect
            found_until = min(last, at + FIND_DAYS)
        if kind in ("shift", "leak"):
            grey.update(days[found_until : min(at + GREY_DAYS + 14, DAYS)])
        found.append(
            Incident(
                kind=kind,
                first=days[at],
                last=days[found_until],
                size=size if kind == "spike" else -size,
                sigmas=abs(float(effect)) / deviation,
            )
        )
    return found, change, grey
