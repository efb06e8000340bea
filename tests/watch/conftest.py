"""Seeded worlds of KPIs whose disturbed days are known."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from segue.warehouse import Connection, Warehouse
from segue.watch import ensure_tables
from segue.watch.incidents import group_anomalies

#: kpi, slice, date, value, numerator, denominator
Row = tuple[str, str, date, float | None, float | None, float | None]

LAST = date(2026, 2, 28)


def days(count: int, last: date = LAST) -> list[date]:
    return [last - timedelta(days=count - 1 - i) for i in range(count)]


def weekly(day: date) -> float:
    """Busy midweek, quiet at the weekend."""
    return 1 + 0.3 * math.cos(2 * math.pi * (day.weekday() - 2) / 7)


def count_rows(
    *,
    kpi: str = "sessions",
    slice_: str = "all",
    count: int = 90,
    last: date = LAST,
    level: float = 400.0,
    noise: float = 0.05,
    growth: float = 0.001,
    factors: dict[date, float] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Counts with a weekly season, a trend, noise, and what the test does to some days."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for i, day in enumerate(days(count, last)):
        mean = level * weekly(day) * (1 + growth * i) * rng.lognormal(0, noise)
        value = float(rng.poisson(mean * (factors or {}).get(day, 1.0)))
        rows.append((kpi, slice_, day, value, value, None))
    return rows


def ratio_rows(
    *,
    kpi: str = "conversion",
    slice_: str = "all",
    count: int = 90,
    share: float = 0.1,
    cases: float = 1000.0,
    shares: dict[date, float] | None = None,
    cases_on: dict[date, float] | None = None,
    seed: int = 0,
) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for day in days(count):
        total = int(rng.poisson((cases_on or {}).get(day, cases * weekly(day))))
        hits = int(rng.binomial(total, (shares or {}).get(day, share)))
        rows.append((kpi, slice_, day, hits / total if total else None, float(hits), float(total)))
    return rows


class Kpis:
    """Fills `kpis.daily` and opens the warehouse."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    def load(self, rows: Sequence[Row]) -> None:
        columns = ["kpi", "slice", "date", "value", "numerator", "denominator"]
        frame = pd.DataFrame(rows, columns=columns)
        with self.write() as con:
            con.execute("create schema if not exists kpis")
            con.execute(
                "create or replace table kpis.daily "
                "(kpi varchar, slice varchar, date date, value double, numerator double, denominator double)"
            )
            con.register("rows", frame)
            con.execute("insert into kpis.daily select * from rows")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.warehouse.write("test") as con:
            yield con

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.warehouse.read() as con:
            yield con

    def commits(self) -> int:
        """How many states the warehouse has had."""
        with self.warehouse.read() as con:
            return int(con.execute("select count(*) from ducklake_snapshots('lake')").fetchall()[0][0])


@pytest.fixture
def kpis(warehouse: Warehouse) -> Kpis:
    return Kpis(warehouse)


@pytest.fixture
def make_counts() -> Callable[..., list[Row]]:
    return count_rows


@pytest.fixture
def make_ratios() -> Callable[..., list[Row]]:
    return ratio_rows


@pytest.fixture
def make_anomaly_rows() -> Callable[..., None]:
    """Puts one-day anomalies on record, as a detection would, and groups them."""

    def put(kpis: Kpis, wanted: Sequence[tuple[str, str, date]]) -> None:
        with kpis.write() as con:
            ensure_tables(con)
            con.executemany(
                "insert into watch.anomalies (anomaly_id, kpi, slice, started_at, ended_at, value, expected, lower,"
                " upper, severity, direction, detected_at, worst_date, score, kind, grain) values"
                " (?, ?, ?, ?, ?, 10, 100, 90, 110, 'high', 'down', ?, ?, 9.0, 'count', 'day')",
                [
                    [f"{kpi}-{slice_}-{day}", kpi, slice_, day, day, datetime(2026, 2, 20, n % 24), day]
                    for n, (kpi, slice_, day) in enumerate(wanted)
                ],
            )
            group_anomalies(con, known_until=LAST)

    return put
