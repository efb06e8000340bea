"""The shipped dbt project builds, passes its own tests, and says what it makes."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from segue.models import evaluate, prepare
from segue.settings import PROJECT_ROOT

#: As in the fixture `built`.
AS_OF = datetime(2026, 1, 9, 12, tzinfo=UTC)

PROJECT = PROJECT_ROOT / "dbt_project"
MODELS = sorted((PROJECT / "models").rglob("*.sql"))
SQL = [*MODELS, *sorted((PROJECT / "macros").glob("*.sql")), *sorted((PROJECT / "tests").rglob("*.sql"))]

CLOCKS = re.compile(
    r"\b(now|today|get_current_time|get_current_timestamp|transaction_timestamp|unix_timestamp)\s*\(|"
    r"\b(current_date|current_timestamp|current_time|localtime|localtimestamp|run_started_at)\b",
    re.IGNORECASE,
)
#: The same words mean other things to Spark, without an error.
NOT_PORTABLE = re.compile(
    r"\b(date_?diff|date_?sub|dayofweek|isodow|list|array_agg|list_\w+|quantile\w*)\s*\(|\bdow\b|->>?", re.IGNORECASE
)


def code_of(path: Path) -> str:
    """Without comments."""
    return re.sub(r"--[^\n]*|\{#.*?#\}", "", path.read_text(), flags=re.DOTALL)


def entry_of(model: Path) -> dict[str, Any]:
    content = yaml.safe_load(model.with_suffix(".yml").read_text())
    (entry,) = [m for m in content["models"] if m["name"] == model.stem]
    return entry


def test_everything_builds_and_every_unit_test_passes(built: tuple[Any, Any]) -> None:
    _, outcome = built
    assert set(outcome.statuses("model")) == {path.stem for path in MODELS}
    assert set(outcome.statuses("model").values()) == {"success"}
    assert set(outcome.statuses("unit_test").values()) == {"pass"}
    assert set(outcome.statuses("test").values()) == {"pass"}


def test_no_sql_reads_a_clock() -> None:
    assert [f"{path.name}: {found.group()}" for path in SQL for found in CLOCKS.finditer(code_of(path))] == []


def test_models_use_nothing_that_spark_understands_differently() -> None:
    assert [f"{path.name}: {found.group()}" for path in MODELS for found in NOT_PORTABLE.finditer(code_of(path))] == []


def test_the_lint_would_notice() -> None:
    assert CLOCKS.search("where at > now() - interval 1 day")
    assert CLOCKS.search("where date < CURRENT_DATE")
    assert not CLOCKS.search("unknown_at, nowhere(x)")
    assert NOT_PORTABLE.search("date_diff('hour', a, b)")
    assert NOT_PORTABLE.search("extract(dow from at)")


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_every_model_is_described_beside_its_sql(model: Path, built: tuple[Any, Any]) -> None:
    lab, _ = built
    entry = entry_of(model)
    assert entry["description"].strip()
    dagster = entry["config"]["meta"]["dagster"]
    assert dagster["owners"]
    # Scores are made of the models that learn from the marts: beside these, the groups would go in a circle.
    assert dagster["group"] == ("propensity" if model.stem == "person_scores" else model.parent.name)
    assert all(column.get("description") for column in entry["columns"])
    # Comma or not: what the YAML lists is what the table has, in its order.
    columns = [row[0] for row in lab.rows(f'describe {model.parent.name}."{model.stem}"')]
    assert [column["name"] for column in entry["columns"]] == columns


@pytest.mark.parametrize("model", [m for m in MODELS if m.parent.name == "segments"], ids=lambda path: path.stem)
def test_every_segment_says_its_meta_and_has_unit_tests(model: Path) -> None:
    content = yaml.safe_load(model.with_suffix(".yml").read_text())
    meta = entry_of(model)["config"]["meta"]["segue"]
    assert isinstance(meta["priority"], int)
    assert 0 <= meta["min_share"] < 1
    assert [test for test in content["unit_tests"] if test["model"] == model.stem]


def test_priorities_of_segments_are_all_different() -> None:
    priorities = [entry_of(m)["config"]["meta"]["segue"]["priority"] for m in MODELS if m.parent.name == "segments"]
    assert len(set(priorities)) == len(priorities)


def test_exclusive_segments_share_nobody_and_leave_nobody_out(built: tuple[Any, Any]) -> None:
    lab, _ = built
    ((people,),) = lab.rows("select count(*) from marts.person_features")
    assert people == 3
    for group in (
        ["weekly_sessions_low", "weekly_sessions_medium", "weekly_sessions_high"],
        ["active_last_24h", "active_24_to_72h", "inactive_72h"],
    ):
        members = [row for name in group for row in lab.rows(f"select person_id from segments.{name}")]
        assert len(members) == len(set(members)) == people


def test_kpis_of_a_day_are_what_its_events_say(built: tuple[Any, Any]) -> None:
    lab, _ = built
    found = {
        (kpi, part): value
        for kpi, part, value in lab.rows("select kpi, slice, value from kpis.daily where date = date '2026-01-05'")
    }
    # The fifth day: two people, a session of two minutes and an order of 10 each.
    assert found["sessions", "all"] == found["active_people", "all"] == found["sessions", "platform=web"] == 2
    assert found["conversion", "all"] == 1
    assert found["engagement_duration", "channel=direct"] == 120
    assert found["revenue", "all"] == 20
    assert found["sessions", "segment=power_users"] == 2
    assert found["segment_size", "segment=power_users"] == 1
    # On the eighth day: of those who were new on the first (one person), how many came back?
    retention = "select value from kpis.daily where kpi = 'retention' and slice = 'all' and date = '2026-01-08'"
    assert lab.rows(retention) == [(1,)]
    assert lab.rows("select distinct date::varchar from kpis.daily where not is_complete") == [("2026-01-09",)]


def test_sql_is_formatted_as_the_house_does() -> None:
    program = str(Path(sys.executable).with_name("sqlfluff"))
    done = subprocess.run(
        [program, "lint", "--disable-progress-bar", str(PROJECT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_compiled_models_say_the_same_in_memory(built: tuple[Any, Any]) -> None:
    """What evaluates past days and, later, real time, is this project's SQL in its full-refresh form."""
    lab, _ = built
    project = prepare(lab.settings)
    assert project.broken == ()
    with lab.warehouse.read() as source:
        evaluation = evaluate(project, source, as_of=AS_OF)
        assert not evaluation.failed
        for name in ("marts.sessions", "marts.person_features", *(m.relation for m in project.segments)):
            expected = source.execute(f"from {name} order by all").fetchall()
            assert evaluation.con.execute(f"from {name} order by all").fetchall() == expected, name
        evaluation.con.close()


@pytest.fixture(scope="module")
def edited(make_edited_lab: Callable[..., Any], built: tuple[Any, Any]) -> Any:
    """The small shop, after an analyst has added a segment and changed a threshold."""
    shop, _ = built
    lab = make_edited_lab(shop.settings.home)
    segments = lab.project / "models" / "segments"
    (segments / "hat_lovers.sql").write_text(
        "select person_id, order_count || ' orders' as reason from {{ ref('person_features') }} where order_count > 5"
    )
    (segments / "hat_lovers.yml").write_text(
        "models: [{name: hat_lovers, description: Bought more than 5 times., config: {meta: {segue: {priority: 99}}}}]"
    )
    settings = lab.project / "dbt_project.yml"
    text = settings.read_text()
    assert "weekly_sessions_medium_from: 5 " in text
    settings.write_text(text.replace("weekly_sessions_medium_from: 5 ", "weekly_sessions_medium_from: 6 "))
    lab.sizes_before = {name: len(lab.rows(f"from segments.weekly_sessions_{name}")) for name in ("low", "medium")}
    lab.build("--select", "hat_lovers", "weekly_sessions_low", "weekly_sessions_medium", as_of=AS_OF)
    return lab


def test_a_new_segment_is_one_sql_file_and_one_yaml_entry(edited: Any) -> None:
    assert edited.rows("from segments.hat_lovers order by all") == [
        ("p-anonymous_id-a0", "9 orders"),
        ("p-anonymous_id-a1", "6 orders"),
    ]


def test_a_threshold_is_changed_in_one_place(edited: Any) -> None:
    sizes = {name: len(edited.rows(f"from segments.weekly_sessions_{name}")) for name in ("low", "medium")}
    assert (edited.sizes_before, sizes) == ({"low": 1, "medium": 2}, {"low": 2, "medium": 1})


def test_a_model_that_grows_is_built_anew_when_its_definition_changes(edited: Any) -> None:
    """Else it would hold rows made by two definitions."""
    query = "select count(*), max(event_count) from marts.sessions"
    before = edited.rows(query)
    settings = edited.project / "dbt_project.yml"
    settings.write_text(settings.read_text().replace("session_gap_minutes: 30", "session_gap_minutes: 0"))
    edited.run("--select", "sessions", as_of=AS_OF)
    after = edited.rows(query)
    assert after == [(3 * before[0][0], 1)], "each event is a session of its own now"
    macro = edited.project / "macros" / "behaviour.sql"
    text = macro.read_text()
    assert "interval '{{ var(\"session_gap_minutes\") }}' minute" in text
    macro.write_text(text.replace('{{ var("session_gap_minutes") }}', "30"))
    edited.run("--select", "sessions", as_of=AS_OF)
    assert edited.rows(query) == before, "a macro is part of the definition too"
