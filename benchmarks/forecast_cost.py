"""What watching costs: a first detection over many series, a rerun of the next day, memory, against sequential Prophet.

World: series of `benchmarks/_anomaly_world`, 400 days each, the last four weeks judged. First detection: every week by
a forecast made before it, on both cores. Compared in the same run: the same fits with Prophet as its guide shows it
(default settings and `predict`), one after the other. Rerun: the day after, with the week's forecasts in the warehouse.
Memory: the peak of the process after a quarter of the series and after all. `--quick`: 24 series.

    python -m benchmarks.forecast_cost [--quick]
"""

import resource
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from benchmarks._anomaly_world import LAST, Case, world
from benchmarks._report import report
from segue.clock import end_of_day
from segue.settings import Settings
from segue.warehouse import Warehouse
from segue.watch import detect
from segue.watch.prophet import quiet

JUDGE_DAYS = 28


def load(warehouse: Warehouse, cases: list[Case]) -> None:
    rows = [
        (f"k{n}", "all", p.date, p.value, p.numerator, p.denominator)
        for n, case in enumerate(cases)
        for p in case.series.points
    ]
    frame = pd.DataFrame(rows, columns=["kpi", "slice", "date", "value", "numerator", "denominator"])
    with warehouse.write("benchmark") as con:
        con.execute("create schema if not exists kpis")
        con.register("frame", frame)
        con.execute("create or replace table kpis.daily as from frame")


def run(warehouse: Warehouse, as_of: datetime) -> tuple[float, int]:
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"  {text}", file=sys.stderr)

    with warehouse.write("benchmark") as con:
        result = detect(con, as_of=as_of, country="US", judge_days=JUDGE_DAYS, progress=tell)
    return time.monotonic() - began, result.fit_count


def sequential(cases: list[Case], fit_count: int) -> float:
    """Seconds for as many fits and forecasts of a week with plain Prophet; measured on 60, since each costs alike."""
    from prophet import Prophet

    measured = min(fit_count, 60)
    began = time.monotonic()
    with quiet():
        for n in range(measured):
            points = cases[n % len(cases)].series.points
            known = [p for p in points if p.date <= LAST - timedelta(days=7 * (n % 4))]
            model = Prophet()
            model.add_country_holidays("US")
            model.fit(pd.DataFrame({"ds": pd.to_datetime([p.date for p in known]), "y": [p.value for p in known]}))
            model.predict(model.make_future_dataframe(periods=7))
    return (time.monotonic() - began) * fit_count / measured


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(*, quick: bool) -> None:
    cases = world(seed=3, count=24 if quick else 200)
    with tempfile.TemporaryDirectory() as folder:
        small = Warehouse(Settings(home=Path(folder) / "small", _env_file=None))  # type: ignore[call-arg]
        load(small, cases[: len(cases) // 4])
        run(small, end_of_day(LAST - timedelta(days=1)))
        few_mb = peak_mb()
        warehouse = Warehouse(Settings(home=Path(folder) / "all", _env_file=None))  # type: ignore[call-arg]
        load(warehouse, cases)
        first, fits = run(warehouse, end_of_day(LAST - timedelta(days=1)))
        all_mb = peak_mb()
        again, refits = run(warehouse, end_of_day(LAST))
        plain = sequential(cases, fits)
    print(f"first detection of {len(cases)} series: {first:.1f} s for {fits} fits; sequential Prophet {plain:.1f} s")
    print(f"the next day: {again:.1f} s for {refits} fits; memory {few_mb:.0f} MB → {all_mb:.0f} MB")
    report(
        "forecast_cost",
        figure=plain / first,
        unit="times as fast as sequential Prophet",
        against=f"sequential Prophet {plain:.0f} s",
        goal="1.8, a rerun 5 times cheaper than the first, memory flat",
        holds=plain / first >= 1.8 and first / again >= 5 and all_mb - few_mb < 100,
        rerun_cheaper=round(first / again, 1),
        first_seconds=round(first, 1),
        memory_mb=[round(few_mb), round(all_mb)],
    )


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
