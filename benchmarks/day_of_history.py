"""One more day of events on a short and on a long history, and a full refresh of the long one, in the same run.

Each home gets its history, is refreshed, gets one more day, and is refreshed again: that last refresh is timed, from
the file in the landing zone to the memberships (ingest, staging, identity, sessions, features, segments). Then the
long home is refreshed with every incremental model rebuilt.

    python -m benchmarks.day_of_history [--quick] [--people N] [--short N] [--long N]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from benchmarks._report import report
from segue.clock import end_of_day
from segue.events import ingest
from segue.events.simulator import simulate
from segue.identity import stitch
from segue.models import Project, dbt_environment, prepare
from segue.segments import ensure_tables, refresh_memberships
from segue.settings import Settings
from segue.warehouse import Warehouse

LAST_DAY = date(2026, 3, 1)


def _dbt(settings: Settings, project: Project, as_of: datetime, *select: str, full: bool) -> None:
    command = [str(Path(sys.executable).with_name("dbt")), "--quiet", "run", "--select", *select]
    command += ["--project-dir", str(project.project_dir), "--profiles-dir", str(project.project_dir)]
    environment = os.environ | dbt_environment(settings, as_of=as_of)
    done = subprocess.run(
        command + (["--full-refresh"] if full else []), env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def _refresh(settings: Settings, project: Project, as_of: datetime, *, full: bool = False) -> dict[str, float]:
    """Seconds of each stage."""
    warehouse = Warehouse(settings)
    seconds: dict[str, float] = {}

    def lap(stage: str, started: float) -> None:
        seconds[stage] = time.perf_counter() - started

    started = time.perf_counter()
    ingest(warehouse, as_of=as_of)
    lap("ingest", started)
    started = time.perf_counter()
    _dbt(settings, project, as_of, "staging", full=full)
    lap("staging", started)
    started = time.perf_counter()
    with warehouse.write("benchmark") as con:
        stitch(con, as_of=as_of)
    lap("identity", started)
    started = time.perf_counter()
    _dbt(settings, project, as_of, "intermediate", "marts", "propensity", "segments", full=full)
    lap("marts and segments", started)
    started = time.perf_counter()
    with warehouse.write("benchmark") as con:
        ensure_tables(con)
        refresh_memberships(con, project, as_of=as_of)
    lap("memberships", started)
    return seconds


def _home(base: Path, name: str, files: list[Path]) -> tuple[Settings, Project]:
    settings = Settings(home=base / name, _env_file=None)  # type: ignore[call-arg]
    settings.landing_zone.mkdir(parents=True)
    for file in files:
        _land(file, settings)
    return settings, prepare(settings)


def _land(file: Path, settings: Settings) -> None:
    target = settings.landing_zone / file.name
    shutil.copyfile(file, target)
    os.utime(target, (0, 0))  # quiet for long, so that it is read at once


def _show(what: str, seconds: dict[str, float]) -> float:
    total = sum(seconds.values())
    print(f"{what}: {total:.1f} s  ({', '.join(f'{stage} {s:.1f}' for stage, s in seconds.items())})", flush=True)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 people, 10 and 40 days")
    parser.add_argument("--people", type=int)
    parser.add_argument("--short", type=int, help="days of the short history")
    parser.add_argument("--long", type=int, help="days of the long history")
    options = parser.parse_args()
    people = options.people or (100 if options.quick else 3000)
    short, long = options.short or (10 if options.quick else 30), options.long or (40 if options.quick else 365)
    base = Path(tempfile.mkdtemp(prefix="day-of-history-"))
    try:
        until = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC) + timedelta(days=1)
        simulate(base / "made", people=people, days=long + 1, seed=1, until=until)
        files = sorted((base / "made" / "events").iterdir())
        *history, last = files
        print(f"{people} people, {sum(f.stat().st_size for f in files) / 1e6:.0f} MB of files", flush=True)
        before, after = end_of_day(LAST_DAY - timedelta(days=1)), end_of_day(LAST_DAY)
        days = {}
        for name, count in (("short", short), ("long", long)):
            settings, project = _home(base, name, history[-count:])
            _show(f"first refresh of {count} days", _refresh(settings, project, before))
            _land(last, settings)
            days[name] = _show(f"one more day on {count} days", _refresh(settings, project, after))
        full = _show(f"full refresh of {long} days", _refresh(settings, project, after, full=True))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    growth, share = days["long"] / days["short"], days["long"] / full
    report(
        "day_of_history",
        figure=growth,
        unit=f"× the cost of a day on {short} days of history, with {long} days",
        against=f"a full refresh of {long} days: a day costs {share:.2f} of it",
        goal="≤ 1.5",
        holds=growth <= 1.5,
        share_of_full_refresh=round(share, 3),
    )


if __name__ == "__main__":
    main()
