"""Files that wait in the landing zone start a refresh."""

import dagster as dg

from orchestration.jobs import REFRESH_JOB, partition_of, refresh
from orchestration.keys import LANDING
from orchestration.resources import Warehouse
from segue.clock import system_time
from segue.events import PendingFiles, pending_files
from segue.settings import load_settings

_FILES_SHOWN = 10


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
    return react(waiting, asked=context.cursor, is_queued=is_queued, day=partition_of(system_time()))


def react(waiting: PendingFiles, *, asked: str | None, is_queued: bool, day: str) -> dg.SensorResult | dg.SkipReason:
    """Ask for a refresh unless nothing waits, or the same files were asked for.

    Args:
        waiting: what the next refresh would read.
        asked: the fingerprint of the files that were last asked for.
        is_queued: whether a refresh waits to start; it will read these files too.
        day: today's partition.
    """
    if not waiting.files:
        return dg.SkipReason("nothing waits in the landing zone")
    if waiting.fingerprint == asked:
        return dg.SkipReason(f"a refresh for {len(waiting.files)} files has been asked for")
    if is_queued:
        return dg.SkipReason("a refresh that has not started yet will read them")
    names = ", ".join(file.name for file in waiting.files[:_FILES_SHOWN])
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=waiting.fingerprint, partition_key=day)],
        asset_events=[
            dg.AssetObservation(asset_key=LANDING, metadata={"files": len(waiting.files), "names": names}),
        ],
        cursor=waiting.fingerprint,
    )
