"""The picture of the house in docs/architecture.md shows the rooms and arrows that there are, on the floors of lint."""

import ast
import tomllib
from itertools import chain, takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Every room calls them, so they are not drawn.
EVERYBODYS = {"errors", "settings", "clock"}


def block(first: str) -> list[str]:
    """The lines of the block that begins so."""
    lines = (ROOT / "docs" / "architecture.md").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(first))
    return list(takewhile(lambda line: line != "```", lines[start:]))


def drawn() -> list[str]:
    return [line.split()[0] for line in block("cli            the")]


def arrows() -> list[str]:
    """Who calls whom by the imports, in the order of the picture."""
    order, calls = drawn(), dict[str, set[str]]()
    for path in (ROOT / "segue").rglob("*.py"):
        room = path.relative_to(ROOT / "segue").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = node.module == "segue"
                modules = [f"segue.{alias.name}" for alias in node.names] if inside else [node.module]
            called = {module.split(".")[1] for module in modules if module.startswith("segue.")}
            calls.setdefault(room, set()).update(called - EVERYBODYS - {room})
    return [
        f"{room:<14} {', '.join(sorted(calls[room], key=order.index))}"
        for room in order
        if calls.get(room) and room != "cli"
    ]


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


def test_the_arrows_are_those_of_the_imports() -> None:
    assert block("serving        segments,") == arrows()


def test_every_room_says_what_it_promises_and_what_it_never_does() -> None:
    silent = [
        path.parent.name
        for path in sorted((ROOT / "segue").glob("*/__init__.py"))
        if path.parent.name != "cli" and not ("Promises:" in path.read_text() and "Never:" in path.read_text())
    ]
    assert silent == []
