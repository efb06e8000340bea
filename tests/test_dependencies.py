"""What we import is declared, and what is declared is used."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = ("segue", "orchestration", "assets", "sensors")
#: Used without an import: started, loaded by name, or the speed of another one.
NOT_IMPORTED = {
    "dagster-webserver": "`dagster dev` starts it",
    "duckdb-extension-ducklake": "DuckDB loads it",
    "duckdb-extension-sqlite-scanner": "DuckDB loads it",
    "hiredis": "parses for redis",
    "httptools": "uvicorn is told to use it",
    "uvloop": "uvicorn is told to use it",
}


def imported() -> set[str]:
    found = set()
    for path in [path for room in OURS for path in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found |= {name.split(".")[0] for name in names}
    return found - set(OURS) - set(sys.stdlib_module_names)


def declared() -> set[str]:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return {_plain(re.split(r"[<>=~!\[; ]", line, maxsplit=1)[0]) for line in lines}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_a_dependency_of_ours_and_no_accident_of_another() -> None:
    givers = packages_distributions()
    accidents = {name for name in imported() if not {_plain(giver) for giver in givers[name]} & declared()}
    assert accidents == set()


def test_every_dependency_is_used() -> None:
    givers = packages_distributions()
    used = {_plain(giver) for name in imported() for giver in givers[name]}
    assert declared() - used == set(NOT_IMPORTED)
