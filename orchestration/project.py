"""The state of the dbt project that this process works with."""

import os
from pathlib import Path

from segue.models import Project, prepare
from segue.settings import Settings, load_settings

#: Set for the processes that execute runs, so that they work with the state the graph was loaded from,
#: although an analyst may have saved another one since.
PINNED_VARIABLE = "SEGUE_PINNED_PROJECT"


def current(settings: Settings) -> Project:
    """The pinned state when there is one, else the analysts' files as they now are (compiled if need be).

    Raises:
        DefinitionError: when the project as a whole cannot be read, and never could.
    """
    pinned = os.environ.get(PINNED_VARIABLE)
    if pinned is not None:
        home = Path(pinned)
        if home.is_relative_to(settings.dbt_home) and (home / "project.json").exists():
            return Project.from_json((home / "project.json").read_text(), home=home)
    project = prepare(settings)
    # Run workers are children of the process that loads the graph, and inherit this.
    os.environ[PINNED_VARIABLE] = str(project.project_dir.parent)
    return project


PROJECT = current(load_settings())
