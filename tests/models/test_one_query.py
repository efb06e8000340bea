"""A definition is one query over the project's relations: whatever else it says, it is refused and never run."""

from pathlib import Path

import duckdb
import pytest

from segue.models import check as checking
from segue.models.check import check, empty_lake
from segue.models.one_query import beyond_a_model, beyond_a_query, beyond_a_template
from segue.models.project import Model

HOSTILE = {
    "a file as a table": "select * from '/etc/passwd'",
    "a file by a function": "select * from read_csv('/etc/passwd')",
    "a file in a list": "select * from lake.staging.e where exists (select 1 from read_text(['/etc/passwd']))",
    "the names of files": "select file as person_id from glob('/root/*')",
    "a second statement": "select 1 as person_id; drop table lake.raw.events",
    "a copy": "copy (select 1) to '/tmp/x'",
    "another database": "attach '/tmp/x.db'",
    "an extension": "install httpfs",
    "a setting": "set threads = 1",
    "a setting that is read": "select current_setting('temp_directory') as person_id",
    "all settings": "select value as person_id from duckdb_settings()",
    "a view of settings": "select setting as person_id from pg_settings",
    "where the catalog is": "select path as person_id from duckdb_databases()",
    "another catalog": "select database_name as person_id from system.main.duckdb_databases",
    "the environment": "select getenv('SEGUE_SLACK_TOKEN') as person_id",
    "a query in a text": "select * from query('select 1 as person_id')",
    "a table in a text": "select * from query_table(['raw_events'])",
    "a variable": "select getvariable('secret') as person_id",
    "a table without ref()": "select * from memberships",
    "in a CTE": "with a as (select * from read_csv('x.csv')) select * from a",
    "in a join": "select * from lake.a.b join read_parquet('x') on true",
    "a list of tables": "select * from (describe lake.raw.events)",
}

HARMLESS = (
    "with a as (select 1 as person_id) select * from a join A b using (person_id)",
    "with recursive r as (select 1 n union all select n + 1 from r where n < 9) select n as person_id from r",
    "select person_id from lake.marts.person_features, unnest([1, 2]) where as_of > getvariable('as_of')",
    "select (t ->> 'a') as person_id from lake.raw.events as e, json_each(e.properties) as t",
    "select * from (pivot lake.a.b on c in (1, 2) using sum(d))",
    "from (values ('p')) as t (person_id)",
)


@pytest.mark.parametrize("sql", HOSTILE.values(), ids=HOSTILE.keys())
def test_bad_input_sql_that_does_more_than_to_select_is_named(sql: str) -> None:
    assert beyond_a_query(duckdb.connect(), sql)


@pytest.mark.parametrize("sql", HARMLESS)
def test_what_analysts_write_is_a_query(sql: str) -> None:
    assert beyond_a_query(duckdb.connect(), sql) == ""


@pytest.mark.parametrize(
    "text",
    [
        "{% do run_query('drop table lake.raw.events') %} select 1",
        "{% call statement('x') %} drop table x {% endcall %} select 1",
        "{{ env_var('SEGUE_SLACK_TOKEN') }}",
        "{% do adapter.drop_relation(this) %}",
        "{{ dbt.run_query('x') }}",
        "{{ dbt['statement']('x') }}",
        "{{ context['run_query']('x') }}",
        "{{ ''.__class__ }}",
        "{{ drop_relation_if_exists(this) }}",
    ],
)
def test_bad_input_a_template_that_has_dbt_run_something_is_named(text: str) -> None:
    assert beyond_a_template(text)


def test_a_template_may_use_what_writes_sql_and_names_of_its_own() -> None:
    text = (
        "{% set context = {'a': 1} %}{{ config(materialized='table') }} {{ context.a }} {{ dbt.hash('x') }}"
        " {{ p.context }}"
    )
    assert beyond_a_template(text) == ""
    assert beyond_a_template("{{ ref('a' }}") == "", "dbt says it better"


def test_bad_input_a_hook_may_call_a_macro_and_nothing_else() -> None:
    assert beyond_a_model({"pre-hook": [{"sql": "drop table lake.raw.events"}]})
    assert beyond_a_model({"post-hook": [{"sql": "{{ forget_days() }}; drop table x"}]})
    assert beyond_a_model({"post-hook": [{"sql": "{{ run_query('drop table x') }}"}]})
    assert beyond_a_model({"sql_header": "set threads = 1;"})
    assert beyond_a_model({"pre-hook": [{"sql": "{{ forget_pasts('started_at', 'ended_at', gap()) }}"}]}) == ""
    assert beyond_a_model({"pre-hook": [], "post-hook": []}) == ""


def model(name: str, sql: str) -> Model:
    return Model(
        name=name, schema="segments", identifier=name, path=f"models/segments/{name}.sql", materialized="table",
        is_append_only=False, description="", depends_on=(), sources=(), meta={}, compiled_sql=sql,
        definition_hash="",
    )  # fmt: skip


def test_bad_input_what_does_not_end_or_fills_the_memory_is_refused_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_SECONDS", 1.0)
    endless = "with recursive r as (select 1 as n union all select n + 1 from r) select n::varchar as person_id from r"
    large = "select a.range::varchar || repeat('x', 1000) as person_id from range(1000000) a, range(1000000) b"
    good = "select 'p' as person_id"
    broken = {b.name: b.reason for b in check((model("a", endless), model("b", large), model("c", good)), {}, {})}
    assert set(broken) == {"a", "b"}
    assert "although its tables are empty" in broken["a"]
    assert "although its tables are empty" in broken["b"]


def test_bad_input_the_database_in_memory_opens_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("person_id\nx\n")
    con = empty_lake()
    for sql in (f"from '{tmp_path}/a.csv'", f"copy (select 1) to '{tmp_path}/b.csv'", f"attach '{tmp_path}/c.db'"):
        with pytest.raises(duckdb.PermissionException):
            con.execute(sql)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
