"""Jobs and schedules."""

from datetime import datetime

import dagster as dg

from orchestration.automation import day_of
from orchestration.keys import ANNOUNCEMENTS, AUDIT, PROBABLE
from orchestration.old_runs import forget_runs
from orchestration.resources import WHOLE_TAG, Warehouse
from segue.clock import system_time
from segue.errors import BadInputError
from segue.events import remove_read_files
from segue.settings import load_settings
from segue.valkey import is_running
from segue.warehouse import maintain

#: Names of jobs.
REFRESH_JOB = "refresh"
ANNOUNCE_JOB = "announce"

refresh = dg.define_asset_job(
    REFRESH_JOB,
    # Not the audit: it holds what is served against the models, with real time at work. Nor what trains when asked.
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets(AUDIT, PROBABLE),
    description="The whole graph, from the landing zone to the alert.",
    tags={WHOLE_TAG: "true"},
    executor_def=dg.in_process_executor,
)

follow_up = dg.define_asset_job(
    "follow_up",
    selection=dg.AssetSelection.all(),
    description="What goes on after a segment has failed. Started by the sensor `failures` for some of the assets.",
    executor_def=dg.in_process_executor,
)

announce = dg.define_asset_job(
    ANNOUNCE_JOB,
    selection=dg.AssetSelection.assets(ANNOUNCEMENTS),
    description="Sends what waits to be announced.",
    executor_def=dg.in_process_executor,
)


audit = dg.define_asset_job(
    "audit",
    selection=dg.AssetSelection.assets(AUDIT),
    description="Holds what is served in real time against the models, run for everyone as of the same moment.",
    executor_def=dg.in_process_executor,
)


@dg.schedule(
    job=audit,
    cron_schedule="35 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each hour, where real time runs.",
)
def hourly_audit(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    if not is_running(load_settings()):
        return dg.SkipReason("real time does not run here")
    return dg.RunRequest()


@dg.op(description="Rewrites small files, forgets old states, removes dead files. Readers are not disturbed.")
def maintain_warehouse(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    report = maintain(warehouse.core(), as_of=system_time())
    context.log.info(
        f"rewritten: {', '.join(report.rewritten) or 'nothing'}; {report.expired_snapshots} old states forgotten; "
        f"{report.removed_files} files removed"
    )


@dg.op(description="Removes files of the landing writer that the warehouse has had for long. Files of others stay.")
def maintain_landing(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    with warehouse.read() as con:
        removed = remove_read_files(load_settings(), con, as_of=system_time())
    context.log.info(f"{removed} files of the landing writer removed")


@dg.op(description="Deletes old runs. What is known of the assets and their days stays.")
def maintain_runs(context: dg.OpExecutionContext) -> None:
    report = forget_runs(context.instance, as_of=system_time(), keep_days=load_settings().run_days)
    context.log.info(f"{report.deleted} old runs deleted; {report.thinned} kept without their details")


@dg.job(description="Keeps the warehouse and Dagster's record small and quick.", executor_def=dg.in_process_executor)
def maintenance() -> None:
    maintain_warehouse()
    maintain_landing()
    maintain_runs()


@dg.schedule(
    job=refresh,
    cron_schedule="15 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each night: time passes for segments and KPIs although no event has come.",
)
def nightly_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(partition_key=partition_of(context.scheduled_execution_time))


nightly_maintenance = dg.ScheduleDefinition(
    name="nightly_maintenance",
    job=maintenance,
    cron_schedule="45 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


def partition_of(as_of: datetime) -> str:
    """The day that a refresh as of this time belongs to.

    Raises:
        BadInputError: when the graph has no such day.
    """
    if as_of > system_time():
        raise BadInputError(f"{as_of.isoformat()} lies in the future", fix="choose a time that has passed")
    first = load_settings().history_start
    if day_of(as_of) < first:
        raise BadInputError(
            f"{as_of.isoformat()} lies before the first day of the graph, {first}",
            fix="choose a later time, or set SEGUE_HISTORY_START to an earlier day",
        )
    return day_of(as_of).isoformat()
