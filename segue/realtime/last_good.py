"""A definition that is broken now, and worked before: it goes on as it was, until it is mended or removed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from segue.events import Contract
from segue.models import Model, Project
from segue.segments import definitions

_FILE = "definitions.json"
_CONTRACTS = "contracts.json"


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
    _write(folder / _FILE, project.to_json().encode())


def remembered(folder: Path, project: Project) -> Project | None:
    """What was evaluated last; None when that is not known.

    Args:
        project: says where the files of the project are.
    """
    try:
        return Project.from_json((folder / _FILE).read_text(), home=project.target_dir.parent)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of an earlier version of Segue, or none


def remember_contracts(contracts: Sequence[Contract], folder: Path) -> None:
    """Keep what messages are held to, for whoever judges them after a restart."""
    _write(folder / _CONTRACTS, msgspec.json.encode(contracts, enc_hook=str))


def remembered_contracts(folder: Path) -> tuple[Contract, ...] | None:
    """What messages were held to last; None when that is not known."""
    try:
        text = (folder / _CONTRACTS).read_bytes()
        return msgspec.json.decode(text, type=tuple[Contract, ...], dec_hook=lambda _kind, path: Path(path))
    except (OSError, msgspec.MsgspecError):
        return None  # as above


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")  # an audit may write beside an engine
    draft.write_bytes(content)
    draft.replace(path)


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
