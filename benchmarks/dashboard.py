"""How long the pages of the dashboard take with 100,000 people and 365 days, each asked for for the first time.

World, made by SQL: 12 KPIs in 40 slices for 365 days with forecasts and anomalies, 12 segments with a million
transitions and 350,000 present members, 26 weekly cohorts, a funnel. The dashboard is a process; each page is asked
for over HTTP with another range of days each time, so that none is answered from memory. Compared with the same pages
asked for once more, which are. `--quick`: 10,000 people.

    python -m benchmarks.dashboard [--quick]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import requests

from benchmarks._report import report
from segue.settings import PROJECT_ROOT, Settings
from segue.warehouse import Warehouse
from segue.watch import ensure_tables
from segue.watch.incidents import group_anomalies

DAYS = 365
PAGES = ["/?slice={slice}&days={days}", "/kpi/kpi{n}?slice={slice}&days={days}", "/segments?days={days}"]
PAGES += ["/funnel?days={days}", "/retention?by={by}&x={days}", "/incidents?x={days}", "/health?x={days}"]


def fill(warehouse: Warehouse, people: int) -> None:
    with warehouse.write("benchmark") as con:
        ensure_tables(con)
        for schema in ("kpis", "segments", "raw"):
            con.execute(f"create schema {schema}")
        con.execute(
            f"""
            create table kpis.daily as
            select 'kpi' || k as kpi, case when s = 0 then 'all' else 'platform=p' || s end as slice,
                date '2025-03-01' + d::int as date, 1000 + 100 * sin(d) + hash(k * 7 + s + d) % 90 as value,
                1000.0 as numerator, null::double as denominator, true as is_complete
            from range(12) ks(k), range(40) ss(s), range({DAYS}) ds(d)
            union all
            select 'segment_size', 'segment=s' || s, date '2025-03-01' + d::int, {people} / (2 + s) + d, 1.0,
                null, true
            from range(12) ss(s), range({DAYS}) ds(d)
            """
        )
        con.execute(
            "insert into watch.forecasts (kpi, slice, date, expected, lower, upper)"
            " select kpi, slice, date, 1040, 850, 1200 from kpis.daily where kpi <> 'segment_size'"
        )
        con.execute(
            "insert into watch.series (kpi, slice, status, detail, judged_at, last_judged_date, detectable_change)"
            " select distinct kpi, slice, 'judged', 'x', timestamp '2026-03-01', date '2026-02-28', 0.2 from"
            " kpis.daily"
        )
        con.execute(
            "insert into watch.anomalies (anomaly_id, kpi, slice, started_at, ended_at, value, expected,"
            " lower, upper,"
            " severity, direction, detected_at, worst_date, score, kind, grain)"
            " select kpi || slice || date, kpi, slice, date, date, value, 1040, 850, 1200, 'high', 'down',"
            " date, date, 9,"
            " 'count', 'day' from kpis.daily where kpi <> 'segment_size' and hash(kpi || slice || date) % 400 = 0"
        )
        last = con.execute("select max(date) from kpis.daily").fetchall()[0][0]
        group_anomalies(con, known_until=last)
        con.execute(
            f"""
            create table segments.transitions as
            select 'p' || p as person_id, 's' || ((p + t + c) % 12) as segment,
                case when c = 0 then 'exited' else 'entered' end as change,
                timestamp '2025-03-01' + (hash(p * 31 + t) % {DAYS})::bigint * interval 1 day as effective_at
            from range({people}) ps(p), range(5) ts(t), range(2) cs(c)
            """
        )
        con.execute(
            f"""
            create table segments.memberships as
            select 'p' || p as person_id, 's' || s as segment, null::timestamp as exited_at
            from range({people}) ps(p), range(12) ss(s) where hash(p * 13 + s) % 12 < 4 or s = 0
            """
        )
        con.execute(
            "create table kpis.retention_cohorts as select case when c < 26 then 'week' else 'day' end as period,"
            " date '2025-09-01' + (7 * (c % 26))::int as cohort_date, a as age, 900 as person_count,"
            " (900 / (1 + a))::bigint as returned_count, true as is_complete from range(52) cs(c), range(13) ages(a)"
        )
        con.execute(
            f"create table kpis.funnel as select date '2025-03-01' + d::int as date, p as position, 'Step '"
            f" || p as step,"
            f" 9000 // (1 + p) as person_count, true as is_complete from range({DAYS}) ds(d), range(5) ps(p)"
        )
        con.execute("create table raw.events as select timestamp '2026-02-28' as received_at")


def await_answer(url: str) -> None:
    """The address is told before the first page can be had."""
    for _ in range(600):
        try:
            requests.get(f"{url}/healthz", timeout=60)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")


def main(*, quick: bool) -> None:
    people = 10_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), _env_file=None)  # type: ignore[call-arg]
        fill(Warehouse(settings), people)
        env = {**os.environ, "SEGUE_HOME": folder, "PYTHONPATH": str(PROJECT_ROOT)}
        command = [sys.executable, "-c", "from segue.cli import app; app()", "dashboard", "--port", "0"]
        program = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        try:
            assert program.stderr is not None
            url = program.stderr.readline().split()[-1]
            await_answer(url)
            first, again = [], []
            for turn in range(6 if quick else 15):
                for number, page in enumerate(PAGES):
                    path = page.format(
                        slice="all" if turn % 2 else f"platform%3Dp{1 + turn}",
                        days=DAYS - turn,
                        n=turn % 12,
                        by="week" if turn % 2 else "day",
                    )
                    for times in (first, again):
                        began = time.monotonic()
                        answer = requests.get(url + path, timeout=60)
                        times.append((time.monotonic() - began, number))
                        assert answer.status_code == 200, (path, answer.text[:500])
        finally:
            program.terminate()
            program.wait()
    for number, page in enumerate(PAGES):
        mine = [seconds for seconds, n in first if n == number]
        print(f"{page:42} p50 {1000 * np.median(mine):6.0f} ms   p95 {1000 * np.quantile(mine, 0.95):6.0f} ms")
    p95 = float(np.quantile([s for s, _ in first], 0.95))
    report(
        "dashboard",
        figure=p95,
        unit="seconds, p95 of pages never asked for before",
        against=f"asked for again {np.quantile([s for s, _ in again], 0.95):.3f} s",
        goal="under 2",
        holds=p95 < 2,
        people=people,
        days=DAYS,
    )


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
