"""Why a KPI moved: which part of the audience explains how much of the change, and what else happened then.

Method: Adtributor (Bhagwan et al., "Adtributor: Revenue Debugging in Advertising Systems", NSDI 2014). For every
dimension, each value has an explanatory power (its share of the change; for a ratio through the partial derivatives of
the paper's section 4.3) and a surprise (the Jensen–Shannon term of its share of the whole, before and now). Values in
the order of their surprise, those with less than a tenth of the change left out, until they explain two thirds: that
set is the dimension's explanation, and the dimension with the most surprise comes first. Whoever is in none of the
values is one more, without a name. A segment overlaps others, so it is a dimension of its own: in it, and not.

The change of a ratio is parted into rate (the same parts, converting differently) and mix (other parts, converting as
before), by expected weights and rates; the rest, which moved both ways at once, is shown with the rate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from segue.warehouse import Connection, has_table
from segue.watch.series import complete
from segue.watch.tables import Anomaly, day_range
from segue.watch.words import percent, where_of

#: An element must explain this share of the change to be named, and a set this share to be an explanation.
_LEAST, _ENOUGH = 0.1, 0.67
#: A part explains a change when its share of it is this many times its share of everything.
_MORE_THAN_ITS_SIZE = 1.2
#: Days of the same weekday that say what was to be expected of a part.
_WEEKS = 4
_MOST, _IN_WORDS = 5, 3
#: What the parts of a slice say together may differ by this share from what the slice says.
_SAME = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One value of one dimension: what was expected of it, and what came. A count has denominators of 1 for all."""

    slice: str
    expected: float
    actual: float
    expected_cases: float = 1.0
    actual_cases: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A part of the audience and how much of the change it explains."""

    slice: str
    share: float  # of the change; can be negative or beyond 1 when parts moved against each other
    surprise: float
    expected: float  # value of the KPI in this part
    actual: float
    rate_effect: float | None = None  # of a ratio: in the unit of the KPI
    mix_effect: float | None = None

    @property
    def name(self) -> str:
        return where_of(self.slice)


def adtributor(dimensions: Mapping[str, Sequence[Part]], *, is_ratio: bool) -> list[Driver]:
    """The drivers, most telling first; empty when nothing changed.

    Args:
        dimensions: by name, the parts that together are everybody.
        is_ratio: whether the KPI is numerator / denominator; then `expected` and `actual` are numerators.
    """
    found: list[tuple[float, list[Driver]]] = []
    for parts in dimensions.values():
        drivers = _explain(parts, is_ratio=is_ratio)
        chosen: list[Driver] = []
        explained = 0.0
        for driver in sorted(drivers, key=lambda d: -d.surprise):
            if driver.share < _LEAST:
                continue
            chosen.append(driver)
            explained += driver.share
            if explained >= _ENOUGH:
                break
        if chosen and explained >= _ENOUGH:
            found.append((sum(d.surprise for d in chosen), chosen))
    found.sort(key=lambda pair: -pair[0])
    return [driver for _, chosen in found for driver in sorted(chosen, key=lambda d: -d.surprise)]


def _explain(parts: Sequence[Part], *, is_ratio: bool) -> list[Driver]:
    expected, actual = sum(p.expected for p in parts), sum(p.actual for p in parts)
    before, now = sum(p.expected_cases for p in parts), sum(p.actual_cases for p in parts)
    if is_ratio:
        if not before or not now:
            return []
        weights = [
            ((p.actual - p.expected) * before - (p.actual_cases - p.expected_cases) * expected)
            / (before * max(before + p.actual_cases - p.expected_cases, 1e-9))
            for p in parts
        ]
        total = sum(weights)
        overall = expected / before
    else:
        weights = [p.actual - p.expected for p in parts]
        total = actual - expected
        overall = 0.0
    if not total:
        return []
    drivers = []
    for part, weight in zip(parts, weights, strict=True):
        surprise = _surprise(part.expected, expected, part.actual, actual)
        if not is_ratio:
            drivers.append(
                Driver(
                    slice=part.slice,
                    share=weight / total,
                    surprise=surprise,
                    expected=part.expected,
                    actual=part.actual,
                )
            )
            continue
        surprise += _surprise(part.expected_cases, before, part.actual_cases, now)
        rate_before = part.expected / part.expected_cases if part.expected_cases else overall
        rate_now = part.actual / part.actual_cases if part.actual_cases else rate_before
        weight_before, weight_now = part.expected_cases / before, part.actual_cases / now
        drivers.append(
            Driver(
                slice=part.slice,
                share=weight / total,
                surprise=surprise,
                expected=rate_before,
                actual=rate_now,
                rate_effect=weight_now * (rate_now - rate_before),
                mix_effect=(weight_now - weight_before) * (rate_before - overall),
            )
        )
    return drivers


def _surprise(part_before: float, all_before: float, part_now: float, all_now: float) -> float:
    p = part_before / all_before if all_before > 0 else 0.0
    q = part_now / all_now if all_now > 0 else 0.0
    middle = (p + q) / 2
    return 0.5 * sum(x * math.log(x / middle) for x in (p, q) if x > 0 and middle > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one anomaly is there, as far as the numbers tell."""

    drivers: tuple[Driver, ...]
    rate_effect: float | None = None  # of a ratio, over the dimension that explains most
    mix_effect: float | None = None
    is_divided: bool = True  # False: what its parts did is not known, so no driver says nothing
    is_too_soon: bool = False  # it is not known yet

    @property
    def words(self) -> str:
        """The first drivers in words: `channel email (80 % of the change, there −50 %)`; empty without one."""
        return "; ".join(
            f"{d.name} ({100 * min(d.share, 9.99):.0f} % of the change"
            + (f", there {percent((d.actual - d.expected) / d.expected)})" if d.expected else ")")
            for d in self.drivers[:_IN_WORDS]
        )


_NOT_DIVIDED = Explanation(drivers=(), is_divided=False)
_NOT_YET = Explanation(drivers=(), is_divided=False, is_too_soon=True)


def explain(con: Connection, anomaly: Anomaly) -> Explanation:
    """The drivers of an anomaly: parts of everybody from `kpis.daily`, parts of a slice from `watch.inside`.

    The parts of a slice are believed only when together they show the change that the slice itself showed. A KPI that
    has cases but no numerator (a median) does not add up from its parts, and has none. Nor has an anomaly of hours
    before the day is over: its parts are known by the day.
    """
    if anomaly.hours is not None and not _is_over(con, anomaly):
        return _NOT_YET
    is_ratio = anomaly.kind in ("ratio", "mean")
    parts = _parts(con, "kpis.daily where kpi = $1", anomaly.kpi, anomaly)
    if anomaly.slice != "all":
        whole = parts.get(anomaly.slice)
        has_inside = has_table(con, "watch", "inside")
        parts = _parts(con, "watch.inside where anomaly_id = $1", anomaly.anomaly_id, anomaly) if has_inside else {}
        if not _is_same_change(parts.get("all"), whole, is_ratio=is_ratio):
            return _NOT_DIVIDED
    everybody = parts.pop("all", None)
    if everybody is None:
        return _NOT_DIVIDED
    dimensions: dict[str, list[Part]] = {}
    for slice_, part in parts.items():
        dimension = slice_.partition("=")[0]
        if dimension == "segment":
            dimensions[slice_] = [part]
        else:
            dimensions.setdefault(dimension, []).append(part)
    # Who is in no part moves the whole as well: sessions that name no country, or everybody who is not in the segment.
    dimensions = {name: [*known, _rest(everybody, known)] for name, known in dimensions.items()}
    drivers = [
        d
        for d in adtributor(dimensions, is_ratio=is_ratio)
        if d.slice in parts and _stands_out(d, parts[d.slice], everybody, is_ratio=is_ratio)
    ]
    effects = _effects(dimensions, drivers, is_ratio=is_ratio)
    return Explanation(drivers=tuple(drivers[:_MOST]), rate_effect=effects[0], mix_effect=effects[1])


def _is_over(con: Connection, anomaly: Anomaly) -> bool:
    rows = con.execute(
        f"""
        select count(*) from kpis.daily
        where kpi = $1 and slice = $2 and date::date between $3 and $4 and {complete(con)}
        """,
        [anomaly.kpi, anomaly.slice, anomaly.first_date, anomaly.last_date],
    ).fetchall()
    return rows == [(anomaly.day_count,)]


def compared_days(anomaly: Anomaly) -> list[date]:
    """The disturbed days and the undisturbed same weekdays before them, ascending."""
    days = day_range(anomaly.first_date, anomaly.last_date)
    earlier = {day - timedelta(weeks=w) for day in days for w in range(1, _WEEKS + 2)}
    return sorted(day for day in earlier if day < days[0]) + days


def _parts(con: Connection, source: str, key: str, anomaly: Anomaly) -> dict[str, Part]:
    """By slice, the sums of the days that are compared."""
    rows = con.execute(
        f"""
        select slice, date, coalesce(numerator, value)::double, denominator::double from {source}
        and date between $2 and $3 and value is not null and (numerator is not null or denominator is null)
        """,
        [key, anomaly.first_date - timedelta(weeks=_WEEKS + 1), anomaly.last_date],
    ).fetchall()
    is_ratio = anomaly.kind in ("ratio", "mean")
    table: dict[str, dict[date, tuple[float, float]]] = {}
    for slice_, day, numerator, denominator in rows:
        table.setdefault(slice_, {})[day] = (numerator, (denominator or 0.0) if is_ratio else 1.0)
    days = day_range(anomaly.first_date, anomaly.last_date)
    return {slice_: _part(slice_, by_day, days) for slice_, by_day in table.items()}


def _is_same_change(parts: Part | None, whole: Part | None, *, is_ratio: bool) -> bool:
    """Whether both tell the same story, to a tenth: late events and merged people move old days a little."""
    if parts is None or whole is None:
        return False

    def change(part: Part) -> float:
        if not is_ratio:
            return part.actual - part.expected
        return part.actual / max(part.actual_cases, 1e-9) - part.expected / max(part.expected_cases, 1e-9)

    return (
        abs(parts.expected - whole.expected) <= _SAME * abs(whole.expected)
        and abs(parts.expected_cases - whole.expected_cases) <= _SAME * whole.expected_cases
        and abs(change(parts) - change(whole)) <= _SAME * abs(change(whole))
    )


def _stands_out(driver: Driver, part: Part, everybody: Part, *, is_ratio: bool) -> bool:
    """Whether it moved more than its size would make it: where everything falls alike, no part is the reason."""
    size = part.expected_cases if is_ratio else part.expected
    whole = everybody.expected_cases if is_ratio else everybody.expected
    return whole > 0 and driver.share >= _MORE_THAN_ITS_SIZE * size / whole


def _part(slice_: str, by_day: Mapping[date, tuple[float, float]], days: Sequence[date]) -> Part:
    """Sums over the disturbed days, against the same weekdays of the four weeks before."""
    expected = actual = expected_cases = actual_cases = 0.0
    for day in days:
        numerator, cases = by_day.get(day, (0.0, 0.0))
        actual, actual_cases = actual + numerator, actual_cases + cases
        earlier = [by_day[d] for w in range(1, _WEEKS + 2) if (d := day - timedelta(weeks=w)) in by_day and d < days[0]]
        if earlier:
            expected += sum(n for n, _ in earlier) / len(earlier)
            expected_cases += sum(c for _, c in earlier) / len(earlier)
    return Part(
        slice=slice_,
        expected=expected,
        actual=actual,
        expected_cases=expected_cases,
        actual_cases=actual_cases,
    )


def _rest(everybody: Part, parts: Sequence[Part]) -> Part:
    """What is in none of these parts; it has no name. People who are in several leave less of it than there is."""
    return Part(
        slice="",
        expected=max(everybody.expected - sum(p.expected for p in parts), 0.0),
        actual=max(everybody.actual - sum(p.actual for p in parts), 0.0),
        expected_cases=max(everybody.expected_cases - sum(p.expected_cases for p in parts), 0.0),
        actual_cases=max(everybody.actual_cases - sum(p.actual_cases for p in parts), 0.0),
    )


def _effects(
    dimensions: Mapping[str, Sequence[Part]], drivers: Sequence[Driver], *, is_ratio: bool
) -> tuple[float | None, float | None]:
    """Rate and mix effect of all parts of the dimension that the first driver is of."""
    if not is_ratio or not drivers:
        return None, None
    first = drivers[0].slice
    parts = dimensions.get(first) or dimensions.get(first.partition("=")[0]) or []
    every = _explain(parts, is_ratio=True)
    return sum(d.rate_effect or 0.0 for d in every), sum(d.mix_effect or 0.0 for d in every)
