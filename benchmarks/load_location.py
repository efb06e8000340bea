"""How long the code location takes to load, against bare Dagster with `dbt parse` on the same dbt project.

`python -m benchmarks.load_location [--quick]`. Each load is a process of its own, ours and theirs in turn:
cold (nothing compiled yet, as after an edit on a new machine) and warm (nothing edited since the last load).
The figure is the worse of the two ratios.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._report import report
from segue.clock import system_time
from segue.models import dbt_environment
from segue.settings import PROJECT_ROOT, load_settings

GOAL = 1.5

_OURS = """
import dagster as dg
from orchestration.definitions import defs
dg.Definitions.validate_loadable(defs)
"""

#: As in dagster-dbt's documentation: a project, parsed when it is loaded, and one set of assets.
_BARE = """
import os, sys
from pathlib import Path
import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets
project = DbtProject(project_dir=Path(sys.argv[1]), target_path=Path(os.environ["DBT_TARGET_PATH"]))
project.prepare_if_dev()
@dbt_assets(manifest=project.manifest_path)
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource):
    yield from dbt.cli(["build"], context=context).stream()
defs = dg.Definitions(assets=[models], resources={"dbt": DbtCliResource(project_dir=project)})
dg.Definitions.validate_loadable(defs)
"""


def main() -> None:
    """Measure, print the single times, and the result as JSON on the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one round instead of five")
    rounds = 1 if parser.parse_args().quick else 5
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home:
            for state in ("cold", "warm"):
                for who, load in (("bare", _load_bare), ("ours", _load_ours)):
                    times.setdefault((who, state), []).append(load(Path(home)))
    for (who, state), seconds in times.items():
        print(f"{who} {state}: " + ", ".join(f"{s:.2f} s" for s in seconds))
    ratios = [
        statistics.median(times["ours", state]) / statistics.median(times["bare", state]) for state in ("cold", "warm")
    ]
    figure = round(max(ratios), 2)
    against = "bare dagster + dagster-dbt with dbt parse, cold and warm, the worse ratio"
    report(
        "load_location",
        figure=figure,
        unit="times the time of bare dagster",
        against=against,
        goal=f"<= {GOAL}",
        holds=figure <= GOAL,
    )


def _load_ours(home: Path) -> float:
    return _timed([sys.executable, "-c", _OURS], {"SEGUE_HOME": str(home / "ours")})


def _load_bare(home: Path) -> float:
    settings = load_settings(home=home / "bare")
    copy = home / "bare" / "project"
    if not copy.exists():
        shutil.copytree(settings.dbt_project, copy, ignore=shutil.ignore_patterns("target", "logs"))
    target = home / "bare" / "target"
    environment = {
        **dbt_environment(settings, as_of=system_time()),
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(target),
        # What `dagster dev` sets: dagster-dbt then parses at each load.
        "DAGSTER_IS_DEV_CLI": "1",
    }
    return _timed([sys.executable, "-c", _BARE, str(copy)], environment)


def _timed(command: list[str], environment: dict[str, str]) -> float:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    started = time.perf_counter()
    subprocess.run(
        command,
        env={**os.environ, **environment, "PATH": path, "PYTHONPATH": str(PROJECT_ROOT)},
        cwd=PROJECT_ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
