"""Every command, option, setting, target and link that a page names is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from segue.cli import app
from segue.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app)
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def called(text: str) -> list[str]:
    """What follows `segue` in code; `a|b` is both."""
    code = re.findall(r"`([^`\n]+)`", text)
    code += "".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()
    lines = [found[1].strip() for line in code if (found := re.match(r"(?:\.venv/bin/)?segue ([a-z][^#;…]*)", line))]
    either = re.compile(r"[a-z]+(\|[a-z]+)+")
    return [
        line.replace(choice[0], word) if choice else line
        for line in lines
        for choice in [either.search(line)]
        for word in (choice[0].split("|") if choice else [""])
    ]


def wrong_in(line: str) -> str | None:
    """What of a call there is not."""
    command: Any = COMMANDS
    for word in line.split():
        if not isinstance(command, TyperGroup):
            break
        if word not in command.commands:
            return None if command.invoke_without_command else f"segue {line}: no command {word}"
        command = command.commands[word]
    if command.context_settings.get("ignore_unknown_options"):  # they are dbt's
        return None
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    unknown = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", line)) - known
    return f"segue {line}: no option {', '.join(sorted(unknown))}" if unknown else None


def test_commands_and_options(page: Path) -> None:
    assert list(filter(None, map(wrong_in, called(page.read_text())))) == []


def test_settings(page: Path) -> None:
    named = set(re.findall(r"SEGUE_[A-Z_]+", page.read_text())) - {"SEGUE_"}
    # A webhook that YAML names is described by variables of its name.
    unknown = {one for one in named if one.removeprefix("SEGUE_").lower() not in Settings.model_fields}
    assert {one for one in unknown if not one.startswith("SEGUE_WEBHOOK_ADS_")} == set()


def test_links_and_targets(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert set(re.findall(r"`make ([a-z]+)", text)) <= set(TARGETS)
