"""What dbt is told of the macros: by it a model that grows knows whether its definition has changed."""

import shutil
from pathlib import Path

import pytest

from segue.settings import PROJECT_ROOT
from segue.warehouse.dbt_plugin import macros_version


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The shipped macros and variables, to be edited."""
    shipped = PROJECT_ROOT / "dbt_project"
    shutil.copytree(shipped / "macros", tmp_path / "macros")
    shutil.copy(shipped / "dbt_project.yml", tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kpi_slices: 50", "kpi_slices: 51"),
        ("kpi_dimensions: [platform, channel, country]", "kpi_dimensions: [platform, channel]"),
        ("session_gap_minutes: 30", "session_gap_minutes: 29"),
        ("analytics_categories: [analytics]", "analytics_categories: [analytics, C0002]"),
        ("largest_person: 500", "largest_person: 400"),
    ],
)
def test_a_variable_that_a_macro_reads_is_part_of_the_definition(project: Path, old: str, new: str) -> None:
    before = macros_version(project)
    edit(project / "dbt_project.yml", old, new)
    assert macros_version(project) != before


def test_a_variable_that_no_macro_reads_builds_nothing_anew(project: Path) -> None:
    """Models that read it know it by their own SQL."""
    before = macros_version(project)
    edit(project / "dbt_project.yml", "power_user_sessions: 5 ", "power_user_sessions: 6 ")
    assert macros_version(project) == before


def test_the_text_of_a_macro_is_part_of_the_definition(project: Path) -> None:
    before = macros_version(project)
    edit(project / "macros" / "behaviour.sql", "has_analytics_consent", "has_consent")
    assert macros_version(project) != before
