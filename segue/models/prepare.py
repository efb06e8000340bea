"""Publishes the dbt project: a copy without what is broken, compiled; made once per content."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from segue.errors import DefinitionError
from segue.identifiers import Normaliser, load_key, load_rules
from segue.models.environment import dbt_environment
from segue.models.project import Project
from segue.settings import PROJECT_ROOT, Settings, dbt_child_environment, make_folder
from segue.warehouse import WriterLock

log = logging.getLogger(__name__)

#: Folders of the analysts' project that are not part of the definitions.
_NOT_SOURCES = {"target", "logs", "__pycache__"}

#: How many earlier states stay, for runs that still work with them.
_KEEP = 10

#: Part of the fingerprint: raise it when the published form changes.
_FORM = "4"

#: What the compiler leaves behind; named here too, since importing it would load all of dbt.
_RESULT, _FAILURE = "project.json", "failure.json"


def prepare(settings: Settings, *, force: bool = False) -> Project:
    """The dbt project, compiled and without its broken definitions; milliseconds when nothing has changed.

    dbt runs with the published copy, so an edit during a run cannot disturb the run. Neither the writer lock nor
    the warehouse is touched. Any number of processes may call this at once; a crash leaves the last state in place.

    Args:
        settings: says where the project and the home are.
        force: compile although nothing has changed.

    Raises:
        DefinitionError: when the project as a whole cannot be read (`dbt_project.yml`, a macro) and never could.
            A fault in one definition is in `Project.broken` instead.
    """
    fingerprint = fingerprint_of(settings)
    home = settings.dbt_home / "projects" / fingerprint
    if not force and (project := published(settings, home)) is not None:
        _point_to(settings, fingerprint)
        return project
    with WriterLock(settings.dbt_home / "prepare.lock").held("prepare the dbt project"):
        if force or (project := published(settings, home)) is None:
            load_rules(settings.dbt_project)  # before dbt fails on them in its own words
            _build(settings, home)
            project = published(settings, home)
            assert project is not None
        _point_to(settings, fingerprint)
        _prune(settings)
    return project


def fingerprint_of(settings: Settings) -> str:
    """A hash of every file of the project, of the versions that read it and of the warehouse's place.

    Raises:
        DefinitionError: when there is no dbt project.
    """
    root = settings.dbt_project
    if not (root / "dbt_project.yml").is_file():
        raise DefinitionError(f"{root} has no dbt_project.yml", fix="point SEGUE_DBT_PROJECT at the dbt project")
    digest = hashlib.sha256()
    for part in (_FORM, version("dbt-core"), version("dbt-duckdb"), settings.catalog_uri, settings.data_uri):
        digest.update(part.encode() + b"\0")
    for path in _source_files(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _source_files(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if f not in _NOT_SOURCES and not f.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if not name.startswith(".") or name == ".dbtignore"]
    return [path for path in found if path.is_file()]


def published(settings: Settings, home: Path) -> Project | None:
    """A state that was published before, by its folder; None when it is not there."""
    try:
        text = (home / _RESULT).read_text()
    except OSError:
        return None
    return replace(
        Project.from_json(text, home=home),
        fingerprint=home.name,
        rules=load_rules(home / "project"),
        normaliser=Normaliser(load_key(settings)),
    )


def _build(settings: Settings, home: Path) -> None:
    make_folder(home.parent)
    work = Path(tempfile.mkdtemp(prefix=".", dir=home.parent))
    try:
        for path in _source_files(settings.dbt_project):
            copy = work / "project" / path.relative_to(settings.dbt_project)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        last_good = _last_good(settings)
        if last_good is not None:
            # dbt then parses only what differs.
            (work / "target").mkdir()
            parsed = last_good / "target" / "partial_parse.msgpack"
            if parsed.is_file():
                shutil.copy2(parsed, work / "target")
        _compile(settings, work, last_good)
        if home.exists():
            # Forced: the earlier state steps aside first, since a folder cannot be replaced in one step.
            home.rename(work / "replaced")
        _publish(work, home)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, home: Path) -> None:
    staged = Path(tempfile.mkdtemp(prefix=".", dir=home.parent))
    for name in ("project", "target", _RESULT):
        (work / name).rename(staged / name)
    staged.rename(home)


def _compile(settings: Settings, work: Path, last_good: Path | None) -> None:
    # The compiled SQL holds no time, so any will do.
    environment = dbt_child_environment(dbt_environment(settings, as_of=datetime(2026, 1, 1, tzinfo=UTC)))
    command = [sys.executable, "-m", "segue.models.compiler", str(work), *([str(last_good)] if last_good else [])]
    done = subprocess.run(command, env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if (work / _FAILURE).exists():
        failure = json.loads((work / _FAILURE).read_text())
        raise DefinitionError(failure["message"], fix=failure["fix"])
    said = (done.stderr or done.stdout).strip().splitlines()
    raise DefinitionError(
        settings.without_secrets(f"dbt ended with code {done.returncode}: {said[-1] if said else 'no message'}"),
        fix="`segue dbt parse` shows more",
    )


def _current(settings: Settings) -> Path:
    return settings.dbt_home / "current"


def _last_good(settings: Settings) -> Path | None:
    try:
        home = settings.dbt_home / "projects" / _current(settings).read_text().strip()
    except OSError:
        return None
    return home if (home / _RESULT).is_file() else None


def _point_to(settings: Settings, fingerprint: str) -> None:
    pointer = _current(settings)
    try:
        if pointer.read_text() == fingerprint:
            return
    except OSError:
        pass
    temporary = pointer.with_name(f".current.{os.getpid()}")
    temporary.write_text(fingerprint)
    temporary.replace(pointer)


def _prune(settings: Settings) -> None:
    homes = [p for p in (settings.dbt_home / "projects").iterdir() if p.is_dir()]
    finished = sorted((p for p in homes if not p.name.startswith(".")), key=lambda p: p.stat().st_mtime, reverse=True)
    # Unfinished work is a crash's: we hold the lock, so nobody is building.
    for home in [*finished[_KEEP:], *(p for p in homes if p.name.startswith("."))]:
        shutil.rmtree(home, ignore_errors=True)
