"""What sensors ask for, and when they keep quiet."""

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events.log import EventLogEntry

from segue.alerts import Pending
from segue.clock import system_time
from segue.events import EventFile, PendingFiles

pytestmark = pytest.mark.usefixtures("installation")

ONE = PendingFiles(
    files=(EventFile(name="a.ndjson", path=Path("a.ndjson"), size=1, modified_us=0),),
    fingerprint="f1",
)
NONE = PendingFiles(files=(), fingerprint="")


def test_new_files_ask_for_a_refresh_of_today() -> None:
    from sensors.new_files import react

    answer = react(ONE, asked=None, is_queued=False, day="2026-03-01")
    assert isinstance(answer, dg.SensorResult)
    (request,) = answer.run_requests or []
    assert (request.run_key, request.partition_key, answer.cursor) == ("f1", "2026-03-01", "f1")


@pytest.mark.parametrize(
    ("waiting", "asked", "is_queued"), [(NONE, None, False), (ONE, "f1", False), (ONE, None, True), (ONE, "f0", True)]
)
def test_new_files_are_asked_for_once(waiting: PendingFiles, asked: str | None, is_queued: bool) -> None:
    from sensors.new_files import react

    assert isinstance(react(waiting, asked=asked, is_queued=is_queued, day="2026-03-01"), dg.SkipReason)


def test_a_file_that_grew_is_asked_for_again() -> None:
    from sensors.new_files import react

    assert isinstance(react(ONE, asked="f0", is_queued=False, day="2026-03-01"), dg.SensorResult)


def test_files_whose_refresh_was_cut_short_are_asked_for_again_after_a_pause() -> None:
    from sensors.new_files import key_of, next_attempt, react

    def runs(*statuses: dg.DagsterRunStatus) -> list[dg.RunRecord]:
        for number, status in enumerate(statuses, 1):
            tags = {"dagster/run_key": key_of(ONE, number)}
            instance.add_run(dg.DagsterRun(job_name="refresh", tags=tags, status=status))
        keys = [key_of(ONE, number) for number in range(1, 9)]
        return list(instance.get_run_records(dg.RunsFilter(tags={"dagster/run_key": keys})))

    soon, later = (system_time() + timedelta(minutes=minutes) for minutes in (1, 300))
    failed, canceled = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
    for statuses, attempt in [
        ((), 1),
        ((failed,), 2),
        ((failed, canceled), 3),
        ((failed, dg.DagsterRunStatus.SUCCESS), 1),
        ((dg.DagsterRunStatus.STARTED,), 1),
        ((failed,) * 5, 1),  # a person is needed; the nightly refresh tries too
    ]:
        with dg.DagsterInstance.ephemeral() as instance:
            found = runs(*statuses)
            assert next_attempt(found, as_of=soon) == 1
            assert next_attempt(found, as_of=later) == attempt
    answer = react(ONE, asked="f1", attempt=2, is_queued=False, day="2026-03-01")
    assert isinstance(answer, dg.SensorResult)
    assert [request.run_key for request in answer.run_requests or []] == ["f1:2"]
    assert isinstance(react(ONE, asked="f1", attempt=2, is_queued=True, day="2026-03-01"), dg.SkipReason)


def test_a_run_whose_process_is_gone_is_closed_and_one_at_work_is_not() -> None:
    from orchestration.instance import close_dead_runs

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    with dg.DagsterInstance.ephemeral() as instance:
        started = dg.DagsterRunStatus.STARTED
        runs = {
            pid: instance.add_run(dg.DagsterRun(job_name="refresh", status=started)).run_id
            for pid in (gone.pid, os.getpid())
        }
        for pid, run_id in runs.items():
            event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name="refresh", pid=pid)
            entry = EventLogEntry(None, "info", "", run_id, time.time(), job_name="refresh", dagster_event=event)
            instance.event_log_storage.store_event(entry)
        instance.add_run(dg.DagsterRun(job_name="refresh", status=started))  # nobody knows its process
        assert close_dead_runs(instance) == [runs[gone.pid]]
        closed = instance.get_run_by_id(runs[gone.pid])
        assert closed is not None
        assert closed.status is dg.DagsterRunStatus.FAILURE
        assert close_dead_runs(instance) == []


def test_an_alert_is_asked_for_once_per_attempt() -> None:
    from sensors.anomalies import react

    def waiting(attempts: int) -> list[Pending]:
        return [Pending(kind="anomaly", subject_id="a1", channel="slack", attempts=attempts)]

    first, same, later = (react(waiting(n)) for n in (0, 0, 1))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(same, dg.RunRequest)
    assert isinstance(later, dg.RunRequest)
    assert first.run_key == same.run_key != later.run_key
    assert isinstance(react([]), dg.SkipReason)


def test_an_edit_is_loaded_once() -> None:
    from sensors.edited_sql import why_not

    assert why_not("new", loaded="old", asked=None) is None
    assert why_not("new", loaded="old", asked="older") is None
    assert why_not("same", loaded="same", asked=None) is not None
    assert why_not("new", loaded="old", asked="new") is not None


def tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    from orchestration.definitions import defs
    from orchestration.resources import Warehouse

    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"warehouse": Warehouse()}, definitions=defs
    )
    return sensor.evaluate_tick(context)


def test_after_a_refresh_no_sensor_asks_for_anything(instance: dg.DagsterInstance) -> None:
    from sensors import anomalies, edited_sql, failures, new_files

    for sensor in (new_files.new_files, anomalies.anomalies, edited_sql.edited_sql, failures.failures):
        answer = tick(sensor, instance)
        assert not answer.run_requests, sensor.name
        assert answer.skip_message, sensor.name


def test_a_dropped_file_is_seen_with_its_name(instance: dg.DagsterInstance, installation: Any) -> None:
    from sensors.new_files import new_files

    dropped = installation.home / "landing" / "late.ndjson"
    dropped.write_text("{}\n")
    try:
        answer = tick(new_files, instance)
        (request,) = answer.run_requests
        assert request.partition_key is not None
        (seen,) = answer.asset_events
        assert seen.metadata["names"].value == "late.ndjson"
        assert not tick(new_files, instance, cursor=answer.cursor).run_requests
    finally:
        dropped.unlink()


def test_a_failed_run_and_a_failed_check_are_announced_once(installation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensors.failures import failures

    @dg.asset(check_specs=[dg.AssetCheckSpec("adds_up", asset="broken_sum")])
    def broken_sum() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False, description="3 are missing")])

    @dg.asset(check_specs=[dg.AssetCheckSpec("is_large", asset="small_sum")])
    def small_sum() -> dg.MaterializeResult:
        warning = dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)
        return dg.MaterializeResult(check_results=[warning])

    @dg.asset
    def mistake() -> None:
        raise dg.Failure("the reason")

    def announced() -> list[tuple[Any, ...]]:
        return [row for row in installation.alerts() if row[0] != "anomaly"]

    with dg.DagsterInstance.ephemeral() as instance:
        before = len(announced())
        dg.materialize([broken_sum, small_sum], instance=instance)
        failed = dg.materialize([mistake], instance=instance, raise_on_error=False)
        monkeypatch.setattr("sensors.failures._PATIENCE", 0.0)
        with installation.warehouse.lock.held("a long refresh"):
            assert "a long refresh" in tick(failures, instance).skip_message
        assert len(announced()) == before
        first = tick(failures, instance)
        new = announced()
        assert len(new) == before + 2
        assert any(kind == "run_failed" and failed.run_id in subject for kind, subject, _, _ in new)
        assert any(kind == "check_failed" and "adds_up" in subject for kind, subject, _, _ in new)
        assert not any("is_large" in subject for _, subject, _, _ in new)
        tick(failures, instance, cursor=first.cursor)
        tick(failures, instance)  # as after the loss of the cursor
        assert len(announced()) == before + 2


def test_a_failed_rebuild_goes_by_what_it_was_to_rebuild() -> None:
    from sensors.failures import _name_of

    assets = {dg.AssetKey(["kpis", "daily"]), dg.AssetKey(["kpis", "revenue"])}
    assert _name_of(dg.DagsterRun(job_name="refresh")) == "Run of refresh"
    assert _name_of(dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=assets)) == "Rebuild of kpis/daily and 1 more"


def test_a_run_that_was_stopped_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.progress import reason_of

    @dg.asset
    def stopped() -> None:
        raise DagsterExecutionInterruptedError

    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(DagsterExecutionInterruptedError):
            dg.materialize([stopped], instance=instance)
        [run] = instance.get_runs()
        [record] = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
        event = record.event_log_entry.dagster_event
    assert event is not None
    assert "it was stopped before it ended" in reason_of(event)


def graph_with_a_wrong_segment(*, alone: bool) -> dg.Definitions:
    """Two segments in one step, one of them wrong, and what is made from both."""
    specs = [dg.AssetSpec("good", skippable=True), dg.AssetSpec("wrong", skippable=True)]

    @dg.multi_asset(name="dbt_segments" if alone else "dbt_marts", specs=specs)
    def models() -> Any:
        yield dg.MaterializeResult(asset_key="good")
        raise dg.Failure("a mistake in the SQL")

    @dg.asset(deps=["good", "wrong"])
    def memberships() -> None: ...

    return dg.Definitions(
        assets=[models, memberships], jobs=[dg.define_asset_job("refresh", "*", tags={"segue/whole": "true"})]
    )


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize("alone", [True, False])
def test_after_a_failed_segment_the_rest_goes_on_with_the_same_clock(alone: bool) -> None:
    from sensors.failures import goes_on

    with dg.DagsterInstance.ephemeral() as instance:
        job = graph_with_a_wrong_segment(alone=alone).resolve_job_def("refresh")
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        assert not result.success
        record = instance.get_run_record_by_id(result.run_id)
        assert record is not None
        requests = goes_on(instance, record.dagster_run)
        if not alone:
            assert requests == []
            return
        (request,) = requests
        assert request.asset_selection == [dg.AssetKey("memberships")]
        assert request.run_key == f"after {result.run_id}"
        assert request.tags["segue/as_of"] == record.create_timestamp.isoformat()
