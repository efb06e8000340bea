"""The picture of the house in docs/architecture.md shows the rooms that there are, on the floors that lint holds."""

import tomllib
from itertools import chain, takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def drawn() -> list[str]:
    lines = (ROOT / "docs" / "architecture.md").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("cli "))
    return [line.split()[0] for line in takewhile(lambda line: line != "```", lines[start:])]


def floors() -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c.get("containers") == ["segue"])
    return [{room.strip() for room in layer.split("|")} for layer in layers]


def test_every_room_is_drawn_once() -> None:
    there = {
        path.stem
        for path in (ROOT / "segue").iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or (path.suffix == ".py" and path.stem != "__init__")
    }
    assert sorted(drawn()) == sorted(there)


def test_rooms_are_drawn_on_the_floors_that_lint_holds() -> None:
    rooms, floor = drawn(), {room: n for n, layer in enumerate(floors()) for room in layer}
    assert set(rooms) == set(chain(*floors()))
    assert [floor[room] for room in rooms] == sorted(floor[room] for room in rooms)


def test_every_room_says_what_it_promises_and_what_it_never_does() -> None:
    silent = [
        path.parent.name
        for path in sorted((ROOT / "segue").glob("*/__init__.py"))
        if path.parent.name != "cli" and not ("Promises:" in path.read_text() and "Never:" in path.read_text())
    ]
    assert silent == []
