"""A broken definition is left out and named; all others work. With dbt itself, in this process."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dbt.adapters.duckdb.environments.local import LocalEnvironment

from segue.errors import DefinitionError
from segue.models import Project
from segue.models.compiler import Workshop, _compile_with_dbt

Build = Callable[..., Project]

ALL = {"stg_events", "stg_identifiers", "person_features", "power_users", "present", "absent"}


@pytest.fixture
def build(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Compile the tiny project with some files changed (None: removed); later calls know the state before."""
    original = LocalEnvironment.__dict__.get("initialize_db")
    for name, value in {
        "SEGUE_DBT_CATALOG": "sqlite:/nowhere/catalog.sqlite",
        "SEGUE_DBT_DATA": "/nowhere",
        "SEGUE_HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    count = 0
    earlier: Path | None = None

    def run(changes: dict[str, str | None], *, fresh: bool = False) -> Project:
        nonlocal count, earlier
        if fresh:
            earlier = None
        count += 1
        for path, text in changes.items():
            file = tiny / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink() if text is None else file.write_text(text)
        home = tmp_path / f"build{count}"
        shutil.copytree(tiny, home / "project")
        if earlier is not None:
            (home / "target").mkdir()
            shutil.copy2(earlier / "target" / "partial_parse.msgpack", home / "target")
        project = Workshop(home, earlier, _compile_with_dbt(home)).run()
        (home / "project.json").write_text(project.to_json())
        earlier = home
        return project

    yield run
    if original is None:
        del LocalEnvironment.initialize_db
    else:
        LocalEnvironment.initialize_db = original


def names(project: Project) -> set[str]:
    return {model.name for model in project.models}


def test_models_come_upstream_first_with_sql_that_holds_no_time(build: Build) -> None:
    project = build({})
    order = [model.name for model in project.models]
    assert set(order) == ALL
    assert order.index("stg_events") < order.index("person_features") < order.index("absent")
    assert project.by_name["stg_events"].sources == ("raw.events",)
    assert "load_id >" not in project.by_name["stg_events"].compiled_sql  # full-refresh form
    assert "getvariable('as_of')" in project.by_name["absent"].compiled_sql
    assert [s.name for s in project.segments] == ["absent", "power_users", "present"]
    assert project.by_name["power_users"].meta["segue"]["priority"] == 10
    assert project.broken == ()


GOOD = "select person_id from {{ ref('person_features') }}"

BROKEN = {
    "syntax beside jinja": ({"bad.sql": "select person_id\nfrm {{ ref('present') }}"}, "bad.sql, line 2: Parser Error"),
    "second of two like it": (
        {"bad.sql": f"with a as (\n{GOOD}\nwhere true\n)\n{GOOD}\nwhere true\ngroup where"},
        "bad.sql, line 7: Parser Error",
    ),
    "jinja": ({"bad.sql": "select person_id\nfrom {{ ref('person_features' }}"}, "bad.sql, line 2: unexpected '}'"),
    "open block": ({"bad.sql": "{% if true %}\n" + GOOD}, "bad.sql, line 2: Unexpected end of template"),
    "unknown macro": ({"bad.sql": "select person_id from {{ nope('person_features') }}"}, "'nope' is undefined"),
    "unknown model": (
        {"bad.sql": "select person_id from {{ ref('peopel') }}"},
        "it reads the model peopel, which does not exist",
    ),
    "unknown source": ({"bad.sql": "select person_id from {{ source('raw', 'evnts') }}"}, "the source raw.evnts"),
    "view with a clock": (
        {"bad.sql": "{{ config(materialized='view') }} select person_id, {{ as_of() }} as t from {{ ref('present') }}"},
        "cannot be a view",
    ),
    "syntax": (
        {"bad.sql": "-- who\nselect person_id\nfrom {{ ref('person_features') }}\nwhere where event_count > 1"},
        "bad.sql, line 4: Parser Error",
    ),
    "unknown column": (
        {"bad.sql": "select person_id from {{ ref('person_features') }}\nwhere event_cuont > 1"},
        'bad.sql, line 2: Binder Error: Referenced column "event_cuont" not found',
    ),
    "no person_id": (
        {"bad.sql": "select event_count from {{ ref('person_features') }}"},
        "no column person_id among event_count",
    ),
    "yaml": (
        {"bad.sql": GOOD, "bad.yml": "models:\n  - name: bad\n    description: a: b\n"},
        "bad.yml, line 3: mapping values",
    ),
    "yaml shape": ({"bad.sql": GOOD, "bad.yml": "models:\n  - bad\n"}, "is not a dictionary"),
    "yaml without a place": (
        {"bad.sql": GOOD, "bad.yml": "models:\n  - name: bad\n    config: {enabled: '{{ nope( }}'}"},
        "bad.yml, line 1: Could not render",
    ),
    "yaml config": (
        {"bad.sql": GOOD, "bad.yml": "models:\n  - name: bad\n    config: {enabled: sometimes}"},
        "not of type 'boolean'",
    ),
    "unknown test": (
        {"bad.sql": GOOD, "bad.yml": "models:\n  - name: bad\n    columns: [{name: person_id, data_tests: [uniqe]}]\n"},
        "'test_uniqe' is undefined",
    ),
    "taken name": ({"memberships.sql": GOOD}, "belongs to a table of Segue's own"),
    "same table": ({"bad.sql": "{{ config(alias='present') }} " + GOOD}, "segments/"),
    "same name": ({"more/present.sql": GOOD}, "another model has the same name"),
}


#: Those where the state before helps to find the fault; without one, files are tried in turn.
HARD = ("yaml without a place", "yaml config", "same table", "same name", "jinja")


@pytest.mark.parametrize("before", [False, True], ids=["from nothing", "after a good state"])
def test_each_kind_of_fault_takes_out_its_definition_only(build: Build, tiny: Path, before: bool) -> None:
    if before:
        assert build({}).broken == ()
    for kind in BROKEN if before else HARD:
        files, said = BROKEN[kind]
        project = build({f"models/segments/{name}": text for name, text in files.items()}, fresh=not before)
        assert len(project.broken) == 1, (kind, project.broken)
        [broken] = project.broken
        assert said in broken.reason, kind
        assert broken.reason.startswith(broken.path), kind
        assert broken.fix, kind
        if before:
            # What worked before goes on working: of two that exclude one another, the newcomer is left out.
            assert names(project) == ALL, kind
            assert broken.path.removeprefix("models/segments/") in files, kind
        else:
            assert len(names(project)) == len(ALL), kind
        for name in files:
            (tiny / "models" / "segments" / name).unlink()
    assert build({}).broken == ()


def test_many_faults_at_once_are_all_named_and_what_reads_them_is_too(build: Build) -> None:
    project = build(
        {
            "models/segments/one.sql": "select person_id {{",
            "models/segments/two.sql": "selct person_id from {{ ref('person_features') }}",
            "models/segments/three.sql": "select person_id from {{ ref('two') }}",
            "models/segments/four.sql": "select person_id from {{ ref('one') }}",
            "models/segments/power_users.sql": "select nobody from {{ ref('person_features') }}",
        }
    )
    assert names(project) == ALL - {"power_users"}
    assert {b.name for b in project.broken} == {"one", "two", "three", "four", "power_users"}
    reasons = {b.name: b.reason for b in project.broken}
    assert "it reads two, which is broken" in reasons["three"]
    assert "it reads one, which is broken" in reasons["four"]


def test_a_cycle_takes_out_the_definitions_in_it(build: Build) -> None:
    project = build(
        {
            "models/segments/hen.sql": "select person_id from {{ ref('egg') }}",
            "models/segments/egg.sql": "select person_id from {{ ref('hen') }}",
        }
    )
    assert names(project) == ALL
    assert {b.name for b in project.broken} == {"hen", "egg"}


def test_a_broken_macro_or_shared_yaml_goes_on_with_its_last_working_text(build: Build) -> None:
    build({})
    project = build({"macros/as_of.sql": "{% macro as_of( %}", "models/staging/sources.yml": "sources: [a: b: c"})
    assert names(project) == ALL
    assert {b.path for b in project.broken} == {"macros/as_of.sql", "models/staging/sources.yml"}
    assert all("its last working text is used" in b.reason for b in project.broken)


def test_a_yaml_fault_in_a_model_that_others_read_does_not_take_them_out(build: Build) -> None:
    build({})
    features = "models:\n  - name: person_features\n    description: a"
    build({"models/marts/person_features.yml": features})
    project = build({"models/marts/person_features.yml": features + ": b"})
    assert names(project) == ALL
    [broken] = project.broken
    assert "line 3" in broken.reason
    assert "its last working text is used" in broken.reason
    assert project.by_name["person_features"].description == "a"


def test_a_project_that_never_worked_says_so(build: Build) -> None:
    with pytest.raises(DefinitionError, match="cannot be read"):
        build({"macros/as_of.sql": "{% macro as_of( %}"})


def test_a_definition_hash_follows_the_sql_of_everything_upstream_and_the_variables(build: Build, tiny: Path) -> None:
    first = build({}).by_name
    text = (tiny / "dbt_project.yml").read_text()
    second = build({"dbt_project.yml": text.replace("power_user_events: 3", "power_user_events: 4")}).by_name
    assert second["power_users"].definition_hash != first["power_users"].definition_hash
    assert second["present"].definition_hash == first["present"].definition_hash
    features = (tiny / "models/marts/person_features.sql").read_text()
    third = build({"models/marts/person_features.sql": features.replace("count(*)", "count(e.message_id)")}).by_name
    assert third["present"].definition_hash != second["present"].definition_hash
    assert third["stg_events"].definition_hash == second["stg_events"].definition_hash


def test_bad_input_a_definition_that_does_more_than_to_select_is_left_out_and_touches_nothing(
    build: Build, tmp_path: Path
) -> None:
    pawn = tmp_path / "written"
    hostile = {
        "by_jinja.sql": "{% do run_query(\"copy (select 1) to '" + str(pawn) + "'\") %} " + GOOD,
        "by_statement.sql": f"{GOOD}; copy (select 1) to '{pawn}'",
        "by_hook.sql": f"{{{{ config(pre_hook=\"copy (select 1) to '{pawn}'\") }}}} {GOOD}",
        "by_python.py": f"open('{pawn}', 'w')\ndef model(dbt, session):\n    return session.sql('select 1')\n",
        "by_file.sql": "select content as person_id from read_text('/etc/hostname')",
    }
    project = build({f"models/segments/{name}": text for name, text in hostile.items()})
    assert {Path(b.path).name for b in project.broken} == set(hostile)
    assert names(project) == ALL
    assert not pawn.exists()


def test_bad_input_what_dbt_runs_while_it_compiles_can_open_no_file(build: Build, tmp_path: Path) -> None:
    written = tmp_path / "written"
    macro = "{% macro curious() %}{% do run_query(\"copy (select 1) to '" + str(written) + "'\") %}{% endmacro %}"
    build({"macros/curious.sql": macro, "models/segments/asks.sql": "{{ curious() }} " + GOOD})
    assert not written.exists()
