"""`segue segments`, `segue check` and `segue dbt` as a person calls them."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from segue import identity
from segue.cli import segments as room
from segue.errors import BadInputError
from segue.models import Project
from segue.segments import Segment, record
from segue.settings import Settings, child_environment
from segue.warehouse import Warehouse

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A warehouse in which p2 left `power_users` an hour after it had entered, found by the commands."""
    monkeypatch.setenv("SEGUE_HOME", str(settings.home))
    warehouse = Warehouse(settings)
    for hours, who in ((0, "('p1'), ('p2')"), (1, "('p1')")):
        with warehouse.write("test") as con:
            record(
                con,
                as_of=NOON + timedelta(hours=hours),
                segments=[Segment(name="power_users", definition_hash="h")],
                members=f"select person_id, 'power_users' as segment from (values {who}) v(person_id)",
                active_count=4,
            )
    return warehouse


def call(*arguments: str) -> str:
    root = typer.Typer()
    room.register(root)
    result = CliRunner().invoke(root, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return str(result.stdout)


def answer(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--format", "json"))


def test_list_shows_sizes_now_and_as_of_a_time(home: Warehouse) -> None:
    [now] = answer("segments", "list")
    assert (now["segment"], now["member_count"], now["share"]) == ("power_users", 1, 0.25)
    [then] = answer("segments", "list", "--as-of", "2026-02-01T12:30:00")
    assert (then["member_count"], then["share"]) == (2, 0.5)
    assert answer("segments", "list", "--as-of", "2026-01-01") == []


def test_members_answers_as_of_a_time_and_within_a_limit(home: Warehouse) -> None:
    assert [m["person_id"] for m in answer("segments", "members", "power_users")] == ["p1"]
    at_noon = ("segments", "members", "power_users", "--as-of", "2026-02-01T12:00:00Z")
    assert [m["person_id"] for m in answer(*at_noon)] == ["p1", "p2"]
    assert [m["person_id"] for m in answer(*at_noon, "--limit", "1")] == ["p1"]


def test_an_unknown_segment_is_answered_with_the_close_ones(home: Warehouse) -> None:
    with pytest.raises(BadInputError, match="did you mean power_users"):
        call("segments", "members", "powerusers")
    with pytest.raises(BadInputError, match="there are: power_users"):
        call("segments", "members", "zzz")


def test_a_segment_that_is_built_but_not_evaluated_is_told_from_a_typo(home: Warehouse) -> None:
    with home.write("test") as con:
        con.execute("create table segments.power_user as select 'p1' as person_id")
    with pytest.raises(BadInputError, match="has been worked out yet: `segue refresh`"):
        call("segments", "members", "power_user")


def test_an_empty_installation_says_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_HOME", str(settings.home))
    assert answer("segments", "list") == []
    with pytest.raises(BadInputError, match="segue refresh"):
        call("segments", "members", "power_users")
    with pytest.raises(BadInputError, match="never in a segment"):
        call("segments", "history", "p1")


def test_history_shows_each_change_of_a_person(home: Warehouse) -> None:
    assert [(c["change"], c["effective_at"]) for c in answer("segments", "history", "p2")] == [
        ("entered", "2026-02-01T12:00:00+00:00"),
        ("exited", "2026-02-01T13:00:00+00:00"),
    ]


def test_preview_asks_the_sql_as_it_stands(
    home: Warehouse,
    tiny_project: Project,
    put_events: Any,
    stream: Any,
    stitch_aliases: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segue.models.prepare", lambda _settings: tiny_project)
    monkeypatch.setattr("segue.identity.stitcher_of", lambda _con, _rules: stitch_aliases)
    with home.write("load") as con:
        put_events(con, stream)
    rows = answer("segments", "preview", "power_users", "--as-of", "2026-02-20", "--limit", "2")
    assert [set(row) for row in rows] == [{"person_id", "reason"}] * 2
    assert answer("segments", "preview", "power_users", "--as-of", "2026-02-01") == []


def program(settings: Settings, dbt_project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import typer; from segue.cli import segments; root = typer.Typer(); segments.register(root); root()"
    extra = {"SEGUE_HOME": str(settings.home), "SEGUE_DBT_PROJECT": str(dbt_project)}
    environment = child_environment(extra | {"PATH": os.defpath, "COLUMNS": "200"})
    return subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)


def test_check_names_every_broken_definition_and_fails(
    settings: Settings, tiny_project: Project, tmp_path: Path
) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(tiny_project.project_dir, project)
    (project / "models/segments/wrong.sql").write_text("select person_id\nfrm {{ ref('person_features') }}")
    meta = project / "models/segments/present.yml"
    meta.write_text(meta.read_text().replace("priority: 20", "priority: high"))
    (project / "models/segments/presnt.yml").write_text("models: [{name: presnt, description: A typo.}]")
    done = program(settings, project, "check")
    assert done.returncode == 1
    assert "models/segments/wrong.sql, line 2" in done.stderr
    assert "priority is 'high'" in done.stderr
    assert "presnt.yml: it describes presnt, but there is no presnt.sql" in done.stderr
    assert "did you mean present?" in done.stderr
    assert "3 broken" in done.stdout


def test_dbt_writes_nothing_as_of_a_time_before_the_last_refresh(
    home: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a segment reads is of that refresh, and would be mixed with the earlier clock and taken for true now."""
    ran: list[str] = []
    monkeypatch.setattr(os, "execve", lambda _program, words, _env: ran.append(" ".join(words[3:])))
    early, then = ("--as-of", "2026-01-31"), ("--as-of", "2026-02-01T12:00:00")
    with home.write("test") as con:
        identity.ensure_tables(con)
    call("dbt", "build", *early)  # nothing was refreshed yet
    with home.write("test") as con:
        con.execute("insert into identity.state by name select $1::timestamp as as_of", [NOON.replace(tzinfo=None)])
    for words in (["build", "-s", "power_users"], ["--log-level", "debug", "run"]):
        with pytest.raises(BadInputError, match=r"as of 2026-02-01 12:00:00 UTC.*\n?.*segments preview"):
            call("dbt", *words, *early)
    assert len(ran) == 1
    call("dbt", "build", *then)
    call("dbt", "build")
    call("dbt", "show", "-s", "power_users", *early)
    assert ran[1:] == ["build", "build", "show -s power_users"]


def test_dbt_runs_with_our_clock_and_leaves_nothing_in_the_project(
    settings: Settings, tiny_project: Project, tmp_path: Path
) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(tiny_project.project_dir, project)
    before = sorted(project.rglob("*"))
    query = "select {{ as_of() }} as clock"
    done = program(settings, project, "dbt", "--as-of", "2026-02-03", "show", "--inline", query, "--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2026-02-03T00:00:00" in done.stdout
    assert sorted(project.rglob("*")) == before
    assert program(settings, project, "dbt", "nonsense").returncode == 2
