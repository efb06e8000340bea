"""Which part of the audience explains a change, and when none does."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from segue.alerts.compose import why
from segue.watch import Anomaly, explain
from segue.watch.drivers import Part, adtributor
from tests.anomaly import outage

DAY = date(2026, 2, 25)


def load(kpis, values, usual=None):
    """Four weeks of a steady shop; `values` of the last day by slice as (numerator, denominator)."""
    usual = usual or {
        "all": (60, 1000), "platform=web": (30, 600), "platform=ios": (30, 400), "channel=a": (30, 500),
        "channel=b": (30, 500), "segment=vip": (12, 100),
    }  # fmt: skip
    rows = []
    for back in range(36):
        day = DAY - timedelta(days=back)
        for slice_, (n, d) in (values if back == 0 else usual).items():
            rows.append(("conversion", slice_, day, n / d, float(n), float(d)))
            rows.append(("sessions", slice_, day, float(d), float(d), None))
    kpis.load(rows)


def anomaly(kpi, kind) -> Anomaly:
    return outage(kpi=kpi, slice="all", kind=kind, first_date=DAY, last_date=DAY, worst_date=DAY)


def test_the_part_that_fell_is_named_with_its_share(kpis):
    load(
        kpis,
        {
            "all": (60, 700), "platform=web": (30, 300), "platform=ios": (30, 400), "channel=a": (30, 350),
            "channel=b": (30, 350), "segment=vip": (12, 70),
        },
    )  # fmt: skip
    with kpis.read() as con:
        found = explain(con, anomaly("sessions", "count"))
    assert [d.slice for d in found.drivers] == ["platform=web"]
    assert found.drivers[0].share == pytest.approx(1.0)
    assert (found.drivers[0].expected, found.drivers[0].actual) == (600, 300)
    assert found.rate_effect is None


def test_where_everything_falls_alike_no_part_is_the_reason(kpis):
    load(
        kpis,
        {
            "all": (12, 200), "platform=web": (6, 119), "platform=ios": (6, 81), "channel=a": (6, 101),
            "channel=b": (6, 99), "segment=vip": (2, 22),
        },
    )  # fmt: skip
    with kpis.read() as con:
        assert explain(con, anomaly("sessions", "count")).drivers == ()


def test_a_ratio_that_falls_because_others_came_is_mix_and_not_rate(kpis):
    # Nobody converts differently; people of the platform that converts less have doubled.
    load(
        kpis,
        {
            "all": (90, 1600), "platform=web": (60, 1200), "platform=ios": (30, 400), "channel=a": (45, 800),
            "channel=b": (45, 800), "segment=vip": (12, 100),
        },
    )  # fmt: skip
    with kpis.read() as con:
        found = explain(con, anomaly("conversion", "ratio"))
    assert found.drivers[0].slice.startswith("platform=")
    assert found.rate_effect == pytest.approx(0.0, abs=1e-9)
    assert found.mix_effect == pytest.approx(90 / 1600 - 0.06, abs=1e-9)


def test_what_did_not_change_has_no_drivers():
    assert adtributor({"p": [Part(slice="p=a", expected=5, actual=5)]}, is_ratio=False) == []


@pytest.mark.parametrize(("kpi", "kind"), [("sessions", "count"), ("conversion", "ratio")])
def test_what_is_in_no_part_is_not_blamed_on_a_part_that_hardly_moved(kpis, kpi, kind):
    # A hundred sessions without a platform have gone, with all that they bought.
    load(
        kpis,
        {"all": (12, 196), "platform=web": (4, 96), "platform=ios": (8, 100)},
        usual={"all": (42, 300), "platform=web": (4, 100), "platform=ios": (8, 100)},
    )
    with kpis.read() as con:
        found = explain(con, anomaly(kpi, kind))
    assert (found.is_divided, found.drivers) == (True, ())


def test_a_part_is_named_beside_what_is_in_none(kpis):
    load(
        kpis,
        {"all": (0, 210), "platform=web": (0, 40), "platform=ios": (0, 100)},
        usual={"all": (0, 300), "platform=web": (0, 100), "platform=ios": (0, 100)},
    )
    with kpis.read() as con:
        [driver] = explain(con, anomaly("sessions", "count")).drivers
    assert (driver.slice, driver.share) == ("platform=web", pytest.approx(60 / 90))


def test_hours_are_not_explained_by_a_day_that_is_not_over(kpis):
    usual = {"all": (0, 2000), "platform=web": (0, 1000), "platform=ios": (0, 1000)}
    # By half past ten the web has had 200 sessions too many; who has an iPhone comes in the evening.
    load(kpis, {"all": (0, 730), "platform=web": (0, 630), "platform=ios": (0, 100)}, usual=usual)
    hours = tuple(datetime(2026, 2, 25, hour, tzinfo=UTC) for hour in (8, 9))
    spike = replace(anomaly("sessions", "count"), grain="hour", hours=hours, direction="up")
    with kpis.write() as con:
        con.execute("alter table kpis.daily add column is_complete boolean")
        con.execute("update kpis.daily set is_complete = date < $1", [DAY])
        assert not explain(con, spike).is_divided
        assert why(con, spike) == ["Which part moved most is known when the day is over"]
        con.execute("update kpis.daily set is_complete = true")
        assert explain(con, spike).is_divided
