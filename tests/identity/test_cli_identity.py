"""`segue identity`: readable, and clear when somebody is not there."""

import json

import pytest
import typer
from typer.testing import CliRunner

from segue.cli import identity as command
from segue.errors import BadInputError
from segue.identity import stitch
from segue.identity.graph import person_id_of
from segue.warehouse import Warehouse
from tests.identity.identity_world import Message, at, stage

WORLD = [
    Message(1, anonymous="laptop", user="ann [red]"),
    Message(2, anonymous="phone"),
    Message(3, anonymous="phone", user="ann [red]"),
    Message(4, anonymous="laptop", user="bob"),
]


@pytest.fixture
def app(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    with warehouse.write("stage") as con:
        stage(con, WORLD)
        stitch(con, as_of=at(4))
    monkeypatch.setattr(command, "warehouse", lambda: warehouse)
    monkeypatch.setattr(command, "settings", lambda: warehouse.settings)
    root = typer.Typer()
    command.register(root)
    return root


def invoke(app: typer.Typer, *arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_show_is_a_tree_of_identifiers_merges_and_refused_links(app: typer.Typer) -> None:
    gone = person_id_of("anonymous_id", "phone")
    # The tree folds at the width of the terminal.
    text = " ".join(invoke(app, "identity", "show", gone).translate(dict.fromkeys(map(ord, "│├└─"))).split())
    assert f"{person_id_of('anonymous_id', 'laptop')} (was {gone})" in text
    assert "user_id ann [red] 2026-01-01 00:20 – 2026-01-01 01:00" in text
    assert "same_message: anonymous_id phone and user_id ann [red] in message m2" in text
    assert (
        "anonymous_id laptop and user_id bob same_message: the person would have more values of one type than the rules"
        " allow (user_id: more than 1)" in text
    )


def test_show_of_an_unknown_id_says_so(app: typer.Typer) -> None:
    with pytest.raises(BadInputError, match="nobody is known as 'zoe'"):
        invoke(app, "identity", "show", "zoe")


def test_list_has_most_identifiers_first(app: typer.Typer) -> None:
    rows = json.loads(invoke(app, "identity", "list", "--format", "json"))
    assert [(r["identifier_count"], r["user_ids"], r["merge_count"]) for r in rows] == [
        (3, "ann [red]", 1),
        (1, "bob", 0),
    ]


def test_list_of_an_empty_warehouse_is_empty(tmp_path, monkeypatch: pytest.MonkeyPatch, settings) -> None:
    monkeypatch.setattr(command, "warehouse", lambda: Warehouse(settings))
    root = typer.Typer()
    command.register(root)
    assert json.loads(invoke(root, "identity", "list", "--format", "json")) == []


def test_of_a_large_person_only_what_moves_is_listed(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_SHOWN", 2)
    now, then = invoke(app, "identity", "split", "ann [red]").split("then")
    assert "anonymous_id:phone" in now
    assert "anonymous_id:laptop" not in now
    assert "2 identifiers that stay" in now
    assert "anonymous_id:phone" in then


def test_a_split_is_done_told_and_kept(app: typer.Typer) -> None:
    said = invoke(app, "identity", "split", "ann [red]", "--note", "a guest")
    assert "cut: anonymous_id:phone same_message user_id:ann [red]" in said
    assert "done: another person for 1 identifier." in said
    (decision,) = json.loads(invoke(app, "identity", "decisions", "--format", "json"))
    assert (decision["kind"], decision["note"]) == ("split", "a guest")
    assert "two people" in invoke(app, "identity", "explain", "laptop", "phone")
    joined = invoke(app, "identity", "merge", "phone", "laptop")
    assert "joined: anonymous_id:laptop merge anonymous_id:phone" in joined
    assert "both are one person" in invoke(app, "identity", "explain", "laptop", "phone")
