"""YAML that describes a model which is not there: dbt passes over it, and what it says would hold for nothing."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

YAML = "*.y*ml"


def without_model(project: Path) -> tuple[tuple[str, str], ...]:
    """What is wrong and the fix, for each description of a model that has no file of SQL; by file.

    Args:
        project: the folder of the dbt project.
    """
    models = project / "models"
    known = {path.stem for path in models.rglob("*.sql")}
    found = []
    for path, entry in described(models.rglob(YAML)):
        name = str(entry["name"])
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {close[0]}? " if close else ""
            reason = f"{path.relative_to(project)}: it describes {name}, but there is no {name}.sql."
            found.append((reason, f"{fix}A model's name is that of its file of SQL"))
    return tuple(found)


def described(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each file and entry with a name below `models:` in some files of YAML, by file.

    YAML that cannot be read is dbt's to complain of.
    """
    for path in sorted(paths):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        entries = content.get("models") if isinstance(content, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("name"):
                yield path, entry
