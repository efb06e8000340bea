"""What Dagster rebuilds by itself: what was edited and what depends on it, and nothing else."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

EDITED = dg.AssetKey(["segments", "power_users"])
MEMBERSHIPS = dg.AssetKey(["segments", "memberships"])
TRANSITIONS = dg.AssetKey(["segments", "transitions"])
DAILY = dg.AssetKey(["kpis", "daily"])
NEW_KPI = dg.AssetKey(["kpis", "signups"])

#: What tells people is not automated: a sensor knows whether there is anything to tell.
SILENT = {dg.AssetKey(["alerts", "announcements"]), dg.AssetKey(["realtime", "audit"])}


def requested(result: dg.EvaluateAutomationConditionsResult) -> set[dg.AssetKey]:
    return {r.key for r in result.results if isinstance(r.key, dg.AssetKey) and result.get_num_requested(r.key)}


def edited(defs: dg.Definitions, key: dg.AssetKey) -> dg.Definitions:
    """The graph as it is after the SQL of one asset was edited."""
    assets = [
        a.map_asset_specs(lambda s: s.replace_attributes(code_version="edited") if s.key == key else s)
        if isinstance(a, dg.AssetsDefinition) and key in a.keys
        else a
        for a in defs.assets or []
    ]
    return dg.Definitions(
        assets=assets, jobs=defs.jobs, schedules=defs.schedules, sensors=defs.sensors, resources=defs.resources
    )


def downstream(defs: dg.Definitions, key: dg.AssetKey) -> set[dg.AssetKey]:
    graph = defs.resolve_asset_graph()
    found: set[dg.AssetKey] = set()
    waiting = [key]
    while waiting:
        children = {k for k in graph.get(waiting.pop()).child_keys - found if graph.get(k).is_materializable}
        found |= children
        waiting += children
    return found


def build(defs: dg.Definitions, instance: dg.DagsterInstance, keys: set[dg.AssetKey]) -> None:
    """As if a run had built these assets, upstream first, and their checks had passed."""
    graph = defs.resolve_asset_graph()
    for level in graph.toposorted_asset_keys_by_level:
        for key in sorted(set(level) & keys):
            days = graph.get(key).partitions_def
            partition = days.get_last_partition_key() if days is not None else None
            instance.report_runless_asset_event(dg.AssetMaterialization(asset_key=key, partition=partition))
            for check in graph.get_check_keys_for_assets({key}):
                instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(asset_key=key, check_name=check.name, passed=True)
                )


def rounds(defs: dg.Definitions, instance: dg.DagsterInstance, cursor: Any) -> list[set[dg.AssetKey]]:
    """What is asked for, tick by tick, when everything asked for is built, until nothing is."""
    found: list[set[dg.AssetKey]] = []
    for _ in range(10):
        result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
        cursor = result.cursor
        if not requested(result):
            return found
        found.append(requested(result))
        build(defs, instance, found[-1])
    raise AssertionError(f"automation does not come to rest: {found}")


@pytest.fixture
def built(defs: dg.Definitions) -> Iterator[dg.DagsterInstance]:
    """An instance in which everything has just been built."""
    with dg.DagsterInstance.ephemeral() as instance:
        build(defs, instance, set(defs.resolve_asset_graph().materializable_asset_keys))
        yield instance


def test_after_a_refresh_nothing_is_left_to_do(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    assert rounds(defs, instance, None) == []


def test_an_edited_segment_is_rebuilt_with_what_depends_on_it_and_nothing_else(
    defs: dg.Definitions, built: dg.DagsterInstance
) -> None:
    before = dg.evaluate_automation_conditions(defs, built)
    assert requested(before) == set()
    asked = rounds(edited(defs, EDITED), built, before.cursor)
    assert {EDITED, MEMBERSHIPS} <= asked[0], "the segment and its history go together"
    assert set().union(*asked) == {EDITED} | (downstream(defs, EDITED) - SILENT)
    assert sum(DAILY in tick for tick in asked) == 1, "and each once"
    assert dg.AssetKey(["marts", "sessions"]) not in set().union(*asked)
    assert dg.AssetKey(["segments", "inactive_72h"]) not in set().union(*asked)


def test_of_what_belongs_to_a_day_only_the_newest_day_is_rebuilt(
    defs: dg.Definitions, built: dg.DagsterInstance
) -> None:
    before = dg.evaluate_automation_conditions(defs, built)
    after = dg.evaluate_automation_conditions(edited(defs, DAILY), built, cursor=before.cursor)
    assert after.get_num_requested(DAILY) == 1


def without(defs: dg.Definitions, key: dg.AssetKey) -> dg.Definitions:
    """The graph as the automation saw it when it did not know this asset yet."""
    assets = [
        a.map_asset_specs(lambda s: s.replace_attributes(automation_condition=None) if s.key == key else s)
        if isinstance(a, dg.AssetsDefinition) and key in a.keys
        else a
        for a in defs.assets or []
    ]
    return dg.Definitions(assets=assets, resources=defs.resources)


def test_a_new_kpi_is_built_with_the_table_that_reads_it(defs: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        build(defs, instance, set(defs.resolve_asset_graph().materializable_asset_keys) - {NEW_KPI})
        before = dg.evaluate_automation_conditions(without(defs, NEW_KPI), instance)
        asked = rounds(edited(defs, DAILY), instance, before.cursor)
    assert {NEW_KPI, DAILY} <= asked[0]


def test_a_new_kpi_waits_for_a_refresh_when_nothing_of_today_is_there(defs: dg.Definitions) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = defs.resolve_asset_graph()
        whole = {key for key in graph.materializable_asset_keys if graph.get(key).partitions_def is None}
        build(defs, instance, whole)
        before = dg.evaluate_automation_conditions(without(defs, NEW_KPI), instance)
        after = dg.evaluate_automation_conditions(edited(defs, DAILY), instance, cursor=before.cursor)
    assert not {NEW_KPI, DAILY} & requested(after), "the table of all KPIs cannot read what is not there"


def stand_in(
    defs: dg.Definitions, key: dg.AssetKey, *deps: dg.AssetsDefinition, fails: bool = False
) -> dg.AssetsDefinition:
    """An asset of that key, with its checks, which pass."""
    names = [check.name for check in defs.resolve_asset_graph().get_check_keys_for_assets({key})]

    @dg.asset(key=key, deps=deps, check_specs=[dg.AssetCheckSpec(name, asset=key) for name in names])
    def made() -> dg.MaterializeResult:
        if fails:
            raise dg.Failure("a mistake in the SQL")
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(check_name=name, asset_key=key, passed=True) for name in names]
        )

    return made


def test_what_follows_a_failure_waits(defs: dg.Definitions, built: dg.DagsterInstance) -> None:
    before = dg.evaluate_automation_conditions(defs, built)
    # As the UI does it: a run of chosen assets. Transitions are made together with memberships.
    keys = [EDITED, MEMBERSHIPS, TRANSITIONS]
    made = [stand_in(defs, key, fails=key != EDITED) for key in keys]
    everything = dg.Definitions(assets=[*made, stand_in(defs, DAILY)], jobs=[dg.define_asset_job("all", "*")])
    run = everything.resolve_job_def("all").execute_in_process(
        instance=built, asset_selection=keys, raise_on_error=False
    )
    assert not run.success
    assert not set(keys) & requested(dg.evaluate_automation_conditions(defs, built, cursor=before.cursor))


@pytest.mark.parametrize("tag", ["segue/as_of", "segue/whole"])
def test_a_refresh_sets_nothing_off(tag: str, defs: dg.Definitions, built: dg.DagsterInstance) -> None:
    before = dg.evaluate_automation_conditions(defs, built)
    excursion = stand_in(defs, dg.AssetKey(["marts", "person_features"]))
    dg.materialize([excursion], instance=built, tags={tag: "2026-01-01T00:00:00+00:00"})
    assert requested(dg.evaluate_automation_conditions(defs, built, cursor=before.cursor)) == set()
    dg.materialize([excursion], instance=built)
    assert requested(dg.evaluate_automation_conditions(defs, built, cursor=before.cursor)) != set()
