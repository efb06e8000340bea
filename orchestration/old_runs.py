"""Dagster's record of runs, kept small: as large as the last days are, however often the graph is refreshed.

What is known of assets stays: the newest event of each kind for each asset and each of its days, and the newest result
of each check. `DagsterInstance.delete_run` alone takes those along, and days that were built long ago would be missing.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.keys import DAILY

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_RUNS_PER_PAGE = 500

#: The run of events that sensors report.
_NO_RUN = ""

_LAST_WORDS = (
    "select max(id) from event_logs where asset_key is not null group by asset_key, dagster_event_type, partition"
)
_LAST_CHECKS = "select max(id) from asset_check_executions group by asset_key, check_name, partition, execution_status"

#: Nearly all that a run's own database holds; the events of assets stand in the index as well.
_BULK = "(asset_key is not null or dagster_event_type = 'STEP_OUTPUT') and timestamp < :before"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenRuns:
    """What one round did."""

    deleted: int
    thinned: int  # runs that built some asset, or some day of one, last: they stay, without their details


def forget_runs(instance: dg.DagsterInstance, *, as_of: datetime, keep_days: int) -> ForgottenRuns:
    """Delete the runs that ended so many days ago; of those that built something last, only the details.

    Args:
        as_of: aware UTC.
        keep_days: how long a run stays as it is.
    """
    before = as_of - timedelta(days=keep_days)
    last = instance.fetch_materializations(DAILY, limit=1).records
    if last:
        # What was built since then says which days of the KPIs are stale.
        before = min(before, datetime.fromtimestamp(last[0].event_log_entry.timestamp, UTC))
    old = list(_ended_before(instance, before))
    needed = _needed(instance)
    thinned = [run_id for run_id in old if run_id in needed]
    for run_id in old:
        if run_id not in needed:
            instance.delete_run(run_id)
            if (shard := _shard(instance, run_id)) is not None:
                for ending in ("", "-wal", "-shm"):
                    shard.with_name(shard.name + ending).unlink(missing_ok=True)
        shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
    moment = f"{before.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
    _forget_superseded(instance, moment)
    for run_id in [*thinned, _NO_RUN]:
        _thin(_shard(instance, run_id), moment)
    return ForgottenRuns(deleted=len(old) - len(thinned), thinned=len(thinned))


def _ended_before(instance: dg.DagsterInstance, moment: datetime) -> Iterator[str]:
    cursor = None
    wanted = dg.RunsFilter(statuses=_FINISHED, updated_before=moment)
    while page := instance.get_run_records(wanted, cursor=cursor, limit=_RUNS_PER_PAGE):
        yield from (record.dagster_run.run_id for record in page)
        cursor = page[-1].dagster_run.run_id


def _needed(instance: dg.DagsterInstance) -> set[str]:
    """The runs that said something of an asset, of a day of one or of a check last."""
    tables = {"event_logs": _LAST_WORDS, "asset_check_executions": _LAST_CHECKS}
    with _index(instance) as con:
        return {
            str(run_id)
            for table, kept in tables.items()
            for (run_id,) in con.exec_driver_sql(f"select distinct run_id from {table} where id in ({kept})")
        }


def _forget_superseded(instance: dg.DagsterInstance, moment: str) -> None:
    """Drop from the index what has been said anew since then; delete_run knows nothing of the results of checks."""
    superseded = f"asset_key is not null and timestamp < '{moment}' and id not in ({_LAST_WORDS})"
    statements = (
        f"delete from asset_event_tags where event_id in (select id from event_logs where {superseded})",
        f"delete from event_logs where {superseded}",
        f"delete from asset_check_executions where evaluation_event_timestamp < '{moment}'"
        f" and id not in ({_LAST_CHECKS})",
    )
    with _index(instance) as con:
        for statement in statements:
            con.exec_driver_sql(statement)


def _thin(shard: Path | None, moment: str) -> None:
    if shard is None or not shard.exists():
        return
    with closing(sqlite3.connect(shard, isolation_level=None, timeout=10)) as con:
        if con.execute(f"delete from event_logs where {_BULK}", {"before": moment}).rowcount:
            with suppress(sqlite3.OperationalError):  # somebody reads it: its space is used again all the same
                con.execute("vacuum")


def _index(instance: dg.DagsterInstance) -> AbstractContextManager[Any]:
    """The database of what is known across runs."""
    storage: Any = instance.event_log_storage
    found: AbstractContextManager[Any] = storage.index_connection()
    return found


def _shard(instance: dg.DagsterInstance, run_id: str) -> Path | None:
    """The run's own database; None where all runs share one."""
    path_for = getattr(instance.event_log_storage, "path_for_shard", None)
    return Path(path_for(run_id)) if path_for is not None else None
