"""Prophet's model of one series, laid out by Prophet and solved in memory by `mode`."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cache
from typing import Any

from segue.watch.mode import Design

#: From two years on, the season of the year can be told from the trend.
_YEARLY_FROM_DAYS = 730


class Fitted:
    """Prophet's model of a series, and what it says of the days ahead.

    Args:
        dates: of the known days, ascending.
        values: of those days, on the scale of the model.
        days: to forecast.
        calendar: name of the holiday or event on each day that has one; one that no known day had is left out.
    """

    def __init__(
        self, dates: Sequence[date], values: Sequence[float], days: Sequence[date], calendar: Mapping[date, str]
    ) -> None:
        import numpy as np
        import pandas as pd

        used = {calendar[day] for day in dates if day in calendar}
        model = _model({day: name for day, name in calendar.items() if name in used}, span=(dates[-1] - dates[0]).days)
        self._design = Design(model.preprocess(pd.DataFrame({"ds": pd.to_datetime(dates), "y": values})))
        self._scale = float(model.y_scale)
        ahead = model.setup_dataframe(pd.DataFrame({"ds": pd.to_datetime(list(days))}))
        parts = [
            model.make_seasonality_features(ahead["ds"], season["period"], season["fourier_order"], name).to_numpy()
            for name, season in model.seasonalities.items()
        ]
        self._holidays = slice(sum(part.shape[1] for part in parts), None)
        if model.holidays is not None:
            table = model.construct_holiday_dataframe(ahead["ds"])
            parts.append(model.make_holiday_features(ahead["ds"], table)[0].to_numpy())
        self._ahead = self._design.rows(ahead["t"].to_numpy(), np.hstack(parts))

    def learn(self, keep: Sequence[int]) -> tuple[list[float], list[float], list[float]]:
        """From these of the known days: fitted values of all of them, the forecasts, and what each holiday did."""
        found = self._design.solve(keep) * self._scale
        fitted, ahead = self._design.matrix @ found, self._ahead @ found
        features = self._design.features
        holidays = features[list(keep)][:, self._holidays].any(axis=0)
        effects = found[len(found) - features.shape[1] :][self._holidays][holidays]
        return [float(v) for v in fitted], [float(v) for v in ahead], [float(v) for v in effects]


def _model(calendar: Mapping[date, str], *, span: int) -> Any:
    import pandas as pd

    table = pd.DataFrame({"ds": pd.to_datetime(list(calendar)), "holiday": list(calendar.values())})
    return _prophet()(
        changepoint_prior_scale=0.01,
        n_changepoints=min(25, span // 7),
        weekly_seasonality=True,
        yearly_seasonality=span >= _YEARLY_FROM_DAYS,
        daily_seasonality=False,
        uncertainty_samples=0,
        holidays=table if calendar else None,
    )


@cache
def _prophet() -> Any:
    """Prophet without the program that it would start: `mode` does its work."""
    from prophet import Prophet

    class InMemory(Prophet):  # type: ignore[misc]
        def _load_stan_backend(self, stan_backend: str | None) -> None:
            self.stan_backend = None

    return InMemory


@contextmanager
def quiet() -> Iterator[None]:
    """Prophet and its optimiser narrate every fit; only their exceptions matter. Not to be nested in threads."""
    # Before the import it complains of a missing plotting library, and the import sets a level of its own.
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)
    import cmdstanpy
    import prophet  # noqa: F401

    # It sets its own level when it first speaks, so a level set here would not last.
    cmdstanpy.disable_logging()
    for name in ("prophet", "prophet.models"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A level would not do: it sets its own, and adds a handler, with the first fit.
    logging.getLogger("cmdstanpy").disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
