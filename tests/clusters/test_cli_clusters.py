"""`segue clusters` as a person calls it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from segue.cli import clusters as room
from segue.settings import Settings


@pytest.mark.parametrize("command", ["list", "events"])
def test_before_clusters_were_looked_for_it_is_said_what_to_do(
    command: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_HOME", str(settings.home))
    root = typer.Typer()
    room.register(root)
    shown = CliRunner().invoke(root, ["clusters", command])
    assert shown.exit_code == 0
    assert "segue refresh" in shown.stderr
    assert json.loads(CliRunner().invoke(root, ["clusters", command, "--format", "json"]).stdout) == []
