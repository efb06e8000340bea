"""`segue simulate`: says what it made and what to do next, and why it cannot."""

from datetime import timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from segue.cli import simulate as command
from segue.cli.screen import Screen
from segue.clock import parse_as_of
from segue.errors import BadInputError


@pytest.fixture
def app() -> typer.Typer:
    root = typer.Typer()
    root.callback()(lambda: None)
    command.register(root)
    return root


def test_it_says_what_it_made_and_what_to_run_next(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "out", Screen(width=200))
    out = tmp_path / "history"
    arguments = [
        "simulate",
        "--people",
        "40",
        "--days",
        "20",
        "--seed",
        "7",
        "--until",
        "2026-03-01",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "messages of 40 people from 2026-02-09 until 2026-03-01 00:00 UTC" in result.output
    assert "outage (Collector down)" in result.output
    assert f"segue ingest {out / 'events'}" in result.output
    assert len(list((out / "events").iterdir())) == 20


def test_without_until_the_history_ends_with_yesterday(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = parse_as_of("2026-05-05T12:34:56Z")
    monkeypatch.setattr(command, "moment", lambda text: noon if text is None else parse_as_of(text))
    result = CliRunner().invoke(
        app, ["simulate", "--people", "60", "--days", "3", "--format", "ndjson", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "out" / "events").iterdir())
    yesterday = noon.date() - timedelta(days=1)
    assert names[-1] == f"{yesterday}.ndjson"
    assert len(names) == 3


def test_an_end_in_the_future_is_warned_about(app: typer.Typer, tmp_path: Path) -> None:
    arguments = ["simulate", "--people", "5", "--days", "1", "--until", "2999-01-01", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "is in the future" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--people", "0"], "people is 0"),
        (["--days", "-3"], "days is -3"),
        (["--until", "yesterday"], "'yesterday' is not a date or time"),
    ],
)
def test_what_cannot_be_is_named_with_a_fix(app: typer.Typer, tmp_path: Path, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["simulate", "--out", str(tmp_path / "out"), *arguments])
    assert isinstance(result.exception, BadInputError)
    assert words in str(result.exception)
    assert "fix:" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_asks_for_force(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    arguments = ["simulate", "--people", "5", "--days", "2", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, BadInputError)
    assert "--force" in str(result.exception)
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_the_formats_offered_are_the_formats_there_are() -> None:
    from segue.events.simulator import FileFormat

    assert [kind.value for kind in command.FileKind] == [kind.value for kind in FileFormat]
