"""Connections to the warehouse: attach, read, write."""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path

import duckdb

from segue.clock import to_warehouse
from segue.errors import WarehouseError
from segue.scoring import register
from segue.settings import Settings, make_folder
from segue.warehouse.lock import WriterLock
from segue.warehouse.new_files import NewFiles

log = logging.getLogger(__name__)

Connection = duckdb.DuckDBPyConnection

#: The name under which the warehouse is attached; two-part names such as `raw.events` resolve in it.
LAKE = "lake"

_BUSY_MILLISECONDS = 10_000

#: What SQLite, DuckDB and the system say when there is no space, for even a look into the catalog.
_DISK_FULL = ("disk I/O error", "disk is full", "No space left", "File too large", "Disk quota")


def is_disk_full(error: Exception) -> bool:
    """Whether what the database or the system refused was for want of space."""
    return any(words in str(error) for words in _DISK_FULL)


# Columns, since a list of tables would count the rows of each: of a lake with a hundred tables a tenth of a second.
def has_table(con: Connection, schema: str, *names: str) -> bool:
    """Whether the default catalog of `con` has all of these tables or views."""
    row = con.execute(
        "select count(distinct table_name) from duckdb_columns() where database_name = current_database()"
        " and schema_name = $1 and list_contains($2, table_name)",
        [schema, list(names)],
    ).fetchone()
    return row is not None and row[0] == len(names)


def relations(con: Connection) -> frozenset[str]:
    """Every table and view of the default catalog of `con`, as `schema.name`."""
    rows = con.execute(
        "select distinct schema_name || '.' || table_name from duckdb_columns()"
        " where database_name = current_database()"
    ).fetchall()
    return frozenset(name for (name,) in rows)


def link_extensions(settings: Settings) -> Path:
    """A DuckDB extension directory made of links into the installed wheels, so nothing is downloaded.

    Raises:
        WarehouseError: when a wheel that the catalog needs is not installed.
    """
    wanted = ["ducklake", "sqlite_scanner"] if settings.catalog_is_sqlite else ["ducklake", "postgres", "httpfs"]
    root = settings.warehouse_home / "extensions"
    folder = root / f"v{duckdb.__version__}" / _platform()
    folder.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or spec.origin is None:
            raise WarehouseError(
                f"the DuckDB extension {name} is not installed", fix="`make setup`, or `pip install segue[postgres]`"
            )
        source = next(Path(spec.origin).parent.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension"), None)
        if source is None:
            raise WarehouseError(
                f"the wheel of {name} has no build for DuckDB {duckdb.__version__}", fix="`make setup`"
            )
        # DuckDB looks the PostgreSQL extension up under either name.
        for alias in {source.name, f"{name}.duckdb_extension"} | (
            {"postgres_scanner.duckdb_extension"} if name == "postgres" else set()
        ):
            _link(source, folder / alias)
    return root


def _link(source: Path, link: Path) -> None:
    if link.is_symlink() and link.readlink() == source:
        return
    # Link under a name of our own, then rename: another process may be doing the same.
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(source)
    temporary.replace(link)


def prepare_catalog(con: Connection, settings: Settings) -> None:
    """Make every look into a SQLite catalog part of one SQLite transaction. To be called before attaching.

    By default each scan of a catalog table opens a connection of its own, so that a reader which overlaps a
    commit puts its list of files together from two states (docs/decisions/0001-warehouse.md).
    """
    if settings.catalog_is_sqlite:
        con.execute("load sqlite_scanner")
        con.execute("set global sqlite_disable_multithreaded_scans = true")


@cache
def _platform() -> str:
    with duckdb.connect(":memory:") as con:
        row = con.execute("pragma platform").fetchone()
    assert row is not None
    return str(row[0])


class Warehouse:
    """The tables of one installation.

    All timestamps in it are naive UTC. `read` and `write` give a DuckDB connection on which the
    warehouse is the default catalog; `getvariable('as_of')` is set when `as_of` is passed.

    Args:
        settings: where the catalog and the data are.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = WriterLock(settings.warehouse_home / "writer.lock")

    def connect(self, *, read_only: bool = True, as_of: datetime | None = None) -> Connection:
        """A connection of the caller's own, for holding over many reads. About 40 ms; close it.

        Raises:
            WarehouseError: when the catalog or the data folder cannot be opened.
        """
        try:
            con = self._open(read_only=read_only)
            if as_of is not None:
                con.execute("set variable as_of = $1::timestamp", [to_warehouse(as_of)])
        except (duckdb.Error, OSError) as error:
            said = f"the warehouse {self.settings.catalog_uri.split(' ')[0]} cannot be opened: {error}"
            shown = self.settings.without_secrets(said)
            raise WarehouseError(
                shown,
                fix="free space on the disk of SEGUE_HOME; what was committed is safe"
                if is_disk_full(error)
                else "check SEGUE_HOME, SEGUE_CATALOG and the permissions of their folders (`segue config`)",
            ) from (error if shown == said else None)  # the cause is shown as well
        return con

    @contextmanager
    def read(self, *, as_of: datetime | None = None) -> Iterator[Connection]:
        """One consistent state for the whole block, whatever others commit meanwhile."""
        con = self.connect(as_of=as_of)
        try:
            con.execute("begin")
            yield con
        finally:
            con.close()

    @contextmanager
    def write(
        self, purpose: str, *, as_of: datetime | None = None, patience: float | None = None
    ) -> Iterator[Connection]:
        """One transaction: committed when the block ends well, absent when it raises or the process dies.

        Waits for the writer lock; readers are not disturbed.

        Args:
            purpose: who writes, for the message that others see while they wait.
            patience: seconds to wait for the writer lock; left out: as long as it takes.

        Raises:
            BusyError: when the patience has ended, naming who writes.
        """
        with self.writer(purpose, as_of=as_of, patience=patience) as con:
            con.execute("begin")
            yield con
            self.commit(con)

    @contextmanager
    def writer(
        self, purpose: str, *, as_of: datetime | None = None, patience: float | None = None
    ) -> Iterator[Connection]:
        """As `write`, for several transactions: the caller says `begin`, and ends each by `commit` of this class."""
        with self.lock.held(purpose, patience=patience):
            self._new_files = NewFiles(self.settings.data_uri)
            con = self.connect(read_only=False, as_of=as_of)
            try:
                yield con
            finally:
                con.close()

    def commit(self, con: Connection) -> None:
        """End a transaction of `writer`: its files are on the disk before the catalog names them.

        Raises:
            WarehouseError: when the disk refuses; then nothing is committed.
        """
        self._new_files.sync()
        con.execute("commit")

    def _open(self, *, read_only: bool) -> Connection:
        settings = self.settings
        if settings.catalog_is_sqlite:
            make_folder(settings.warehouse_home)
            if read_only and not Path(settings.catalog_uri.removeprefix("sqlite:")).exists():
                self._create()
        con = duckdb.connect(":memory:", config=self._config())
        con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
        prepare_catalog(con, settings)
        register(con)
        try:
            con.execute(self._attach(read_only=read_only))
        except duckdb.InvalidInputException as error:
            if not read_only or "creating a new DuckLake" not in str(error):
                raise
            self._create()
            con.execute(self._attach(read_only=read_only))
        con.execute(f"use {LAKE}")
        return con

    def _create(self) -> None:
        with self.writer("create the warehouse"):
            pass

    def _config(self) -> dict[str, str | bool | int | float | list[str]]:
        config: dict[str, str | bool | int | float | list[str]] = {
            "extension_directory": str(link_extensions(self.settings)),
            # Each link was just seen to lead into a wheel of the hashed lock, beside the Python that is trusted as
            # well. To check the signatures too, DuckDB reads 70 MB for each connection: 150 of 190 ms.
            "allow_unsigned_extensions": True,
            "autoinstall_known_extensions": False,
            # A name in SQL means a table, never a Python variable that happens to be in scope.
            "python_enable_replacements": False,
            "temp_directory": str(self.settings.warehouse_home / "spill"),
        }
        if self.settings.memory_limit:
            config["memory_limit"] = self.settings.memory_limit
        return config

    def _attach(self, *, read_only: bool) -> str:
        options = {"data_path": f"'{self.settings.data_uri}'", "data_inlining_row_limit": "0"}
        if self.settings.catalog_is_sqlite:
            options |= {"meta_journal_mode": "'WAL'", "meta_busy_timeout": str(_BUSY_MILLISECONDS)}
        clauses = [f"{key} {value}" for key, value in options.items()] + (["read_only"] if read_only else [])
        return f"attach 'ducklake:{self.settings.catalog_uri}' as {LAKE} ({', '.join(clauses)})"
