"""A small dbt project with the real profile and macros."""

import shutil
from pathlib import Path

import pytest

from segue.settings import PROJECT_ROOT, Settings


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of a dbt project of three segments, to be edited by the test."""
    root = tmp_path / "dbt"
    shutil.copytree(Path(__file__).parent / "tiny_project", root)
    for name in ("as_of.sql", "generate_schema_name.sql"):
        (root / "macros").mkdir(exist_ok=True)
        shutil.copy(PROJECT_ROOT / "dbt_project" / "macros" / name, root / "macros")
    shutil.copy(PROJECT_ROOT / "dbt_project" / "profiles.yml", root)
    return root


@pytest.fixture
def tiny_settings(tmp_path: Path, tiny: Path) -> Settings:
    """An installation of its own with the tiny project."""
    return Settings(home=tmp_path / "home", dbt_project=tiny, _env_file=None)  # type: ignore[call-arg]
