"""The whole graph, run through Dagster."""

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

Script = Callable[..., "subprocess.CompletedProcess[str]"]


def test_every_asset_is_materialized_by_one_run(
    defs: dg.Definitions, instance: dg.DagsterInstance, refreshed: Any
) -> None:
    (run,) = instance.get_runs(dg.RunsFilter(job_name="refresh", statuses=[dg.DagsterRunStatus.SUCCESS]))[-1:]
    assert run.tags["segue/as_of"] == refreshed.as_of.isoformat()
    for key in defs.resolve_job_def("refresh").asset_layer.executable_asset_keys:
        assert instance.get_latest_materialization_event(key) is not None, key


def test_every_complete_day_of_the_history_is_evaluated(refreshed: Any, instance: dg.DagsterInstance) -> None:
    days = {day for (day,) in refreshed.rows("select distinct as_of from segments.evaluations")}
    first = refreshed.rows("select min(received_at)::date from raw.events")[0][0]
    assert len(days) == (refreshed.as_of.date() - first).days
    partitions = instance.get_materialized_partitions(dg.AssetKey(["segments", "evaluations"]))
    assert len(partitions) == len(days)
    assert instance.get_materialized_partitions(dg.AssetKey(["kpis", "conversion"])) >= partitions


def test_every_message_is_accounted_for(refreshed: Any) -> None:
    truth = json.loads((refreshed.home / "history" / "truth" / "summary.json").read_text())
    read, quarantined = refreshed.rows("select sum(read_count), sum(quarantined_count) from raw.loads")[0]
    assert read == truth["lines"]
    assert quarantined > 0


@pytest.mark.parametrize("key", ["staging/stg_events", "marts/person_features", "segments/power_users", "kpis/daily"])
def test_every_model_has_columns_with_their_lineage_and_a_row_count(key: str, instance: dg.DagsterInstance) -> None:
    event = instance.get_latest_materialization_event(dg.AssetKey.from_user_string(key))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["dagster/row_count"].value is not None
    columns = {c.name for c in metadata["dagster/column_schema"].schema.columns}
    lineage = metadata["dagster/column_lineage"].column_lineage
    assert set(lineage.deps_by_column) == columns
    assert any(lineage.deps_by_column.values())


def test_lineage_covers_every_model(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    from orchestration.project import PROJECT

    without = []
    for model in PROJECT.models:
        event = instance.get_latest_materialization_event(dg.AssetKey(model.relation.split(".")))
        assert event is not None
        assert event.asset_materialization is not None
        if "dagster/column_lineage" not in event.asset_materialization.metadata:
            without.append(model.relation)
    assert without == []


@pytest.mark.parametrize(("key", "name"), [("clusters/assignments", "map"), ("watch/anomalies", "overview")])
def test_plots_are_pictures_in_the_ui(key: str, name: str, instance: dg.DagsterInstance) -> None:
    event = instance.get_latest_materialization_event(dg.AssetKey.from_user_string(key))
    assert event is not None
    assert event.asset_materialization is not None
    assert "data:image/png;base64,iVBOR" in str(event.asset_materialization.metadata[name].value)


def test_a_second_refresh_as_of_the_same_time_writes_nothing_new(refreshed: Any) -> None:
    before = refreshed.snapshot()
    done = refreshed.run("refresh", "--as-of", refreshed.as_of.isoformat())
    assert done.returncode == 0, done.stderr
    assert refreshed.snapshot() == before


BACKFILL = """
import sys
import dagster as dg
from orchestration.definitions import defs
keys = [k for k in defs.resolve_asset_graph().materializable_asset_keys if k.path[0] == "kpis"]
keys.append(dg.AssetKey(["segments", "evaluations"]))
as_of, *ranges = sys.argv[1:]
with dg.DagsterInstance.get() as instance:
    for first, last in (days.split(":") for days in ranges):
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        result = defs.resolve_job_def("refresh").execute_in_process(
            instance=instance, tags={**tags, "segue/as_of": as_of}, asset_selection=keys, raise_on_error=False
        )
        if not result.success:
            sys.exit(1)
"""


def test_a_backfill_gives_what_each_day_gives(refreshed: Any, script: Script) -> None:
    """Two days at once, as the UI does it, against each of them by itself, both from an empty history."""
    days = [(refreshed.as_of - timedelta(days=n)).date().isoformat() for n in (3, 2)]
    history = ("evaluations", "transitions", "memberships", "merged_people")

    def run(*ranges: str) -> None:
        # Nothing is filled in beyond what is asked for.
        done = script(BACKFILL, refreshed.as_of.isoformat(), *ranges, SEGUE_HISTORY_DAYS="0")
        assert done.returncode == 0, done.stderr[-3000:]

    def state() -> dict[str, list[Any]]:
        tables = (*(f"segments.{name}" for name in history), "kpis.daily")
        return {table: refreshed.rows(f"select * from {table} order by all") for table in tables}

    with refreshed.warehouse.read() as con:
        kept = {name: con.execute(f"select * from segments.{name}").to_arrow_table() for name in history}

    def clear() -> None:
        with refreshed.warehouse.write("forget the history") as con:
            for name in history:
                con.execute(f"delete from segments.{name}")
            for table in ("activity", "retention"):
                con.execute(f"delete from kpis.{table} where date in ($1::date, $2::date)", days)

    try:
        clear()
        run(f"{days[0]}:{days[1]}")
        at_once = state()
        assert {str(row[1])[:10] for row in at_once["segments.evaluations"]} == {
            (refreshed.as_of - timedelta(days=n)).date().isoformat() for n in (2, 1)
        }
        clear()
        run(*(f"{day}:{day}" for day in days))
        assert state() == at_once
    finally:
        with refreshed.warehouse.write("put the history back") as con:
            for name in history:
                con.execute(f"delete from segments.{name}")
                con.register("kept_rows", kept[name])
                con.execute(f"insert into segments.{name} by name select * from kept_rows")
                con.unregister("kept_rows")


def test_bad_input_a_full_disk_is_named_whoever_noticed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestration import refresh as module

    monkeypatch.setenv("SEGUE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "stop_on_signals", lambda: None)
    monkeypatch.setattr(module, "end_with_parent", lambda: None)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk I/O error")

    monkeypatch.setattr(module, "refresh", fail)
    with pytest.raises(OSError, match="disk I/O"):
        module.main([])
    monkeypatch.setattr(module, "_LEAST_FREE_BYTES", 1 << 62)
    assert module.main([]) == 1
    said = capsys.readouterr().err
    assert "is full" in said
    assert "free space" in said
