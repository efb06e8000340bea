"""Publishing the dbt project: once per content, whole, and without the warehouse."""

import multiprocessing
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.errors import DefinitionError
from segue.models import Project, dbt_environment, fingerprint_of, prepare
from segue.settings import Settings, child_environment
from segue.warehouse import Warehouse

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


def _prepare_elsewhere(settings: Settings, queue: "multiprocessing.Queue[tuple[str, int]]") -> None:
    project = prepare(settings)
    queue.put((project.fingerprint, len(project.models)))


def run_dbt(settings: Settings, project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from dbt.cli.main import cli; cli()"
    extra = dbt_environment(settings, as_of=AS_OF) | {
        "DBT_PROJECT_DIR": str(project.project_dir),
        "DBT_PROFILES_DIR": str(project.project_dir),
    }
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], env=child_environment(extra), capture_output=True, text=True
    )


def test_a_project_is_compiled_once_without_the_warehouse_and_survives_edits(
    tiny_settings: Settings, tiny: Path
) -> None:
    # Somebody writes meanwhile: compiling must not wait for them.
    with Warehouse(tiny_settings).lock.held("a long load"):
        project = prepare(tiny_settings)
    assert not (tiny_settings.warehouse_home / "catalog.sqlite").exists()
    assert {s.name for s in project.segments} == {"absent", "power_users", "present"}
    assert project.manifest_path.is_file()

    # Unchanged: no dbt is started.
    started = time.perf_counter()
    assert prepare(tiny_settings) == project
    assert time.perf_counter() - started < 1.0  # dbt alone takes longer to import

    # The published copy does not follow an edit; it stays usable for a run that has begun.
    (tiny / "models/segments/present.sql").write_text("selct person_id from {{ ref('person_features') }}")
    (tiny / "models/segments/new.sql").write_text("select person_id from {{ ref('person_features') }}")
    assert "selct" not in (project.project_dir / "models/segments/present.sql").read_text()
    edited = prepare(tiny_settings)
    assert {s.name for s in edited.segments} == {"absent", "power_users", "new"}
    assert [b.name for b in edited.broken] == ["present"]
    assert edited.project_dir != project.project_dir
    assert (project.project_dir / "models/segments/present.sql").is_file()

    # dbt itself agrees that the copy is sound, and need not parse it again.
    target = tiny_settings.dbt_home / "target"
    target.mkdir(parents=True)
    shutil.copy(edited.target_dir / "partial_parse.msgpack", target)
    listed = run_dbt(tiny_settings, edited, "ls", "--select", "resource_type:model", "--output", "name")
    assert listed.returncode == 0, listed.stdout
    assert set(listed.stdout.split()) >= {"absent", "power_users", "new"}
    assert "no changes found, skipping parsing" in (tiny_settings.dbt_home / "logs" / "dbt.log").read_text()


def test_processes_that_prepare_at_once_agree_and_a_crash_leaves_nothing_half(tiny_settings: Settings) -> None:
    projects = tiny_settings.dbt_home / "projects"
    (projects / ".crashed").mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[tuple[str, int]] = context.Queue()
    workers = [context.Process(target=_prepare_elsewhere, args=(tiny_settings, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = {queue.get() for _ in workers}
    for worker in workers:
        worker.join()
    assert answers == {(fingerprint_of(tiny_settings), 6)}
    assert [p.name for p in projects.iterdir()] == [fingerprint_of(tiny_settings)]


def test_a_folder_that_is_no_dbt_project_is_named(settings: Settings, tmp_path: Path) -> None:
    wrong = Settings(home=settings.home, dbt_project=tmp_path / "nothing", _env_file=None)  # type: ignore[call-arg]
    with pytest.raises(DefinitionError, match=r"nothing has no dbt_project.yml"):
        prepare(wrong)
