"""A run that failed, or a check of severity ERROR that failed, is announced, whoever started the run.

After a segment has failed, what can go on without it is started.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import dagster as dg

from orchestration.follow_up import held_up
from orchestration.instance import PROCESS_TAG, close_dead_runs
from orchestration.jobs import follow_up
from orchestration.progress import first_line, reason_of
from orchestration.resources import AS_OF_TAG, WHOLE_TAG, Clock, Warehouse
from segue import alerts
from segue.clock import system_time
from segue.errors import BusyError
from segue.settings import load_settings

#: Ends of runs looked at in one tick: each costs a read of that run's log, and a tick has 60 seconds.
_RUNS_PER_TICK = 20

#: A refresh writes for minutes.
_PATIENCE = 10.0

_PARTITION_TAG = "dagster/partition"

_ENDS = {"failed": dg.DagsterEventType.RUN_FAILURE, "succeeded": dg.DagsterEventType.RUN_SUCCESS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is announced."""

    kind: Literal["run_failed", "check_failed"]
    subject_id: str  # the same failure has the same id, whoever sees it
    title: str
    detail: str
    url: str


@dg.sensor(
    name="failures",
    job=follow_up,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Announces failed runs and failed checks; after a failed segment, goes on without it.",
)
def failures(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult | dg.SkipReason:
    """Runs end once, so a cursor over the ends of runs neither repeats nor misses any."""
    # Runs are processes of the machine that this runs on.
    close_dead_runs(context.instance)
    cursor = json.loads(context.cursor or "{}")
    found: list[Failure] = []
    requests: list[dg.RunRequest] = []
    for name, event_type in _ENDS.items():
        page = context.instance.fetch_run_status_changes(
            event_type, limit=_RUNS_PER_TICK, cursor=cursor.get(name), ascending=True
        )
        cursor[name] = page.cursor
        for record in page.records:
            run = context.instance.get_run_by_id(record.event_log_entry.run_id)
            if run is not None:
                found += failures_of(context.instance, run)
                requests += goes_on(context.instance, run)
    if not found:
        context.update_cursor(json.dumps(cursor))
        return dg.SkipReason("no new failure")
    try:
        for failure in found:
            alerts.announce_failure(
                warehouse.core(),
                load_settings(),
                kind=failure.kind,
                subject_id=failure.subject_id,
                title=failure.title,
                detail=failure.detail,
                url=failure.url,
                as_of=system_time(),
                patience=_PATIENCE,
            )
    except BusyError as error:
        # The next tick sees the same ends of runs; what was announced is in the ledger, what was asked for has its key.
        if not requests:
            return dg.SkipReason(f"failures wait to be announced: {error.message}")
        return dg.SensorResult(run_requests=requests, cursor=context.cursor)
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(cursor))


def goes_on(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.RunRequest]:
    """The run that does what failed segments have held up; `segue refresh` does it by itself."""
    if run.status is not dg.DagsterRunStatus.FAILURE or PROCESS_TAG in run.tags or run.job_name == follow_up.name:
        return []
    assets = held_up(instance, run.run_id)
    if not assets:
        return []
    tags = {}
    if AS_OF_TAG in run.tags or WHOLE_TAG in run.tags:
        # The same clock, so that all of the refresh is of one time.
        tags[AS_OF_TAG] = Clock().as_of_run(instance, run).isoformat()
    return [
        dg.RunRequest(
            run_key=f"after {run.run_id}",
            partition_key=run.tags.get(_PARTITION_TAG),
            asset_selection=assets,
            tags=tags,
        )
    ]


def _name_of(run: dg.DagsterRun) -> str:
    """`Run of refresh`; what the automation asked for has no job of its own, so it goes by what it was to rebuild."""
    if not run.asset_selection or not run.job_name.startswith("__"):
        return f"Run of {run.job_name}"
    first, *more = sorted(key.to_user_string() for key in run.asset_selection)
    return f"Rebuild of {first}" + (f" and {len(more)} more" if more else "")


def failures_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[Failure]:
    """What went wrong in a run that has ended."""
    url = f"{load_settings().dagster_url}/runs/{run.run_id}"
    found = []
    if run.status is dg.DagsterRunStatus.FAILURE:
        records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
        reasons = [
            f"{event.step_key}: {first_line(reason_of(event))}"
            for record in records
            if (event := record.event_log_entry.dagster_event) is not None
        ]
        found.append(
            Failure(
                kind="run_failed",
                subject_id=run.run_id,
                title=f"{_name_of(run)} failed",
                detail="\n".join(reasons) or "the process of the run ended",
                url=url,
            )
        )
    for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        result = event.asset_check_evaluation_data
        if not result.passed and result.severity is dg.AssetCheckSeverity.ERROR:
            asset = result.asset_key.to_user_string()
            found.append(
                Failure(
                    kind="check_failed",
                    subject_id=f"{run.run_id}:{asset}:{result.check_name}",
                    title=f"Check {result.check_name} of {asset} failed",
                    detail=result.description or f"{result.check_name} failed on {asset}",
                    url=f"{load_settings().dagster_url}/assets/{asset}?view=checks&checkDetail={result.check_name}",
                )
            )
    return found
