"""A segment that is wrong fails alone, says why, and holds up nobody."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dbt project with one segment that is no SQL, one that the data refuse, and one that is gone."""
    copy = tmp_path_factory.mktemp("edited") / "dbt_project"
    shutil.copytree(ROOT / "dbt_project", copy, ignore=shutil.ignore_patterns("target", "logs"))
    segments = copy / "models" / "segments"
    (segments / "typo.sql").write_text("select person_id fro {{ ref('person_features') }} wher\n")
    (segments / "power_users.sql").write_text(
        "select person_id, cast(cast(person_id as integer) as varchar) as reason from {{ ref('person_features') }}\n"
    )
    for file in segments.glob("feature_never_used.*"):
        file.unlink()
    return copy


@pytest.fixture(scope="module")
def later(refreshed: Any, project: Path) -> tuple["subprocess.CompletedProcess[str]", datetime]:
    """A refresh with these segments, a second later."""
    as_of = refreshed.as_of + timedelta(seconds=1)
    return refreshed.run("refresh", "--as-of", as_of.isoformat(), SEGUE_DBT_PROJECT=str(project)), as_of


def test_a_broken_definition_is_an_asset_that_says_why(
    project: Path, script: Callable[..., "subprocess.CompletedProcess[str]"], defs: dg.Definitions
) -> None:
    text = """
import dagster as dg
from orchestration.definitions import defs
dg.Definitions.validate_loadable(defs)
graph = defs.resolve_asset_graph()
node = graph.get(dg.AssetKey(["segments", "typo"]))
print(node.description)
print("version", graph.get(dg.AssetKey(["segments", "memberships"])).code_version)
assert node.is_materializable and node.group_name == "segments"
assert graph.get(dg.AssetKey(["segments", "inactive_72h"])).is_materializable
"""
    done = script(text, SEGUE_DBT_PROJECT=str(project))
    assert done.returncode == 0, done.stderr
    assert "Not usable" in done.stdout
    assert "models/segments/typo.sql" in done.stdout
    # So automation closes a segment that is gone at once: no asset of its own could say that it was edited.
    version = defs.resolve_asset_graph().get(dg.AssetKey(["segments", "memberships"])).code_version
    assert version
    assert f"version {version}\n" not in done.stdout


def test_the_refresh_fails_and_names_both(later: tuple["subprocess.CompletedProcess[str]", datetime]) -> None:
    done, _ = later
    assert done.returncode == 1
    assert "power_users" in done.stderr
    assert "Conversion Error" in done.stderr
    assert "Could not convert" in done.stderr
    assert "models/segments/typo.sql" in done.stderr


def test_all_other_segments_and_what_follows_are_up_to_date(
    refreshed: Any, later: tuple["subprocess.CompletedProcess[str]", datetime]
) -> None:
    _, as_of = later
    moment = as_of.replace(tzinfo=None)
    recorded = {
        name
        for (name,) in refreshed.rows(
            f"select segment from segments.evaluations where as_of = '{moment}' and not is_held"
        )
    }
    assert "inactive_72h" in recorded
    assert "power_users" not in recorded
    today = refreshed.rows(f"select count(*) from kpis.daily where date = '{moment.date()}' and kpi = 'sessions'")
    assert today[0][0] > 0, "KPIs follow the memberships"


def test_a_segment_that_is_gone_closes_and_leaves_no_table(
    refreshed: Any, later: tuple["subprocess.CompletedProcess[str]", datetime]
) -> None:
    moment = later[1].replace(tzinfo=None)
    assert refreshed.rows(
        "select count(*) > 0, count(*) filter (exited_at is null) from segments.memberships"
        " where segment = 'feature_never_used'"
    ) == [(True, 0)]
    assert refreshed.rows(
        "select distinct cause from segments.transitions"
        f" where segment = 'feature_never_used' and effective_at = '{moment}'"
    ) == [("definition removed",)]
    tables = {name for (name,) in refreshed.rows("select table_name from information_schema.tables")}
    assert "feature_never_used" not in tables
    assert "power_users" in tables


def test_the_failed_segment_keeps_its_last_good_state(
    refreshed: Any, later: tuple["subprocess.CompletedProcess[str]", datetime]
) -> None:
    moment = refreshed.as_of.replace(tzinfo=None)
    good = refreshed.rows(
        f"select member_count from segments.evaluations where segment = 'power_users' and as_of = '{moment}'"
    )
    now = refreshed.rows(
        "select count(*) from segments.memberships where segment = 'power_users' and exited_at is null"
    )
    assert now == good
