"""`segue ingest`, `segue import` and `segue quarantine`, as a person types them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from segue.cli import ingest, quarantine
from segue.errors import BadInputError


@pytest.fixture
def run(settings, monkeypatch):
    root = typer.Typer()
    ingest.register(root)
    quarantine.register(root)
    monkeypatch.setenv("SEGUE_HOME", str(settings.home))
    monkeypatch.setenv("SEGUE_SETTLE_SECONDS", "0")
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str, fails: bool = False) -> str:
        result = CliRunner().invoke(root, list(words), catch_exceptions=False)
        assert (result.exit_code != 0) == fails, result.output
        return result.output

    return command


def test_ingest_says_where_every_message_went(run, write, message, settings) -> None:
    write("one.ndjson", [message(1), message(1), message(2, type="what")])
    write("empty.ndjson", [])
    output = run("ingest")
    assert "read 3 = loaded 1 + duplicates 1 + quarantined 1, from 2 files" in output
    assert "1  unknown_type" in output
    assert "empty: empty.ndjson" in output
    output = run("ingest", str(settings.landing_zone / "one.ndjson"))
    assert "already read, not read again: one.ndjson" in output


def test_a_file_that_cannot_be_read_gives_an_exit_code(run, settings) -> None:
    (settings.landing_zone / "x.ndjson").write_text("{}", encoding="utf-16")
    assert "not read:" in run("ingest", fails=True)


def test_the_quarantine_is_listed_shown_and_replayed(run, write, message) -> None:
    broken = message(2, type="what")
    write("one.ndjson", [broken, "{"])
    run("ingest")
    assert "broken_json" in run("quarantine", "list")
    (row,) = json.loads(run("quarantine", "list", "--reason", "unknown_type", "--format", "json"))
    assert "tracked" not in row["detail"]
    assert 'type "what" is unknown' in row["detail"]
    shown = run("quarantine", "show", row["quarantine_id"][:8])
    assert json.loads(shown.splitlines()[-1]) == broken
    assert "tried 2: 0 loaded, 0 were there already, 2 stay" in run("quarantine", "replay")
    assert "tried 1:" in run("quarantine", "replay", "--id", row["quarantine_id"][:8])


def test_import_can_be_tried_without_writing(run, tmp_path) -> None:
    (tmp_path / "t.csv").write_text("who,what,at\nann,click,2026-01-01\n")
    (tmp_path / "m.yaml").write_text("columns: {user_id: who, event: what, timestamp: at}\n")
    words = ("import", str(tmp_path / "t.csv"), "--mapping", str(tmp_path / "m.yaml"))
    assert "1 rows, nothing written" in run(*words, "--dry-run")
    assert "read 1 = loaded 1" in run(*words)
    assert "loaded 0 + duplicates 1" in run(*words)
    with pytest.raises(BadInputError, match="has no column"):
        (tmp_path / "m.yaml").write_text("columns: {user_id: whom, event: what, timestamp: at}\n")
        run(*words)
