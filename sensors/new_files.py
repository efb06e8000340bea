"""Files that wait in the landing zone start a refresh."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg

from orchestration.jobs import REFRESH_JOB, partition_of, refresh
from orchestration.keys import LANDING
from orchestration.resources import Warehouse
from segue.clock import system_time
from segue.events import PendingFiles, pending_files
from segue.settings import load_settings

_FILES_SHOWN = 10

#: After a refresh that ended without having read the files: a full disk, a restart of the machine.
_PAUSES = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 45, 135))
_CUT_SHORT = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_RUN_KEY_TAG = "dagster/run_key"


@dg.sensor(
    name="new_files",
    job=refresh,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Files that wait in the landing zone start a refresh.",
)
def new_files(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult | dg.SkipReason:
    """What was read is in the ledger of the warehouse, so nothing is missed or repeated after a restart."""
    settings = load_settings()
    with warehouse.read() as con:
        waiting = pending_files(settings, con)
    ahead = dg.RunsFilter(job_name=REFRESH_JOB, statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED])
    is_queued = context.instance.get_runs_count(ahead) > 0
    now = system_time()
    attempt = 1
    if waiting.files and waiting.fingerprint == context.cursor:
        keys = [key_of(waiting, number) for number in range(1, len(_PAUSES) + 2)]
        attempt = next_attempt(context.instance.get_run_records(dg.RunsFilter(tags={_RUN_KEY_TAG: keys})), as_of=now)
    return react(waiting, asked=context.cursor, attempt=attempt, is_queued=is_queued, day=partition_of(now))


def key_of(waiting: PendingFiles, attempt: int) -> str:
    """Dagster honours a run key once."""
    return waiting.fingerprint if attempt == 1 else f"{waiting.fingerprint}:{attempt}"


def next_attempt(runs: Sequence[dg.RunRecord], *, as_of: datetime) -> int:
    """The number of the refresh to ask for next for files that wait still; 1: none, the one that was asked for counts.

    Args:
        runs: those that were asked for, the newest first.
        as_of: aware UTC.
    """
    if not runs or len(runs) > len(_PAUSES) or runs[0].dagster_run.status not in _CUT_SHORT:
        return 1
    return len(runs) + 1 if as_of - runs[0].update_timestamp >= _PAUSES[len(runs) - 1] else 1


def react(
    waiting: PendingFiles, *, asked: str | None, is_queued: bool, day: str, attempt: int = 1
) -> dg.SensorResult | dg.SkipReason:
    """Ask for a refresh unless nothing waits, or the same files were asked for.

    Args:
        waiting: what the next refresh would read.
        asked: the fingerprint of the files that were last asked for.
        is_queued: whether a refresh waits to start; it will read these files too.
        day: today's partition.
        attempt: more than 1: the refreshes that were asked for have failed.
    """
    if not waiting.files:
        return dg.SkipReason("nothing waits in the landing zone")
    if waiting.fingerprint == asked and attempt == 1:
        return dg.SkipReason(f"a refresh for {len(waiting.files)} files has been asked for")
    if is_queued:
        return dg.SkipReason("a refresh that has not started yet will read them")
    names = ", ".join(file.name for file in waiting.files[:_FILES_SHOWN])
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=key_of(waiting, attempt), partition_key=day)],
        asset_events=[
            dg.AssetObservation(asset_key=LANDING, metadata={"files": len(waiting.files), "names": names}),
        ],
        cursor=waiting.fingerprint,
    )
