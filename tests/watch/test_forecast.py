"""The forecast by itself."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from segue.watch.counts import BetaBinomial, NegativeBinomial
from segue.watch.forecast import Forecast, fit, training
from segue.watch.prophet import quiet
from segue.watch.series import Point, make_series


def test_the_laws_of_counts_are_those_of_scipy():
    from scipy import stats

    law = BetaBinomial(total=200, share=0.1, extra=0.04)
    concentration = 1 / (0.04 * 0.09) - 1
    exact = stats.betabinom(200, 0.1 * concentration, 0.9 * concentration)
    below, above = law.tails(30)
    assert below == pytest.approx(exact.cdf(30) - exact.pmf(30) / 2)
    assert above == pytest.approx(exact.sf(30) + exact.pmf(30) / 2)
    assert law.interval(0.005) == (exact.ppf(0.005), exact.isf(0.005))
    assert BetaBinomial(total=3, share=0.5, extra=1e-6).tails(99)[1] == pytest.approx(0.125 / 2, rel=0.01)

    counts = NegativeBinomial(mean=40.0, extra=0.02)
    exact = stats.nbinom(50, 50 / 90)
    assert sum(counts.tails(33)) == pytest.approx(1.0)
    for count in (0, 4, 33, 41, 300):
        below, above = counts.tails(count)
        half = exact.pmf(count) / 2
        # Relative, also in the far tails: scores are made of them.
        assert (below, above) == (
            pytest.approx(exact.cdf(count - 1) + half, rel=1e-6), pytest.approx(exact.sf(count) + half, rel=1e-6),
        ), count  # fmt: skip
    assert counts.interval(0.005) == (exact.ppf(0.005), exact.isf(0.005))


MONDAY = date(2026, 3, 2)


def _week(values: list[float], *, country: str = "") -> tuple[list[Forecast], list[Point]]:
    """The forecast of the week from `MONDAY`, and the points that it was made from."""
    points = [Point(date=MONDAY - timedelta(days=len(values) - i), value=v, numerator=None, denominator=None)
              for i, v in enumerate(values)]  # fmt: skip
    series = make_series("revenue_change", "all", points)
    known = training(series, before=MONDAY, since=None, masked=set())
    week = [MONDAY + timedelta(days=i) for i in range(7)]
    with quiet():
        return fit(series, known, week, country=country, inflation=1.0, events={MONDAY: "sale"}), points


def _wandering(count: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(v) for v in np.cumsum(rng.normal(0, 0.2, count)) + rng.normal(0, 1, count) - 3]


def test_where_the_level_tells_as_much_as_the_model_a_day_is_as_far_off_as_from_both_on_average():
    forecasts, points = _week(_wandering(200, seed=1))
    series = make_series("revenue_change", "all", points)
    recent = [p.value for p in points[-28:]]
    point = Point(date=MONDAY + timedelta(days=2), value=4.0, numerator=None, denominator=None)
    forecast = forecasts[2]
    model = replace(forecast, level=None)
    from_level = (4.0 - np.mean(recent)) / np.std(recent, ddof=1)
    assert forecast.distance(series, point) == pytest.approx((model.distance(series, point) + from_level) / 2)
    assert min(model.middle, np.mean(recent)) <= forecast.middle <= max(model.middle, np.mean(recent))
    assert forecasts[0].level is None, "the level does not know what a sale does"


def test_a_season_or_a_trend_that_the_level_lags_behind_is_left_to_the_model():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, 200)
    season = [float(v) for v in noise + 3 * np.sin(2 * np.pi * np.arange(200) / 7)]
    trend = [float(v) for v in noise + 0.2 * np.arange(200) - 20]
    for values in (season, trend, _wandering(41, seed=3)):
        assert [f.level for f in _week(values)[0]] == [None] * 7


def test_one_outage_does_not_hide_the_next_for_four_weeks():
    values = _wandering(200, seed=1)
    usual = _week(values)[0][2]
    after = _week([*values[:-5], -500.0, *values[-4:]])[0][2]
    assert usual.level is not None
    assert after.level == pytest.approx(usual.level, abs=0.5)
    series = make_series("revenue_change", "all", _week(values)[1])
    assert usual.deviation(series, None) < after.deviation(series, None) < 1.5 * usual.deviation(series, None)
