"""Dagster's record stays small, and nothing that was built is missing afterwards."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.keys import DAILY
from orchestration.old_runs import forget_runs
from segue.clock import system_time

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-03")
FIRST, SECOND = "2026-01-01", "2026-01-02"
OUTSIDE = dg.AssetKey("outside")


@dg.asset(partitions_def=DAYS, check_specs=[dg.AssetCheckSpec("adds_up", asset="by_day")])
def by_day(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    context.log_event(dg.AssetObservation(by_day.key, metadata={"large": "x" * 300_000}))
    return dg.MaterializeResult(metadata={"large": "x" * 300_000}, check_results=[dg.AssetCheckResult(passed=True)])


@dg.asset
def broken() -> None:
    raise dg.Failure("a reason")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def run(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition, day: str | None = None) -> str:
    return dg.materialize(assets, instance=instance, partition_key=day, raise_on_error=False).run_id


def size(instance: dg.DagsterInstance, run_id: str) -> int:
    shard = Path(instance.storage_directory()).parent / "history" / "runs" / f"{run_id}.db"
    return shard.stat().st_size if shard.exists() else 0


def test_old_runs_go_and_no_built_day_is_missing(own: dg.DagsterInstance) -> None:
    later = system_time() + timedelta(days=30)
    own.report_runless_asset_event(dg.AssetMaterialization(DAILY))
    superseded = run(own, by_day, day=FIRST)
    kept = [run(own, by_day, day=FIRST), run(own, by_day, day=SECOND), run(own, broken)]
    latest = own.get_latest_materialization_event(by_day.key)
    tags = own.event_log_storage.get_latest_tags_by_partition(
        by_day.key, dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
    )
    checks = own.event_log_storage.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(by_day.key, "adds_up")])
    before = size(own, kept[0])
    own.report_runless_asset_event(dg.AssetObservation(OUTSIDE, metadata={"n": 1}))
    own.report_runless_asset_event(dg.AssetObservation(OUTSIDE, metadata={"n": 2}))

    assert forget_runs(own, as_of=system_time(), keep_days=1).deleted == 0  # all of them are young
    # Builds since the KPIs were built last tell which of their days are stale, however old they are.
    assert forget_runs(own, as_of=later, keep_days=14).deleted == 0
    own.report_runless_asset_event(dg.AssetMaterialization(DAILY))
    report = forget_runs(own, as_of=later, keep_days=14)
    assert (report.deleted, report.thinned) == (1, len(kept))

    assert {one.run_id for one in own.get_runs()} == set(kept)
    assert own.get_materialized_partitions(by_day.key) == {FIRST, SECOND}
    assert own.get_latest_materialization_event(by_day.key) == latest
    assert tags == own.event_log_storage.get_latest_tags_by_partition(
        by_day.key, dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
    )
    assert checks == own.event_log_storage.get_latest_asset_check_execution_by_key([*checks])
    [note] = own.fetch_observations(OUTSIDE, limit=9).records
    assert note.asset_observation is not None
    assert note.asset_observation.metadata["n"].value == 2
    assert size(own, superseded) == 0
    assert not (Path(own.storage_directory()) / superseded).exists()
    assert size(own, kept[0]) < before - 500_000
    # The reason of a failure is kept with the run.
    [failure] = own.get_records_for_run(kept[-1], of_type=dg.DagsterEventType.STEP_FAILURE).records
    assert "a reason" in str(failure.event_log_entry.dagster_event)
    again = forget_runs(own, as_of=later, keep_days=14)
    assert (again.deleted, again.thinned) == (0, len(kept))
