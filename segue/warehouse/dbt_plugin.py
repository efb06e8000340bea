"""What dbt needs from the warehouse: the writer lock, the extensions and the clock on each of its connections, and
files that are on the disk before a commit.

dbt-duckdb loads this module because `dbt_project/profiles.yml` names it. So a bare `dbt build` in a
shell follows the same rules as a Dagster run.
"""

import hashlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.sql.connections import SQLConnectionManager

from segue.clock import parse_as_of, system_time, to_warehouse
from segue.identifiers import Normaliser, load_key
from segue.scoring import register
from segue.settings import load_settings
from segue.variables import read_variables
from segue.warehouse.connect import Connection, Warehouse, link_extensions, prepare_catalog
from segue.warehouse.new_files import NewFiles
from segue.warehouse.patience import stop_after

#: Set by whoever starts dbt; a person in a shell may leave it out and gets the current time.
AS_OF_VARIABLE = "SEGUE_AS_OF"

#: First and last instant of the days that a KPI run rebuilds; left out: all days.
WINDOW_VARIABLES = {"window_start": "SEGUE_WINDOW_START", "window_end": "SEGUE_WINDOW_END"}

#: A variable that a macro reads.
_READ = re.compile(r"""\bvar\(\s*['"](\w+)['"]""")


class Plugin(BasePlugin):
    """One per dbt process."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        text = os.environ.get(AS_OF_VARIABLE)
        self._as_of = to_warehouse(parse_as_of(text) if text else system_time())
        window = {name: os.environ.get(variable) for name, variable in WINDOW_VARIABLES.items()}
        self._window = {name: to_warehouse(parse_as_of(text)) if text else None for name, text in window.items()}
        self._settings = load_settings()
        self._timers: dict[int, threading.Timer] = {}  # by thread of dbt
        self._macros_version = macros_version(Path(os.environ.get("DBT_PROJECT_DIR", ".")))

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        config["extension_directory"] = str(link_extensions(self._settings))
        config["autoinstall_known_extensions"] = False

    def configure_connection(self, conn: Connection) -> None:
        prepare_catalog(conn, self._settings)
        register(conn)
        Normaliser(load_key(self._settings)).register(conn)
        # Held until the process ends: a dbt run is one writer. The descriptor is kept by not being closed.
        self._lock = Warehouse(self._settings).lock.acquire("dbt")
        _commit_durably(NewFiles(self._settings.data_uri))

    def configure_cursor(self, cursor: Connection) -> None:
        cursor.execute("set variable as_of = $1::timestamp", [self._as_of])
        cursor.execute("set variable macros_version = $1::varchar", [self._macros_version])
        for name, moment in self._window.items():
            cursor.execute(f"set variable {name} = $1::timestamp", [moment])
        # dbt opens one for each model and test, one after the other in each of its threads.
        thread = threading.get_ident()
        if thread in self._timers:
            self._timers[thread].cancel()
        self._timers[thread] = stop_after(cursor, self._settings.model_seconds)


def _commit_durably(files: NewFiles) -> None:
    """dbt has no hook for a commit: a model's post-hooks come before it, but may themselves write tables."""

    def add_commit_query(manager: SQLConnectionManager) -> Any:
        files.sync()
        return SQLConnectionManager.add_commit_query(manager)  # type: ignore[no-untyped-call]

    DuckDBConnectionManager.add_commit_query = add_commit_query  # type: ignore[method-assign]


def macros_version(project: Path) -> str:
    """Changes when a macro of the project does, or a variable that one reads: what was built with the old one must be
    built anew."""
    digest = hashlib.sha256()
    names: set[str] = set()
    for path in sorted((project / "macros").rglob("*.sql")):
        text = path.read_bytes()
        digest.update(str(path.relative_to(project)).encode() + b"\0" + text + b"\0")
        names.update(_READ.findall(text.decode(errors="replace")))
    # dbt can be told of a project elsewhere by a flag, which nobody tells us.
    variables = read_variables(project) if names else {}
    digest.update(json.dumps({name: variables.get(name) for name in sorted(names)}, default=str).encode())
    return digest.hexdigest()[:16]
