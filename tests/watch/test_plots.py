"""Pictures: always a PNG, whatever the names hold."""

import struct
from datetime import UTC, date, datetime

import pytest

from segue.errors import BadInputError
from segue.watch import anomalies, detect, plot, plot_anomaly, plot_funnel, plot_overview, plot_retention
from segue.watch.series import Point
from tests.anomaly import outage

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = "platform=<script>$\\frac{1}{0}$ 🎉\n\u202eevil" + "x" * 500


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_anomaly_and_overview_are_drawn_for_any_name(kpis, make_counts):
    kpis.load(make_counts(slice_=HOSTILE, count=70, factors={date(2026, 2, 11): 0.2}))
    with kpis.write() as con:
        detect(con, as_of=AS_OF, country="US")
    with kpis.read() as con:
        [anomaly] = anomalies(con)
        for png in (plot_anomaly(con, anomaly.anomaly_id), plot_overview(con)):
            width, height = size(png)
            assert 800 < width < 1200
            assert 150 < height < 600


def test_an_empty_record_can_be_drawn(kpis, make_counts):
    kpis.load(make_counts(count=10))
    with kpis.write() as con:
        detect(con, as_of=AS_OF, country="US")
    with kpis.read() as con:
        size(plot_overview(con))


@pytest.mark.parametrize(("step_days", "width"), [(7, 7.0), (1, 1.0)])
def test_what_was_expected_of_one_week_or_day_alone_is_seen(monkeypatch, step_days, width):
    drawn = []
    monkeypatch.setattr(plot, "png", lambda fig: drawn.append(fig) or b"")
    sundays = [date(2026, 2, 1 + 7 * n) for n in range(4)]
    points = [Point(date=d, value=20.0, numerator=20.0, denominator=None) for d in sundays]
    one = outage(grain="week", first_date=date(2026, 2, 16), last_date=date(2026, 2, 22), worst_date=date(2026, 2, 22))
    view = plot._View(points=points, band=[(sundays[3], 20.0, 15.0, 25.0)], kind="count", step_days=step_days)
    plot._draw(view, kpi="sessions", title="", marked=[one], subtitle="")
    [axes] = drawn[0].axes
    [band] = axes.collections
    box = band.get_paths()[0].get_extents()
    assert (box.width, box.height) == (width, 10.0)
    mark = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert box.x1 == pytest.approx(mark.x1), "it ends where the anomaly does"


def test_what_does_not_exist_is_said_to_be_so(kpis, make_counts):
    kpis.load(make_counts(count=10))
    with kpis.read() as con, pytest.raises(BadInputError, match="no anomaly 'nope'"):
        plot_anomaly(con, "nope")


def test_retention_and_funnel_are_heat_maps_and_nothing_before_the_first_cohort(warehouse):
    with warehouse.read() as con:
        assert (plot_retention(con, "week"), plot_funnel(con)) == (None, None)
    with warehouse.write("test") as con:
        con.execute("create schema kpis")
        con.execute(
            "create table kpis.retention_cohorts as select p as period,"
            " date '2026-01-05' + (c * n)::int as cohort_date, a as age, 50 as person_count,"
            " (50 / (1 + a))::bigint as returned_count, a < 3 as is_complete"
            " from (values ('week', 7), ('day', 1)) v(p, n), range(9) r(c), range(9) q(a) where c + a < 9 and a <> 2"
        )
        con.execute(
            "create table kpis.funnel as select date '2026-02-01' + d::int as date, p as position, s as step,"
            " n as person_count, true as is_complete from range(20) r(d),"
            " (values (0, 'Active', 100), (1, $1, 60), (2, 'Order Completed', 9)) v(p, s, n)",
            [HOSTILE],
        )
        for png in (plot_retention(con, "week"), plot_retention(con, "day"), plot_funnel(con)):
            width, height = size(png)
            assert (800 < width < 1200, 250 < height < 700) == (True, True)
