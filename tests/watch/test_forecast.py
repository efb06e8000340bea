"""The forecast by itself."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from segue.watch.counts import BetaBinomial, NegativeBinomial
from segue.watch.forecast import _Fitted, _model, holiday_names, quiet, training
from segue.watch.mode import Design
from segue.watch.series import Point, make_series


@pytest.mark.parametrize("span", [120, 760])
def test_the_short_way_to_a_forecast_is_prophet_s_model_at_a_mode_no_worse_than_stan_s(span, make_counts):
    rows = make_counts(count=span)
    points = tuple(Point(date=row[2], value=row[3], numerator=row[4], denominator=None) for row in rows)
    series = make_series("sessions", "all", list(points))
    known = training(series, before=date(2026, 3, 1), since=None, masked=set())
    calendar = holiday_names("US", rows[0][2].year, 2026)
    ahead = [date(2026, 3, 1) + timedelta(days=i) for i in range(7)]
    frame = pd.DataFrame({"ds": pd.to_datetime([p.date for p in points]), "y": known.values})
    days = pd.DataFrame({"ds": pd.to_datetime([*(p.date for p in points), *ahead])})
    mine = _Fitted(known, ahead, calendar)
    fitted, expected, _ = mine.learn(range(span))

    used = {name for day, name in calendar.items() if rows[0][2] <= day <= rows[-1][2]}
    ours = _model({day: name for day, name in calendar.items() if name in used}, span=(span - 1))
    with quiet():
        stan = Prophet(
            changepoint_prior_scale=0.01, n_changepoints=ours.n_changepoints, yearly_seasonality=span >= 730,
            uncertainty_samples=0, daily_seasonality=False, holidays=ours.holidays,
        )  # fmt: skip
        stan.fit(frame, algorithm="LBFGS")
        design = Design(ours.preprocess(frame))
        found, changes = design.solve(range(span)), len(ours.changepoints_t)
        ours.params = {
            "k": found[:1], "m": found[1:2], "delta": found[None, 2 : 2 + changes], "beta": found[None, 2 + changes :]
        }  # fmt: skip
        predicted = ours.predict(days)["yhat"].to_numpy()
    assert [*fitted, *expected] == pytest.approx(predicted.tolist(), rel=1e-9), "Prophet's own prediction"

    theirs = np.concatenate([stan.params[name].ravel() for name in ("k", "m", "delta", "beta")])
    noise = float(stan.params["sigma_obs"].item())

    def cost(parameters: np.ndarray) -> float:
        """Minus the logarithm of the posterior, as in Prophet's Stan program, with Stan's noise."""
        residuals = frame["y"].to_numpy() / ours.y_scale - design.matrix @ parameters
        delta, beta = parameters[2 : 2 + changes], parameters[2 + changes :]
        sigmas = ours.make_all_seasonality_features(ours.history)[1]
        priors = (parameters[:2] ** 2).sum() / 50 + abs(delta).sum() / 0.01 + ((beta / np.array(sigmas)) ** 2).sum() / 2
        return float((residuals**2).sum() / (2 * noise**2) + priors)

    assert cost(found) < cost(theirs) + 0.05
    assert expected == pytest.approx(stan.predict(days)["yhat"].tolist()[-7:], abs=0.3 * noise * ours.y_scale)


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
