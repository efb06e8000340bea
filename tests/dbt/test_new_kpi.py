"""An analyst's new KPI is one file of SQL and one of YAML; dbt, the forecasts and the detection take it from there."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from segue.models.kpis import kpi_models
from segue.watch import anomalies, detect

AS_OF = datetime(2026, 3, 12, tzinfo=UTC)
OUTAGE = date(2026, 3, 10)
SQL = """
{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'orders' as kpi,
    slice,
    date,
    cast(order_count as double) as value,
    cast(order_count as double) as numerator,
    cast(null as double) as denominator,
    is_complete
from activity
"""
YAML = """
models:
  - name: orders
    description: Orders of the day.
    config: {meta: {segue: {kpi: {label: Orders, unit: count, better: up}}}}
"""


def test_two_files_add_a_kpi_that_is_built_forecast_and_watched(
    make_edited_lab: Callable[[Path], Any], tmp_path: Path
) -> None:
    lab = make_edited_lab(tmp_path / "home")
    folder = lab.project / "models" / "kpis"
    # One of the others is enough to see that they are left as they are.
    for name in set(kpi_models(lab.project)) - {"session_count"}:
        for path in folder.glob(f"{name}.*"):
            path.unlink()
    with lab.warehouse.write("seventy days") as con:
        con.execute("create schema kpis")
        con.execute(
            """
            create table kpis.activity as
            select
                'all' as slice, date '2026-01-01' + d::int as date, true as is_complete,
                300 + hash(d) % 40 as session_count,
                case when date '2026-01-01' + d::int = $1 then 20 else 150 + d % 7 * 10 + hash(d) % 20 end
                    as order_count
            from range(70) r(d)
            """,
            [OUTAGE],
        )
    (folder / "orders.sql").write_text(SQL)
    (folder / "orders.yml").write_text(YAML)
    lab.run("--select", "session_count", "orders", "daily", as_of=AS_OF)
    with lab.warehouse.write("watch") as con:
        report = detect(con, as_of=AS_OF, country="US", judge_days=7)
        found = anomalies(con)
        expected = con.execute(
            "select expected from watch.forecasts where kpi = 'orders' and date = $1", [OUTAGE]
        ).fetchall()
    assert report.judged_count == 2
    assert [(a.kpi, a.first_date, a.direction, a.severity) for a in found] == [("orders", OUTAGE, "down", "high")]
    assert 150 < expected[0][0] < 230
