"""A definition that is broken now, and worked before: it goes on as it was, until it is mended or removed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from segue.models import Model, Project
from segue.segments import definitions

_FILE = "definitions.json"


@dataclass(frozen=True, slots=True)
class LastGood:
    """A project in which what is broken is as it was before."""

    project: Project
    broken: Mapping[str, str]  # segment or model that goes on as it was → why


def keep_last_good(new: Project, old: Project | None) -> LastGood:
    """The new project, with the earlier model wherever the new one is broken.

    Args:
        old: what was evaluated until now, itself perhaps made by this function; None: nothing was.
    """
    if old is None:
        return LastGood(new, {})
    reasons = {broken.name: broken.reason for broken in new.broken}
    reasons |= {name: error.message for name, error in definitions(new).errors.items()}
    broken = {name: reason for name, reason in reasons.items() if name in old.by_name}
    if not broken:
        return LastGood(new, {})
    # Earlier models that these are made from, and that the new project does not have at all.
    needed = [m for m in old.upstream(broken) if m.name in broken or m.name not in new.by_name]
    stay = [m for m in new.models if m.name not in broken]
    project = replace(
        new,
        models=_upstream_first([*stay, *needed]),
        broken=tuple(b for b in new.broken if b.name not in broken),
        source_columns={**old.source_columns, **new.source_columns},
    )
    return LastGood(project, broken)


def remember(project: Project, folder: Path) -> None:
    """Keep what is evaluated, for the engine that comes after."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{_FILE}"
    draft.write_text(project.to_json())
    draft.replace(folder / _FILE)


def remembered(folder: Path, project: Project) -> Project | None:
    """What was evaluated last; None when that is not known.

    Args:
        project: says where the files of the project are.
    """
    try:
        return Project.from_json((folder / _FILE).read_text(), home=project.target_dir.parent)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of an earlier version of Segue, or none


def _upstream_first(models: list[Model]) -> tuple[Model, ...]:
    by_name = {model.name: model for model in models}
    done: dict[str, Model] = {}

    def visit(name: str) -> None:
        if name in by_name and name not in done:
            for parent in by_name[name].depends_on:
                visit(parent)
            done[name] = by_name[name]

    for name in sorted(by_name):
        visit(name)
    return tuple(done.values())
