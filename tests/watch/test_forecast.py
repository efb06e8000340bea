"""The forecast by itself."""

from datetime import date, timedelta

import pandas as pd
import pytest

from segue.watch.counts import BetaBinomial, NegativeBinomial
from segue.watch.forecast import _model, _predict, holiday_names, quiet


@pytest.mark.parametrize("span", [120, 760])
def test_the_short_way_to_a_forecast_gives_what_prophet_gives(span, make_counts):
    rows = make_counts(count=span)
    calendar = holiday_names("US", rows[0][2].year, 2026)
    used = {name for day, name in calendar.items() if rows[0][2] <= day <= rows[-1][2]}
    frame = pd.DataFrame({"ds": pd.to_datetime([row[2] for row in rows]), "y": [row[3] for row in rows]})
    ahead = [date(2026, 3, 1) + timedelta(days=i) for i in range(60)]
    days = pd.DataFrame({"ds": pd.to_datetime([*(row[2] for row in rows), *ahead])})
    with quiet():
        model = _model({day: name for day, name in calendar.items() if name in used}, span=span)
        model.fit(frame, algorithm="LBFGS")
        assert _predict(model, days) == pytest.approx(model.predict(days)["yhat"].tolist(), rel=1e-9)


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
    assert counts.interval(0.005) == (exact.ppf(0.005), exact.isf(0.005))
