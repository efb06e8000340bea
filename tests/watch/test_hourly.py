"""By the hour: an outage is found within hours, an ordinary night is not."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from segue.watch import anomalies, describe, ensure_tables
from segue.watch.hourly import judge_hours

AS_OF = datetime(2026, 3, 4, 15, 20, tzinfo=UTC)  # a Wednesday


@pytest.fixture
def hours(kpis):
    """Four weeks of hours with a daily season, and some `later` ones; `factors` by hours before 15:00."""

    def load(factors, *, seed=0, share=0.2, later=0, shares=()):
        rng = np.random.default_rng(seed)
        end = AS_OF.replace(minute=0, tzinfo=None)
        rows = []
        for back in range(30 * 24, -later, -1):
            at = end - timedelta(hours=back)
            mean = 200 * (1 + 0.8 * math.sin(2 * math.pi * (at.hour - 9) / 24)) * (0.7 if at.weekday() >= 5 else 1)
            count = float(rng.poisson(mean * rng.lognormal(0, 0.06) * factors.get(back, 1.0)))
            if count:
                rows.append(("sessions", "all", at, count, count, None, True))
                hits = float(rng.binomial(int(count), dict(shares).get(back, share)))
                rows.append(("conversion", "all", at, hits / count, hits, count, True))
        names = ["kpi", "slice", "hour_at", "value", "numerator", "denominator", "is_complete"]
        with kpis.write() as con:
            con.execute("create schema if not exists kpis")
            con.register("rows", pd.DataFrame(rows, columns=names))
            con.execute("create or replace table kpis.hourly as from rows")

    return load


def run(kpis, as_of=AS_OF):
    with kpis.write() as con:
        ensure_tables(con)
        judge_hours(con, as_of=as_of)
    with kpis.read() as con:
        return anomalies(con)


def test_an_outage_of_three_hours_is_one_anomaly_with_its_hours(kpis, hours):
    hours({2: 0.0, 3: 0.1, 4: 0.1})
    [found] = run(kpis)
    assert (found.kpi, found.direction, found.grain, found.severity) == ("sessions", "down", "hour", "high")
    assert "from 11:00 to 14:00 UTC on Wed 4 Mar 2026" in describe(found)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_ordinary_days_raise_nothing(kpis, hours, seed):
    hours({}, seed=seed)
    assert run(kpis) == []


def test_what_was_found_keeps_its_id_grows_and_is_withdrawn_when_the_events_come_late(kpis, hours):
    hours({3: 0.1, 4: 0.1})
    [before] = run(kpis, AS_OF - timedelta(hours=2))
    [after] = run(kpis)
    assert (after.anomaly_id, after.detected_at) == (before.anomaly_id, before.detected_at)
    commits = kpis.commits()
    run(kpis)
    assert kpis.commits() == commits
    hours({})
    assert run(kpis) == []


def test_what_leaves_the_judged_hours_one_by_one_stays_what_it_was(kpis, hours):
    hours({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1}, later=60)
    [first] = run(kpis)
    for later in (44, 45, 46, 47, 48, 49, 60):
        [still] = run(kpis, AS_OF + timedelta(hours=later))
        same = ("anomaly_id", "hours", "detected_at", "value", "severity")
        assert [getattr(still, name) for name in same] == [getattr(first, name) for name in same], later


@pytest.mark.parametrize("kpi", ["sessions", "conversion"])
def test_what_began_before_the_judged_hours_goes_on_under_its_id(kpis, hours, kpi):
    low = dict.fromkeys(range(4, -6, -1), 0.02)
    hours(low if kpi == "sessions" else {}, later=50, shares=low if kpi == "conversion" else {})
    [before] = run(kpis)
    [after] = run(kpis, AS_OF + timedelta(hours=48))
    assert (after.anomaly_id, after.detected_at) == (before.anomaly_id, before.detected_at)
    assert after.hours == (before.hours[0], AS_OF.replace(hour=20, minute=0))
    with kpis.read() as con:
        [(count, total)] = con.execute(
            "select sum(numerator), sum(denominator) from kpis.hourly where kpi = $1 and hour_at between $2 and $3",
            [kpi, *(hour.replace(tzinfo=None) for hour in after.hours)],
        ).fetchall()
    assert (after.value, after.denominator) == (pytest.approx(count / (total or 1)), total)
    assert after.value < after.lower < after.expected < after.upper
