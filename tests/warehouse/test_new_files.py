"""What a commit names is on the disk before it, whoever writes."""

import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager

from segue.errors import WarehouseError
from segue.events.ingest import ingest
from segue.warehouse import Warehouse, dbt_plugin, maintain
from segue.warehouse.new_files import NewFiles


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Paths that were brought to the disk, as each was then: `path` or `path of N bytes`."""
    found: set[str] = set()

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        found.add(str(path) if path.is_dir() else f"{path} of {path.stat().st_size} bytes")

    monkeypatch.setattr(os, "fsync", fsync)
    return found


@pytest.fixture
def unsynced_at_commit(synced: set[str], monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """For each commit: what lay under the data path and was not on the disk when the catalog was told."""
    found: list[set[str]] = []
    whole = Warehouse.commit

    def commit(warehouse: Warehouse, con: Any) -> None:
        class Watched:
            def execute(self, sql: str) -> Any:
                assert sql == "commit"
                found.append(_unsynced(Path(warehouse.settings.data_uri), synced))
                return con.execute(sql)

        whole(warehouse, Watched())  # type: ignore[arg-type]

    monkeypatch.setattr(Warehouse, "commit", commit)
    return found


def _unsynced(data: Path, synced: set[str]) -> set[str]:
    paths = [data.parent, data, *data.rglob("*")]
    return {str(p) if p.is_dir() else f"{p} of {p.stat().st_size} bytes" for p in paths} - synced


def test_files_and_their_folders_are_on_the_disk_before_each_commit(
    warehouse: Warehouse, unsynced_at_commit: list[set[str]], synced: set[str]
) -> None:
    with warehouse.write("test") as con:
        con.execute("create schema raw; create table raw.numbers as select range as n from range(100)")
    with warehouse.writer("test") as con:
        for _ in range(2):
            con.execute("begin")
            con.execute("delete from raw.numbers where n < 10; insert into raw.numbers select range from range(10)")
            warehouse.commit(con)
    assert unsynced_at_commit == [set(), set(), set()]
    assert any("-delete" in name for name in synced)


def test_a_commit_syncs_what_is_new_and_nothing_else(warehouse: Warehouse, synced: set[str]) -> None:
    with warehouse.write("test") as con:
        con.execute("create schema raw; create table raw.numbers as select 1 as n")
    before = set(synced)
    synced.clear()
    with warehouse.write("test") as con:
        con.execute("insert into raw.numbers values (2)")
    assert {name for name in synced if " of " in name}.isdisjoint(before)
    synced.clear()
    with warehouse.write("test") as con:
        con.execute("select * from raw.numbers")
    assert synced == set()


def test_ingest_and_maintenance_sync_before_their_commits(
    warehouse: Warehouse, unsynced_at_commit: list[set[str]], tmp_path: Path, as_of: datetime
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"type":"track","messageId":"m","userId":"u","event":"E","timestamp":"2026-02-01T00:00:00Z"}\n')
    assert ingest(warehouse, [file], as_of=as_of).read == 1
    assert len(unsynced_at_commit) == 1
    with warehouse.writer("test") as con:
        con.execute("create table small (n bigint)")
        for n in range(32):
            con.execute("insert into small values ($1)", [n])
    unsynced_at_commit.clear()
    assert "main.small" in maintain(warehouse, as_of=as_of).rewritten
    rewritten = {name for found in unsynced_at_commit for name in found}
    # The rows of this test were committed without Segue.
    assert len({name for name in rewritten if " of " in name}) == 32


def test_a_disk_that_refuses_prevents_the_commit(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    with warehouse.write("test") as con:
        con.execute("create table numbers as select 1 as n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with (
            pytest.raises(WarehouseError, match="cannot be brought to the disk: Input/output error"),
            warehouse.write("test") as con,
        ):
            con.execute("insert into numbers values (2)")
    with warehouse.read() as con:
        assert con.execute("from numbers").fetchall() == [(1,)]


def test_a_file_that_grew_since_it_was_synced_is_synced_again(tmp_path: Path, synced: set[str]) -> None:
    files = NewFiles(str(tmp_path))
    path = tmp_path / "data.parquet"
    for text in ("half", "half and half"):
        path.write_text(text)
        files.sync()
        assert f"{path} of {len(text)} bytes" in synced


def test_object_storage_needs_nothing(synced: set[str]) -> None:
    NewFiles("s3://bucket/lake").sync()
    assert synced == set()


def test_dbt_syncs_before_each_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Files:
        def sync(self) -> None:
            order.append("sync")

    class Manager(DuckDBConnectionManager):
        def __init__(self) -> None:
            pass

        def add_query(self, sql: str, *_: Any, **__: Any) -> Any:
            order.append(sql)

        def get_thread_connection(self) -> Any:
            return SimpleNamespace(name="test", transaction_open=True)

    monkeypatch.setattr(DuckDBConnectionManager, "add_commit_query", DuckDBConnectionManager.add_commit_query)
    for _ in range(2):  # as when a process runs dbt twice
        dbt_plugin._commit_durably(Files())  # type: ignore[arg-type]
    Manager().commit()
    assert order == ["sync", "COMMIT"]
