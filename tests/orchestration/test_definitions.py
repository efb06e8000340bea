"""The graph as it is loaded."""

import os
from graphlib import TopologicalSorter
from itertools import pairwise

import dagster as dg
import pytest

from segue.identifiers import Rules
from segue.settings import load_settings

KNOWN_SOURCES = {"landing", "realtime/log", "realtime/memberships", "realtime/webhooks"}


def test_the_graph_loads(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)


def test_groups_follow_one_another(defs: dg.Definitions) -> None:
    """The picture that the UI opens with shows groups: a circle of them has neither beginning nor end."""
    graph = defs.resolve_asset_graph()
    before: dict[str, set[str]] = {}
    for node in graph.asset_nodes:
        earlier = {graph.get(key).group_name for key in node.parent_keys} - {node.group_name}
        before.setdefault(node.group_name, set()).update(earlier)
    order = list(TopologicalSorter(before).static_order())  # raises CycleError
    assert order.index("ingestion") < order.index("identity") < order.index("segments") < order.index("alerts")


def test_every_upstream_key_is_ours(defs: dg.Definitions) -> None:
    nodes = defs.resolve_asset_graph().asset_nodes
    assert {n.key.to_user_string() for n in nodes if not n.is_materializable} == KNOWN_SOURCES


def test_every_dbt_model_is_an_asset_of_its_own(defs: dg.Definitions) -> None:
    from orchestration.project import PROJECT

    keys = {n.key.to_user_string() for n in defs.resolve_asset_graph().asset_nodes}
    assert {model.relation.replace(".", "/") for model in PROJECT.models} <= keys


def test_a_run_works_with_all_of_the_state_that_the_graph_was_loaded_from(
    defs: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import project

    monkeypatch.setenv(project.PINNED_VARIABLE, f"{os.getppid()}:{project.PROJECT.project_dir.parent}")
    monkeypatch.setattr(project, "prepare", lambda _settings: pytest.fail("an edit since then counts"))
    found = project.current(load_settings())
    # Other rules or another key would make other people than the ones in the warehouse.
    assert found == project.PROJECT
    assert found.rules == project.PROJECT.rules != Rules()


def test_the_flow_is_that_of_the_design(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()

    def upstream(key: str) -> set[str]:
        found: set[dg.AssetKey] = set()
        waiting = [dg.AssetKey.from_user_string(key)]
        while waiting:
            parents = graph.get(waiting.pop()).parent_keys - found
            found |= parents
            waiting += parents
        return {k.to_user_string() for k in found}

    chain = ["landing", "raw/events", "staging/stg_events", "identity/identifiers", "marts/sessions"]
    chain += ["marts/person_features", "segments/power_users", "segments/memberships", "kpis/daily", "watch/anomalies"]
    assert set(chain) <= upstream("alerts/announcements")
    for above, below in pairwise(chain):
        assert above in upstream(below), (above, below)
    assert "marts/person_features" in upstream("clusters/assignments")
    assert "realtime/log" in upstream("raw/events")
    assert {"segments/power_users", "realtime/log", "realtime/memberships"} <= upstream("realtime/audit")
    assert "realtime/memberships" in upstream("realtime/webhooks")


def test_a_refresh_does_not_wait_for_real_time(defs: dg.Definitions) -> None:
    made = defs.resolve_job_def("refresh").asset_layer.executable_asset_keys
    assert dg.AssetKey(["realtime", "audit"]) not in made
    assert dg.AssetKey(["alerts", "announcements"]) in made


def test_the_graph_reads_well(defs: dg.Definitions) -> None:
    for node in defs.resolve_asset_graph().asset_nodes:
        name = node.key.to_user_string()
        assert node.group_name != "default", name
        assert node.owners, name
        assert node.kinds, name
        assert node.description, name


def test_dbt_tests_are_asset_checks(defs: dg.Definitions) -> None:
    names = {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    assert any(name.startswith("is_key_") for name in names)
    assert {"read_is_accounted_for", "no_giant_person", "fold_of_transitions", "exclusive_groups_hold"} <= names


@pytest.mark.parametrize("key", ["segments/evaluations", "kpis/daily", "kpis/conversion"])
def test_what_belongs_to_a_day_is_partitioned_by_day(key: str, defs: dg.Definitions) -> None:
    node = defs.resolve_asset_graph().get(dg.AssetKey.from_user_string(key))
    assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)
    assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_sensors_and_schedules_run_by_default(defs: dg.Definitions) -> None:
    reactions = {"new_files", "edited_sql", "anomalies", "failures", "realtime", "automation"}
    assert {s.name for s in defs.sensors or []} == reactions
    assert all(s.default_status is dg.DefaultSensorStatus.RUNNING for s in defs.sensors or [])
    schedules = [s for s in defs.schedules or [] if isinstance(s, dg.ScheduleDefinition)]
    assert {s.name for s in schedules} == {"nightly_refresh", "hourly_audit", "nightly_maintenance"}
    assert all(s.default_status is dg.DefaultScheduleStatus.RUNNING for s in schedules)
