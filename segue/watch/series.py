"""KPI series as they are read, and the scale on which each is modelled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from statistics import median

from segue.clock import end_of_day
from segue.errors import WarehouseError
from segue.warehouse import Connection, has_table
from segue.watch.kpis import Unit, registered_kpis
from segue.watch.tables import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One complete day of one series."""

    date: date
    value: float
    numerator: float | None
    denominator: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The complete days of one KPI in one slice, ascending; a day without a value is absent, not zero."""

    kpi: str
    slice: str
    kind: Kind
    offset: float  # added before taking the logarithm
    points: tuple[Point, ...]
    empty: frozenset[date] = frozenset()  # days on record that had no case, so that there is no value

    @property
    def key(self) -> tuple[str, str]:
        return (self.kpi, self.slice)

    def transform(self, point: Point) -> float:
        """The value on the scale of the model.

        Counts and averages: logarithm, since seasons multiply. Ratios: logit. Sums of money: square root, since a
        day of few sales is far out on a logarithm. What can be negative: as it is.
        """
        if self.kind == "ratio":
            denominator = point.denominator or 0.0
            hits = point.value * denominator
            return math.log((hits + 0.5) / (max(denominator - hits, 0.0) + 0.5))
        if self.kind == "signed":
            return point.value
        if self.kind == "amount":
            return math.sqrt(max(point.value, 0.0))
        return math.log(max(point.value, 0.0) + self.offset)

    def restore(self, y: float) -> float:
        """Back from the scale of the model to the unit of the KPI."""
        if self.kind == "ratio":
            return 1 / (1 + math.exp(-y)) if y > -700 else 0.0
        if self.kind == "signed":
            return y
        if self.kind == "amount":
            return max(y, 0.0) ** 2
        return max(math.exp(min(y, 700)) - self.offset, 0.0)

    def cases(self, point: Point) -> float | None:
        """How many cases a day rests on: of a ratio, those of the rarer outcome. None of money and the like."""
        if self.kind == "count":
            return point.value
        if self.kind == "ratio":
            return min(point.value, 1 - point.value) * (point.denominator or 0.0)
        return (point.denominator or 0.0) if self.kind == "mean" else None

    def residual(self, y: float, fitted: float) -> float:
        """Distance on the scale of the model; for counts and ratios its linear part.

        On a logarithm or logit a nearly empty day is endlessly far below; its linear part is as far as its cases say.
        """
        if self.kind == "count":
            return (self.restore(y) - self.restore(fitted)) / max(self.restore(fitted), 0.5)
        if self.kind == "ratio":
            p = self.restore(fitted)
            return (self.restore(y) - p) / max(p * (1 - p), 1e-6)
        return y - fitted

    def sampling_variance(self, center: float, denominator: float | None) -> float:
        """Variance, on the scale of the model, from there being only so many cases that day."""
        if self.kind == "count":
            return 1 / max(math.exp(min(center, 700)), 0.5)
        if self.kind == "ratio":
            p = self.restore(center)
            return 1 / max((denominator or 0.0) * p * (1 - p), 0.5)
        return 0.0

    def spread_factor(self, denominator: float | None, typical: float | None) -> float:
        """How much wider an average over few cases varies than one over the usual number of them."""
        if self.kind != "mean" or not typical:
            return 1.0
        return min(max(typical / max(denominator or 0.0, 0.1), 0.25), 100.0)


def read_series(con: Connection, *, as_of: datetime) -> list[Series]:
    """Every series of `kpis.daily`, without days that are not over, marked incomplete, or have no value.

    Raises:
        WarehouseError: when the KPIs have not been built yet.
    """
    return _read(con, "date::date <= $1", [last_complete_day(as_of)])


def read_one(con: Connection, kpi: str, slice_: str) -> Series:
    """One series of `kpis.daily`, with every complete day on record; without a point when there is none.

    Raises:
        WarehouseError: when the KPIs have not been built yet.
    """
    found = _read(con, "kpi = $1 and slice = $2", [kpi, slice_])
    return found[0] if found else make_series(kpi, slice_, [])


def complete(con: Connection) -> str:
    """The condition under which a day of `kpis.daily` is over; an analyst's table may do without the column."""
    columns = [column[0] for column in con.execute("select * from kpis.daily limit 0").description or []]
    return "is_complete is not false" if "is_complete" in columns else "true"


def _read(con: Connection, condition: str, values: list[object]) -> list[Series]:
    if not has_table(con, "kpis", "daily"):
        raise WarehouseError("kpis.daily does not exist, so there is nothing to watch", fix="`segue refresh` builds it")
    rows = con.execute(
        f"""
        select kpi, slice, date::date, value::double, numerator::double, denominator::double
        from kpis.daily
        where {condition} and {complete(con)} and (isfinite(value::double) or denominator = 0)
        order by kpi, slice, date
        """,
        values,
    ).fetchall()
    grouped: dict[tuple[str, str], list[Point]] = {}
    empty: dict[tuple[str, str], set[date]] = {}
    for kpi, slice_, day, value, numerator, denominator in rows:
        if value is None or not math.isfinite(value):
            empty.setdefault((kpi, slice_), set()).add(day)
            continue
        point = Point(date=day, value=value, numerator=numerator, denominator=denominator)
        grouped.setdefault((kpi, slice_), []).append(point)
    units = {name: kpi.unit for name, kpi in registered_kpis(con).items()}
    return [
        replace(make_series(*key, points, unit=units.get(key[0], "count")), empty=frozenset(empty.get(key, ())))
        for key, points in grouped.items()
    ]


def make_series(kpi: str, slice_: str, points: Sequence[Point], *, unit: Unit = "count") -> Series:
    """A series with the scale that its own numbers call for; money is neither a count of cases nor a share."""
    return series_on(_kind(points, unit), kpi, slice_, points)


def series_on(kind: Kind, kpi: str, slice_: str, points: Sequence[Point]) -> Series:
    """A series on a scale that is known."""
    positive = sorted(point.value for point in points if point.value > 0)
    offset = 0.5 if kind == "count" else 0.01 * median(positive) if positive else 1.0
    return Series(kpi=kpi, slice=slice_, kind=kind, offset=offset, points=tuple(points))


def _kind(points: Sequence[Point], unit: Unit) -> Kind:
    if any(point.value < 0 for point in points):
        return "signed"
    of_many = any(point.denominator not in (None, 1) for point in points)
    if of_many and all(_is_quotient(point) for point in points) and any(point.value for point in points):
        return "ratio" if unit != "money" and all(point.value <= 1 for point in points) else "mean"
    if unit != "money" and all(float(point.value).is_integer() for point in points):
        return "count"
    return "amount"


def _is_quotient(point: Point) -> bool:
    """Whether the value is numerator / denominator."""
    if point.numerator is None or not point.denominator:
        return False
    quotient = point.numerator / point.denominator
    return math.isclose(point.value, quotient, rel_tol=1e-3, abs_tol=1e-9)


def last_complete_day(as_of: datetime) -> date:
    """The last day that is over at this time."""
    day = as_of.date()
    return day if end_of_day(day) <= as_of else date.fromordinal(day.toordinal() - 1)
