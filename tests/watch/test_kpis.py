"""What a KPI's YAML says of it."""

from pathlib import Path

import pytest

from segue.models import Model, Project
from segue.models.kpis import kpi_models
from segue.watch import kpis_of, owner_of, register, registered_kpis


def model(name, segue, *, schema="kpis", owner="team:growth"):
    return Model(
        name=name,
        schema=schema,
        identifier=name,
        path=f"models/{schema}/{name}.sql",
        materialized="view",
        is_append_only=False,
        description="What it is.",
        depends_on=(),
        sources=(),
        meta={"segue": segue, "dagster": {"owners": [owner]}},
        compiled_sql="select 1",
        definition_hash="x",
    )


def project(*models):
    return Project(fingerprint="", project_dir=Path(), target_dir=Path(), models=models)


def test_a_kpi_is_what_its_yaml_says_and_others_are_none():
    found, errors = kpis_of(
        project(
            model("session_count", {"kpi": {"name": "sessions", "label": "Visits", "unit": "count", "better": "up"}}),
            model("conversion", {"kpi": {}}),
            model("activity", {}),
        )
    )
    assert errors == []
    assert [(k.name, k.label, k.unit, k.owner) for k in found] == [
        ("conversion", "Conversion", "count", "team:growth"),
        ("sessions", "Visits", "count", "team:growth"),
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [({"unti": "share"}, "unknown key 'unti'"), ({"unit": "furlong"}, "unit is 'furlong'"), ([], "not a map")],
)
def test_a_mistake_is_named_and_takes_nothing_else_with_it(said, words):
    found, [error] = kpis_of(project(model("a", {"kpi": said}), model("b", {"kpi": {}})))
    assert words in error.message
    assert "models/kpis/a.sql" in error.message
    assert [k.name for k in found] == ["a", "b"]


def test_the_owner_of_a_segment_comes_before_that_of_the_kpi(kpis):
    known = project(
        model("conversion", {"kpi": {}}, owner="team:shop"), model("vip", {}, schema="segments", owner="team:vip")
    )
    with kpis.write() as con:
        register(con, known)
        assert owner_of(con, "conversion", "platform=web") == "team:shop"
        assert owner_of(con, "conversion", "segment=vip") == "team:vip"
        assert owner_of(con, "conversion", "segment=other") == "team:shop"
        assert owner_of(con, "nothing", "all") == ""
        assert registered_kpis(con)["conversion"].description == "What it is."
    commits = kpis.commits()
    with kpis.write() as con:
        register(con, known)
    assert kpis.commits() == commits


def test_a_kpi_of_the_project_is_one_file_of_sql_and_one_of_yaml(tmp_path):
    folder = tmp_path / "models" / "kpis"
    folder.mkdir(parents=True)
    (folder / "a.yml").write_text("models: [{name: a, config: {meta: {segue: {kpi: {}}}}}]")
    (folder / "b.yml").write_text("models: [{name: b, config: {meta: {segue: {kpi: {}}}}}, {name: c}]")
    (folder / "broken.yml").write_text("models: [")
    (folder / "b.sql").write_text("select 1")
    (folder / "c.sql").write_text("select 1")
    assert kpi_models(tmp_path) == ("b",)
