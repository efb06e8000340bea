"""What earlier detections left, and whether it still says anything."""

import math
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest

from segue.watch.judge import Judgement, Memory, judge
from segue.watch.prophet import quiet
from segue.watch.series import Point, make_series

FIRST = date(2025, 9, 1)


def orders_per_person(count: int) -> list[Point]:
    """About 0.8 on every day, and no more spread than 500 cases explain."""
    hits = [round(500 * (0.8 + 0.05 * math.sin(i * 2 * math.pi / 7))) + i % 3 for i in range(count)]
    return [
        Point(date=FIRST + timedelta(days=i), value=h / 500, numerator=float(h), denominator=500.0)
        for i, h in enumerate(hits)
    ]


def revenue(count: int) -> list[Point]:
    rng = np.random.default_rng(1)
    values = [
        float(round(5000 * (1 + 0.2 * math.sin(i * 2 * math.pi / 7)) * rng.lognormal(0, 0.1))) for i in range(count)
    ]
    return [Point(date=FIRST + timedelta(days=i), value=v, numerator=v, denominator=None) for i, v in enumerate(values)]


def judged_week(points: Sequence[Point], memory: Memory) -> Judgement:
    series, last = make_series("kpi", "all", points), points[-1].date
    with quiet():
        return judge(series, memory, first=last - timedelta(days=6), last=last, country="")


@pytest.mark.parametrize(
    ("points", "odd", "kinds"),
    [
        (orders_per_person(126), {"value": 1.01, "numerator": 505.0, "denominator": 500.0}, ("ratio", "mean")),
        (revenue(126), {"value": 5000.5, "numerator": 5000.5, "denominator": None}, ("count", "amount")),
    ],
)
def test_what_was_forecast_on_another_scale_is_forgotten(points, odd, kinds):
    before = judged_week(points[:90], Memory())
    memory = Memory(forecasts={forecast.day: forecast for forecast in before.forecasts})
    moved = [*points[:-1], Point(date=points[-1].date, **odd)]
    after, anew = judged_week(moved, memory), judged_week(moved, Memory())
    assert (before.series.kind, after.series.kind) == kinds
    assert after.status == "judged"
    assert after.days == anew.days, "no day was taken for a disturbed one"
