"""The variables of the dbt project, as Python reads them."""

from pathlib import Path

import pytest

from segue.errors import DefinitionError
from segue.settings import PROJECT_ROOT
from segue.variables import read_variables


def test_the_shipped_variables_can_be_read() -> None:
    found = read_variables(PROJECT_ROOT / "dbt_project")
    assert (found["session_gap_minutes"], found["share_days"], found["analytics_categories"]) == (30, 30, ["analytics"])


@pytest.mark.parametrize("text", ["", "name: x", "vars:"])
def test_a_project_need_not_have_any(tmp_path: Path, text: str) -> None:
    (tmp_path / "dbt_project.yml").write_text(text)
    assert read_variables(tmp_path) == {}


@pytest.mark.parametrize(("text", "says"), [("vars: [", "cannot be read"), ("vars: [1]", r"vars is \[1\]")])
def test_what_cannot_be_used_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "dbt_project.yml").write_text(text)
    with pytest.raises(DefinitionError, match=rf"dbt_project.yml.* {says}|dbt_project.yml: {says}"):
        read_variables(tmp_path)


def test_a_folder_that_is_no_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"dbt_project.yml cannot be read"):
        read_variables(tmp_path)
