"""The state of the dbt project that this process works with."""

import os
import sys
from pathlib import Path

from segue.models import Project, prepare, published
from segue.settings import Settings, load_settings

#: `PID:HOME`, set by a code server for its children, which execute runs: they work with the state the graph was
#: loaded from, although an analyst may have saved another one since.
PINNED_VARIABLE = "SEGUE_PINNED_PROJECT"


def current(settings: Settings) -> Project:
    """The pinned state when there is one, else the analysts' files as they now are (compiled if need be).

    Raises:
        DefinitionError: when the project as a whole cannot be read, and never could.
    """
    server, _, pinned = os.environ.get(PINNED_VARIABLE, "").partition(":")
    home = Path(pinned)
    if server == str(os.getppid()) and home.is_relative_to(settings.dbt_home):
        project = published(settings, home)
        if project is not None:
            return project
    project = prepare(settings)
    if _is_code_server():
        os.environ[PINNED_VARIABLE] = f"{os.getpid()}:{project.project_dir.parent}"
    return project


def _is_code_server() -> bool:
    """Whether this process is `dagster api grpc` or `dagster code-server`."""
    return bool({"grpc", "code-server"} & set(sys.argv[1:3]))


PROJECT = current(load_settings())
