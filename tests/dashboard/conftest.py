"""A warehouse with KPIs, an incident, segments, clusters, scores and cohorts, and the pages on it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from segue.dashboard import make_app
from segue.quality import Finding, keep_incidents, record
from segue.settings import Settings
from segue.warehouse import Warehouse
from segue.watch import ensure_tables
from segue.watch.incidents import group_anomalies
from tests.dashboard.discovered import fill_discovered

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "platform=<script>alert(1)</script>"


def fill(warehouse: Warehouse) -> None:
    with warehouse.write("test") as con:
        ensure_tables(con)
        for schema in ("kpis", "segments", "quality"):
            con.execute(f"create schema {schema}")
        con.execute(
            """
            create table kpis.daily as
            select kpi, slice, date '2025-11-01' + d::int as date,
                case when kpi = 'conversion' then 0.1 else 200 + d % 7 * 10 end
                    * (case when d = 110 then 0.4 else 1 end)::double as value,
                case when kpi = 'conversion' then 20.0 else 200.0 end as numerator,
                case when kpi = 'conversion' then 200.0 end as denominator, true as is_complete
            from (values ('sessions'), ('conversion')) k(kpi), (values ('all'), ('platform=web'), ($1))
                s(slice), range(120) r(d)
            union all
            select 'segment_size', 'segment=power_users', date '2025-11-01' + d::int, 10 + d, 10 + d, 100, true
                from range(120) r(d)
            """,
            [HOSTILE],
        )
        con.execute(
            """
            insert into watch.forecasts (kpi, slice, date, expected, lower, upper)
            select kpi, slice, date, 230, 190, 280 from kpis.daily where kpi = 'sessions' and date > '2026-01-20'
            """
        )
        con.execute(
            "insert into watch.series (kpi, slice, status, detail, judged_at, last_judged_date,"
            " detectable_change) values"
            " ('sessions', 'all', 'judged', 'x', '2026-03-01', '2026-02-28', 0.2),"
            " ('conversion', 'all', 'too_short', 'Twelve days.', '2026-03-01', null, null),"
            " ('conversion', 'platform=web', 'by_week', 'Judged by the week.', '2026-03-01', '2026-02-22', 0.9)"
        )
        for slice_ in ("all", "platform=web"):
            con.execute(
                "insert into watch.anomalies (anomaly_id, kpi, slice, started_at, ended_at, value, expected,"
                " lower, upper,"
                " severity, direction, detected_at, worst_date, score, kind, grain) values ($1, 'sessions',"
                " $2, $3, $3, 104, 230,"
                " 190, 280, 'high', 'down', '2026-02-20', $3, 9, 'count', 'day')",
                [f"a-{slice_}", slice_, date(2026, 2, 19)],
            )
        group_anomalies(con, known_until=date(2026, 2, 28))
        con.execute("create schema raw")
        con.execute(
            "create table raw.events as select 'track' as type, 'Order <b>' as event, 'web' as source,"
            " timestamp '2026-01-20 09:00:00' + d * interval 1 day as received_at"
            " from range(40) r(d), range(20) where d < 34"
        )
        day = date(2026, 2, 23)
        gone = Finding(
            check="volume", weight="error", subject="event Order <b>", first_date=day, last_date=date(2026, 2, 28),
            sentence="Event Order <b> sent nothing on 2026-02-23, where 20 are usual.", distorts=True,
            event="Order <b>",
        )  # fmt: skip
        record(con, [gone], as_of=NOW)
        keep_incidents(con, as_of=NOW)
        con.execute(
            "create table segments.transitions as select 'p' || n as person_id, s as segment, c as change,"
            " timestamp '2026-02-20' as effective_at from range(9) r(n), (values ('low', 'exited'), ('high',"
            " 'entered')) v(s, c)"
        )
        con.execute(
            "insert into segments.transitions select 'p' || n, 'power_users', 'exited', timestamp '2026-02-20'"
            " from range(9) r(n)"
        )
        con.execute(
            "create table segments.evaluations as select s as segment, t as as_of, g as exclusive_group"
            " from (values ('low', timestamp '2026-02-20', 'risk'), ('high', timestamp '2026-02-20', 'risk'),"
            " ('power_users', timestamp '2026-01-20', 'risk'), ('power_users', timestamp '2026-02-20', null))"
            " v(s, t, g)"
        )
        con.execute(
            "create table segments.memberships as select 'p' || n as person_id, s as segment, null::timestamp"
            " as exited_at"
            " from range(9) r(n), (values ('high'), ('power_users')) v(s) where s = 'high' or n < 3"
        )
        con.execute(
            "create table kpis.retention_cohorts as select 'week' as period, date '2026-01-05' + (7 * c)::int"
            " as cohort_date,"
            " a as age, 50 as person_count, (50 / (1 + a))::bigint as returned_count, true as is_complete"
            " from range(6) r(c), range(6) q(a) where c + a < 6"
        )
        con.execute(
            "create table kpis.funnel as select date '2026-02-20' as date, p as position, s as step, n as"
            " person_count,"
            " true as is_complete from (values (0, 'Active', 100), (1, 'Product Viewed', 60), (2, 'Order"
            " Completed', 9)) v(p, s, n)"
        )
        fill_discovered(con)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a filled installation."""
    settings = Settings(home=tmp_path_factory.mktemp("dashboard"), _env_file=None)  # type: ignore[call-arg]
    fill(Warehouse(settings))
    return settings


@pytest.fixture(scope="module")
def client(site: Settings) -> Iterator[TestClient]:
    with TestClient(make_app(site, lambda: NOW)) as client:
        yield client


@pytest.fixture(scope="module")
def incident(client: TestClient) -> Any:
    """The id of the only incident of a KPI."""
    return client.get("/incidents").text.split("Sessions")[0].rsplit('href="/incident/', 1)[1].split('"')[0]
