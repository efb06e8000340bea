"""`segue refresh`: the whole graph once, through Dagster, in this process."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
from rich.markup import escape

from orchestration import spare
from orchestration.follow_up import held_up
from orchestration.processes import end_with_parent, stop_on_signals
from segue.cli.console import print_error
from segue.cli.screen import Screen
from segue.clock import parse_as_of, system_time
from segue.errors import SegueError
from segue.settings import Settings, load_settings

err = Screen(stderr=True, soft_wrap=True)

#: With less, SQLite cannot even begin a transaction.
_LEAST_FREE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a refresh."""

    run_ids: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]  # step, reason
    materialized: int  # assets

    @property
    def success(self) -> bool:
        return not self.failures


def main(arguments: list[str] | None = None) -> int:
    """Refresh, say what happened, and return the exit code: 0, or 1 when an asset failed."""
    parser = argparse.ArgumentParser(prog="segue refresh", description="Run the whole graph once through Dagster.")
    parser.add_argument("--as-of", metavar="TIME", help="UTC time, ISO 8601; default: this moment")
    options = parser.parse_args(arguments)
    stop_on_signals()
    end_with_parent()
    home = None
    try:
        as_of = parse_as_of(options.as_of) if options.as_of else system_time()
        settings = load_settings()
        home = settings.home
        outcome = refresh(settings, as_of=as_of)
    except SegueError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        err.print("stopped")
        return 130
    except Exception:
        # Dagster's own files are written everywhere, and each place says so in other words.
        if home is None or not _is_full(home):
            raise
        err.print(f"[bold red]error[/] the disk of {escape(str(home))} is full; what was committed is safe")
        err.print("  fix: free space, then `segue refresh` again", highlight=False)
        return 1
    for step, reason in outcome.failures:
        err.print(f"[bold red]failed[/] {step}", highlight=False)
        err.print(reason, markup=False, highlight=False)
    err.print(f"{outcome.materialized} assets as of {as_of:%Y-%m-%d %H:%M} UTC", highlight=False)
    return 0 if outcome.success else 1


def _is_full(home: Path) -> bool:
    return home.exists() and shutil.disk_usage(home).free < _LEAST_FREE_BYTES


def refresh(settings: Settings, *, as_of: datetime) -> Outcome:
    """Run the graph as of a time.

    When models of segments fail, what works on without them (memberships with each segment's last good state, and all
    that follows) is done in a second run; the outcome still names the failure.

    Raises:
        SegueError: when the graph cannot be loaded, or the time lies outside the days of the graph.
    """
    from orchestration.instance import PROCESS_TAG, close_dead_runs, prepare_home, process_tag

    prepare_home(settings)
    spare.make_ready()
    from orchestration.jobs import REFRESH_JOB, partition_of
    from orchestration.progress import at_a_terminal, reason_of
    from orchestration.resources import AS_OF_TAG

    err.print("loading the graph", style="dim")
    from orchestration.definitions import defs

    job = defs.resolve_job_def(REFRESH_JOB)
    day = partition_of(as_of)
    tags = {AS_OF_TAG: as_of.isoformat(), PROCESS_TAG: process_tag()}
    run_ids: list[str] = []
    failures: list[tuple[str, str]] = []
    done: set[dg.AssetKey | None] = set()
    with dg.DagsterInstance.get() as instance:
        close_dead_runs(instance)
        selection: Sequence[dg.AssetKey] | None = None
        while True:
            with at_a_terminal(), _quiet_stdout():
                result = job.execute_in_process(
                    instance=instance,
                    partition_key=day,
                    tags=tags,
                    run_config={"loggers": {"progress": {}}},
                    raise_on_error=False,
                    asset_selection=selection,
                )
            run_ids.append(result.run_id)
            steps = {e.step_key or "": reason_of(e) for e in result.all_events if e.is_step_failure}
            failures += steps.items()
            done |= {e.asset_key for e in result.all_events if e.is_step_materialization}
            selection = held_up(instance, result.run_id)
            if len(run_ids) > 1 or not selection:
                break
            err.print("going on without what failed", style="dim")
    return Outcome(run_ids=tuple(run_ids), failures=tuple(failures), materialized=len(done))


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """dbt's lines go to the run's log, which the UI shows; a terminal gets ours only."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
