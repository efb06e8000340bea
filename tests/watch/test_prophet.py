"""Prophet's model without Prophet's program."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from segue.watch.forecast import holiday_names
from segue.watch.mode import Design
from segue.watch.prophet import Fitted, _model, quiet
from segue.watch.series import Point, make_series


@pytest.mark.parametrize("span", [120, 760])
def test_the_short_way_to_a_forecast_is_prophet_s_model_at_a_mode_no_worse_than_stan_s(span, make_counts):
    rows = make_counts(count=span)
    points = tuple(Point(date=row[2], value=row[3], numerator=row[4], denominator=None) for row in rows)
    series = make_series("sessions", "all", list(points))
    dates, values = [p.date for p in points], [series.transform(p) for p in points]
    calendar = holiday_names("US", dates[0].year, 2026)
    ahead = [date(2026, 3, 1) + timedelta(days=i) for i in range(7)]
    frame = pd.DataFrame({"ds": pd.to_datetime(dates), "y": values})
    days = pd.DataFrame({"ds": pd.to_datetime([*dates, *ahead])})
    mine = Fitted(dates, values, ahead, calendar)
    fitted, expected, _ = mine.learn(range(span))

    used = {name for day, name in calendar.items() if dates[0] <= day <= dates[-1]}
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
