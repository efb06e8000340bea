"""Compiles a copy of the dbt project, leaving out what is broken. A process: `python -m segue.models.compiler`.

dbt takes seconds to start and a tenth of a second to try again, so all tries share one process. The warehouse is
replaced by an empty database in memory, so neither its lock nor its files are touched.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import yaml
from dbt.adapters.duckdb.environments.local import LocalEnvironment
from dbt.cli.main import dbtRunner

from segue.errors import DefinitionError
from segue.models.check import check, depends_on_broken, no_query
from segue.models.faults import is_conflict, missing_reference, named_files, sentence
from segue.models.kpis import VARIABLE, kpi_models
from segue.models.manifest import read_models, read_orders
from segue.models.one_query import beyond_a_template
from segue.models.person_local import broken_promises
from segue.models.project import BrokenModel, Project

#: Result and failure files, written beside the copy.
RESULT, FAILURE = "project.json", "failure.json"

_FIX = "correct the file; `segue check` tries it again"
_SHOW = "`segue dbt parse` shows dbt's view"
_YAML = (".yml", ".yaml")

#: Tries a compilation and returns dbt's complaint; None when there is none.
Compile = Callable[[], str | None]


class Workshop:
    """One copy of the project on its way to a state that compiles.

    Args:
        home: holds `project` (the copy, changed here) and `target` (what dbt makes of it).
        last_good: the home of the last state that compiled; None when there is none.
        compile: tries it.
    """

    def __init__(self, home: Path, last_good: Path | None, compile: Compile) -> None:
        self._home = home
        self._root = home / "project"
        self._last_good = last_good / "project" if last_good else None
        self._compile = compile
        self._broken: dict[str, BrokenModel] = {}  # by path
        self._read_by_others = _read_by_others(last_good)
        self._raw = {path: (self._root / path).read_text(errors="replace") for path in self._files()}

    def run(self) -> Project:
        """Compile, leave out what is at fault, compile again, until all that is left works.

        Raises:
            DefinitionError: when the fault is in no single definition and no earlier state can stand in.
        """
        for broken in self._more_than_queries():
            self._leave_out(broken)
        for _ in range(2 * len(self._raw) + 10):
            complaint = self._compile()
            if complaint is not None:
                self._blame(complaint)
                continue
            models, source_columns = read_models(self._home / "target")
            project = Project(
                fingerprint="",
                project_dir=self._root,
                target_dir=self._home / "target",
                models=models,
                broken=tuple(sorted(self._broken.values(), key=lambda b: b.path)),
                source_columns=source_columns,
            )
            # What the database refuses comes first: there is no use in following it.
            orders = read_orders(self._home / "target")
            refused = orders or check(models, source_columns, self._raw) or broken_promises(project)
            for broken in refused:
                self._leave_out(broken)
            if not refused:
                return project
        raise DefinitionError("the dbt project does not compile, whatever is left out", fix=_SHOW)

    def _more_than_queries(self) -> list[BrokenModel]:
        """Definitions that would have dbt run something: found before dbt reads them, since it runs some at once."""
        found = [(path, "it is Python, and a model is one query") for path in self._raw if _is_program(path)]
        texts = [(path, text) for path, text in self._raw.items() if path.endswith(".sql") and _is_definition(path)]
        found += [(path, beyond) for path, text in texts if (beyond := beyond_a_template(text))]
        return [no_query(Path(path).stem, path, beyond) for path, beyond in found]

    def _files(self) -> list[str]:
        return sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())

    def _blame(self, complaint: str) -> None:
        files = self._files()
        named = named_files(complaint, files)
        if is_conflict(complaint) and named:
            newcomer = self._newcomer(named)
            others = " and ".join(p for p in named if p != newcomer)
            if "with the name" in complaint:
                reason = f"{newcomer}: another model has the same name ({others})."
                fix = "give one of the two files another name"
            else:
                reason, fix = f"{newcomer}: {_one_line(complaint)}.", f"compare it with {others}"
            self._leave_out(BrokenModel(name=Path(newcomer).stem, path=newcomer, reason=reason, fix=fix))
            return
        path = named[0] if named else self._search(complaint, files)
        if path is None or not _is_definition(path):
            self._restore_shared(complaint, path)
            return
        missing = missing_reference(complaint)
        culprit = next((b for b in self._broken.values() if missing is not None and b.name == missing), None)
        if culprit is not None:
            self._leave_out(depends_on_broken(Path(path).stem, path, culprit.name))
        else:
            self._leave_out(BrokenModel(name=Path(path).stem, path=path, reason=sentence(complaint, path), fix=_FIX))

    def _leave_out(self, broken: BrokenModel) -> None:
        """Take a definition out of the copy, with the YAML entries that would miss it."""
        path = self._root / broken.path
        self._broken.setdefault(broken.path, broken)
        if path.suffix in _YAML:
            model = path.with_suffix(".sql")
            path.unlink(missing_ok=True)
            if broken.name in self._read_by_others and self._take_back(broken.path):
                # Much would be lost with it, and its SQL is as it should be.
                self._broken[broken.path] = _with_last_text(broken)
            elif model.exists():
                # Described by this file alone: without its tests and meta it is not the definition that was meant.
                model.unlink()
                self._forget(broken.name)
            elif self._take_back(broken.path):
                self._broken[broken.path] = _with_last_text(broken)
            return
        path.unlink(missing_ok=True)
        if not any(p.stem == broken.name for p in self._root.rglob("*.sql") if p.is_relative_to(self._root / "models")):
            self._forget(broken.name)

    def _take_back(self, path: str) -> bool:
        """Put the last working text of a file back; False when there is none, or when it is what failed."""
        if self._last_good is None:
            return False
        earlier = self._last_good / path
        if not earlier.is_file() or earlier.read_text(errors="replace") == self._raw.get(path):
            return False
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(earlier, self._root / path)
        # A second complaint about this file is then final.
        self._raw[path] = earlier.read_text(errors="replace")
        return True

    def _forget(self, name: str) -> None:
        """Drop what YAML says about a model that is no longer there: dbt refuses unit tests of a missing model."""
        for path in (p for suffix in _YAML for p in (self._root / "models").rglob(f"*{suffix}")):
            try:
                content = yaml.safe_load(path.read_text())
            except (yaml.YAMLError, UnicodeDecodeError):
                continue
            if not isinstance(content, dict):
                continue
            kept = {
                key: [e for e in value if not _is_about(e, key, name)] if isinstance(value, list) else value
                for key, value in content.items()
            }
            if kept == content:
                continue
            if any(kept.get(key) for key in kept if key != "version"):
                path.write_text(yaml.safe_dump(kept, sort_keys=False))
            else:
                path.unlink()

    def _newcomer(self, paths: list[str]) -> str:
        """Of definitions that exclude one another, the one that came last, so that what worked goes on working."""
        if self._last_good is not None:
            for path in sorted(paths, reverse=True):
                earlier = self._last_good / path
                if not earlier.is_file() or earlier.read_bytes() != (self._root / path).read_bytes():
                    return path
        return max(paths)

    def _search(self, complaint: str, files: list[str]) -> str | None:
        """The definition at fault when dbt does not say: the one without which it complains no more, or otherwise."""
        candidates = [path for path in files if _is_definition(path)]
        # What has changed first, then YAML: in SQL files dbt nearly always knows its way.
        for path in sorted(candidates, key=lambda p: (self._same_as_before(p), not p.endswith(_YAML))):
            text = (self._root / path).read_bytes()
            (self._root / path).unlink()
            try:
                another = self._compile()
            finally:
                (self._root / path).write_bytes(text)
            if another != complaint and (another is None or path not in named_files(another, files)):
                if another is not None and (missing_reference(another) or "Unable to find" in another):
                    continue
                return path
        return None

    def _same_as_before(self, path: str) -> bool:
        if self._last_good is None:
            return False
        earlier = self._last_good / path
        return earlier.is_file() and earlier.read_bytes() == (self._root / path).read_bytes()

    def _restore_shared(self, complaint: str, path: str | None) -> None:
        """A fault in what all definitions share, such as a macro: go on with its last working text."""
        shared = [path] if path is not None else [p for p in self._files() if not _is_definition(p)]
        restored = [p for p in shared if self._take_back(p)]
        if not restored:
            raise DefinitionError(f"the dbt project cannot be read: {_one_line(complaint)}", fix=_SHOW)
        for p in restored:
            self._broken[p] = _with_last_text(
                BrokenModel(name=Path(p).stem, path=p, reason=sentence(complaint, p), fix=_FIX)
            )


def _is_definition(path: str) -> bool:
    """Whether a file may be left out by itself: models, tests, and their YAML; not macros or project files."""
    return path.split("/")[0] not in ("macros", "dbt_packages") and "/" in path and path.endswith((".sql", *_YAML))


def _is_program(path: str) -> bool:
    return path.startswith("models/") and path.endswith(".py")


def _is_about(entry: Any, key: str, name: str) -> bool:
    if not isinstance(entry, dict):
        return False
    return entry.get("model") == name if key == "unit_tests" else key == "models" and entry.get("name") == name


def _read_by_others(last_good: Path | None) -> frozenset[str]:
    """Names of the models that other models read."""
    if last_good is None or not (last_good / RESULT).is_file():
        return frozenset()
    models = Project.from_json((last_good / RESULT).read_text(), home=last_good).models
    return frozenset(name for model in models for name in model.depends_on)


def _with_last_text(broken: BrokenModel) -> BrokenModel:
    return replace(broken, reason=f"{broken.reason.rstrip('.')}; its last working text is used.")


def _one_line(complaint: str) -> str:
    return " ".join(complaint.split()).rstrip(".")


def _stand_in(_cls: Any, creds: Any, _plugins: Any = None) -> Any:
    """What dbt gets instead of the warehouse."""
    con = duckdb.connect(":memory:")
    for attachment in creds.attach or []:
        con.execute(f"attach ':memory:' as {attachment.alias}")
    con.execute("set enable_external_access = false")
    return con


def _compile_with_dbt(home: Path) -> Compile:
    setattr(LocalEnvironment, "initialize_db", classmethod(_stand_in))  # noqa: B010 — dbt's types forbid the plain form
    runner = dbtRunner()
    project, target = str(home / "project"), str(home / "target")
    # Full-refresh form: an incremental model compiles to the query over everything. `resource_type:model`: tests
    # are compiled when they run.
    arguments = ["compile", "--full-refresh", "--no-populate-cache", "--select", "resource_type:model", "--quiet"]
    arguments += ["--log-level", "none", "--log-level-file", "none"]
    arguments += ["--project-dir", project, "--profiles-dir", project, "--target-path", target, "--log-path", target]

    def compile() -> str | None:
        os.environ[VARIABLE] = " ".join(kpi_models(home / "project"))  # without those that were left out
        result = runner.invoke(arguments)
        if result.exception is not None:
            return str(result.exception)
        failed = [r for r in getattr(result.result, "results", []) if r.status not in ("success", "skipped")]
        return str(failed[0].message) if failed else None

    return compile


def main(home: Path, last_good: Path | None) -> int:
    """Write the result or the failure into `home`."""
    try:
        project = Workshop(home, last_good, _compile_with_dbt(home)).run()
    except DefinitionError as error:
        (home / FAILURE).write_text(json.dumps({"message": error.message, "fix": error.fix}))
        return 2
    (home / RESULT).write_text(project.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
