"""What explains an anomaly of a slice: the parts inside it, by the analysts' own KPI SQL."""

from datetime import UTC, date, datetime, timedelta

import pytest

from segue.alerts.compose import why
from segue.dashboard.pages import drivers
from segue.models import Project, prepare
from segue.settings import Settings
from segue.watch import Anomaly, explain, look_inside
from segue.watch.record import write_anomalies
from segue.watch.tables import ensure_tables
from tests.watch.test_rules import outage

DAY = date(2026, 2, 25)
AS_OF = datetime(2026, 2, 26, 6, tzinfo=UTC)

#: Five weeks of a shop in which a fifth of the sessions of every part has an order. On the last day the `missing`
#: sessions do not begin and the `lost` orders are not made; `never` ones are made on no day. Every tenth person is vip.
SHOP = """
create schema if not exists marts;
create schema if not exists segments;
create or replace table segments.memberships as
select
    'p' || p as person_id, 'vip' as segment, timestamp '2026-01-01' as entered_at, null::timestamp as exited_at
from range(0, 1000, 10) r(p);
create or replace table segments.evaluations as
select 'vip' as segment, timestamp '2026-01-01' + interval (d) day as as_of, 100 as member_count, 100 as active_count
from range(1, 57) r(d);
create or replace table marts.sessions as
with everything as (
    select
        platform, channel, country, n, date '2026-01-21' + d::int as date, 'p' || n as person_id, n % 5 = 0 as buys
    from (values ('web'), ('ios')) p(platform), (values ('email'), ('search'), ('ads')) c(channel),
        (values ('US'), ('DE')) l(country), range(100) r(n), range(36) s(d)
)
select
    platform || channel || country || n || date as session_id, person_id, platform, channel, country,
    date + interval 9 hour as started_at, date + interval 10 hour as ended_at, 3600 as duration_seconds,
    0 as signup_count, is_converted::int as order_count, is_converted, is_converted::int * 20.0 as revenue
from (select *, buys and not ({never}) and not (date = date '2026-02-25' and ({lost})) as is_converted from everything)
where not (date = date '2026-02-25' and ({missing}))
"""

#: The shipped KPIs of two slices, written a second time.
DAILY = """
create schema if not exists kpis;
create or replace table kpis.daily as
with sliced as (
    select 'platform=ios' as slice, * from marts.sessions where platform = 'ios'
    union all
    select 'segment=vip', * from marts.sessions where person_id in (select person_id from segments.memberships)
),
days as (
    select slice, started_at::date as date, count(*)::double as n, count(*) filter (is_converted)::double as hits,
        median(duration_seconds) as middle
    from sliced group by all
)
select 'sessions' as kpi, slice, date, n as value, n as numerator, null::double as denominator from days
union all select 'conversion', slice, date, hits / n, hits, n from days
union all select 'retention', slice, date, hits / n, hits, n from days
union all select 'engagement_duration_median', slice, date, middle, null, n from days
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return prepare(Settings(home=tmp_path_factory.mktemp("shipped"), _env_file=None))  # type: ignore[call-arg]


def moved(kpi: str, slice_: str, kind: str) -> Anomaly:
    return outage(kpi=kpi, slice=slice_, kind=kind, first_date=DAY, last_date=DAY, worst_date=DAY)


def look(kpis, project: Project, *found: Anomaly, lost="false", missing="false", never="false") -> int:
    with kpis.write() as con:
        for statement in f"{SHOP.format(lost=lost, missing=missing, never=never)};{DAILY}".split(";\n"):
            con.execute(statement)
        ensure_tables(con)
        con.execute("delete from watch.anomalies")
        write_anomalies(con, found, [])
        return look_inside(con, project, as_of=AS_OF, since=DAY - timedelta(days=27))


def test_the_cause_inside_a_slice_is_named_first(kpis, shipped):
    anomaly = moved("conversion", "platform=ios", "ratio")
    # Half the orders by e-mail are lost on iOS; on the web it is search that fails, which is nothing to iOS.
    lost = "(platform = 'ios' and channel = 'email' and n % 10 = 0) or (platform = 'web' and channel = 'search')"
    assert look(kpis, shipped, anomaly, lost=lost) == 1
    with kpis.read() as con:
        found, words = explain(con, anomaly), why(con, anomaly)
    assert words[0].startswith("Moved most within platform ios: channel email (100 % of the change, there −50 %)")
    assert ">channel email<" in drivers(found, anomaly)
    first = found.drivers[0]
    assert (first.slice, first.share) == ("channel=email", pytest.approx(1.0))
    assert (first.expected, first.actual) == (pytest.approx(0.2), pytest.approx(0.1))
    assert found.rate_effect == pytest.approx(-0.1 / 3)
    assert found.mix_effect == pytest.approx(0.0, abs=1e-9)


def test_fewer_of_those_who_buy_more_is_mix_and_not_rate(kpis, shipped):
    anomaly = moved("conversion", "platform=ios", "ratio")
    # Nobody buys by advertisement anywhere, ever; then the visits by e-mail on iOS do not come.
    never = "channel = 'ads' and buys"
    look(kpis, shipped, anomaly, missing="platform = 'ios' and channel = 'email'", never=never)
    with kpis.read() as con:
        found = explain(con, anomaly)
    assert found.drivers[0].slice == "channel=email"
    assert found.rate_effect == pytest.approx(0.0, abs=1e-9)
    assert found.mix_effect == pytest.approx(0.1 - 0.4 / 3)


def test_a_segment_is_divided_by_who_was_in_it(kpis, shipped):
    anomaly = moved("sessions", "segment=vip", "count")
    assert look(kpis, shipped, anomaly, missing="country = 'DE' and n % 20 = 0") == 1
    with kpis.read() as con:
        [driver] = explain(con, anomaly).drivers
    assert (driver.slice, driver.expected, driver.actual) == ("country=DE", 60, 30)


def test_where_a_whole_slice_falls_alike_no_part_of_it_is_the_reason(kpis, shipped):
    anomaly = moved("sessions", "platform=ios", "count")
    look(kpis, shipped, anomaly, missing="platform = 'ios' and n < 50")
    with kpis.read() as con:
        found = explain(con, anomaly)
    assert (found.is_divided, found.drivers) == (True, ())


@pytest.mark.parametrize(("kpi", "kind"), [("retention", "ratio"), ("engagement_duration_median", "amount")])
def test_a_kpi_that_does_not_divide_says_so(kpis, shipped, kpi, kind):
    anomaly = moved(kpi, "platform=ios", kind)
    look(kpis, shipped, anomaly, lost="platform = 'ios' and channel = 'email'")
    with kpis.read() as con:
        found = explain(con, anomaly)
    assert not found.is_divided
    assert "What the parts of platform ios did is not known" in drivers(found, anomaly)


def test_parts_that_do_not_show_the_change_of_the_slice_are_not_believed(kpis, shipped):
    anomaly = moved("sessions", "platform=ios", "count")
    look(kpis, shipped, anomaly, missing="platform = 'ios' and channel = 'email'")
    with kpis.write() as con:
        con.execute("update kpis.daily set value = 300, numerator = 300 where date = $1", [DAY])
    with kpis.read() as con:
        assert not explain(con, anomaly).is_divided


def test_looking_again_writes_nothing(kpis, shipped):
    anomaly = moved("sessions", "platform=ios", "count")
    look(kpis, shipped, anomaly, missing="platform = 'ios' and channel = 'email'")
    before = kpis.commits()
    with kpis.write() as con:
        assert look_inside(con, shipped, as_of=AS_OF, since=DAY) == 0
    assert kpis.commits() == before


def test_an_anomaly_that_ended_before_the_judged_days_is_left_alone(kpis, shipped):
    anomaly = moved("sessions", "platform=ios", "count")
    with kpis.write() as con:
        ensure_tables(con)
        write_anomalies(con, [anomaly], [])
        assert look_inside(con, shipped, as_of=AS_OF, since=DAY + timedelta(days=1)) == 0
