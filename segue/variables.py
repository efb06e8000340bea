"""The variables of the dbt project, for Python that follows the same lines as the SQL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from segue.errors import DefinitionError


def read_variables(project: Path) -> Mapping[str, Any]:
    """What `vars` of the project's `dbt_project.yml` says.

    Raises:
        DefinitionError: when it cannot be read.
    """
    path = project / "dbt_project.yml"
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise DefinitionError(f"{path} cannot be read: {error}", fix="correct the YAML") from error
    said = (content.get("vars") if isinstance(content, Mapping) else None) or {}
    if not isinstance(said, Mapping):
        raise DefinitionError(f"{path}: vars is {said!r}", fix="it should be a mapping of names to values")
    return said


def wrong_variable(name: str, value: Any, wanted: str) -> DefinitionError:
    """The exception that names a variable, what it is, and what it should be."""
    return DefinitionError(f"dbt_project.yml: vars.{name} is {value!r}", fix=f"it should be {wanted}")
