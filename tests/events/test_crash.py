"""Death at any moment: after a restart it is as if nothing had happened."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import duckdb
import pytest

from segue.errors import WarehouseError
from segue.events import accounting, ingest

#: Ingest in a process of its own. With an argument it is killed there, from the inside.
PROGRAM = """
import importlib, os, signal, sys
from datetime import UTC, datetime
from segue.events.loader import Loader, Tally
from segue.settings import load_settings
from segue.warehouse import Warehouse

module = importlib.import_module("segue.events.ingest")
where = sys.argv[1] if len(sys.argv) > 1 else "nowhere"

def die(*_args, **_names):
    os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, *, before):
    real = getattr(owner, name)
    def wrapped(*args, **names):
        if before:
            die()
        answer = real(*args, **names)
        die()
        return answer
    setattr(owner, name, wrapped)

if where == "after the first events":
    around(Loader, "_stream", before=False)
if where == "after the careful look":
    around(Loader, "_with_care", before=False)
if where == "before the ledger":
    around(module._Run, "_write_ledger", before=True)
if where == "after the ledger":
    around(module._Run, "_write_ledger", before=False)
if where == "the ledger before the events":  # unsafe
    begin = module._Run._begin
    def early(self):
        begin(self)
        if not self._con.execute("select count(*) from raw.loads").fetchone()[0]:
            self._write_ledger(self._waiting, [self._report(index, Tally()) for index in self._waiting])
            self._con.execute("commit")
            begin(self)
    module._Run._begin = early
    around(Loader, "_stream", before=False)
progress = die if where == "after the commit" else None
print("started", flush=True)
module.ingest(Warehouse(load_settings(settle_seconds=0)), as_of=datetime(2026, 3, 1, tzinfo=UTC), progress=progress)
"""

PLACES = (
    "after the first events", "after the careful look", "before the ledger", "after the ledger", "after the commit",
)  # fmt: skip


def _environment(home: Path) -> dict[str, str]:
    return os.environ | {"SEGUE_HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def _fill(write, message, *, files: int, per_file: int) -> tuple[int, int]:
    """Files of good, repeated and broken messages; returns how many lines there are and how many distinct good ones."""
    for number in range(files):
        lines = [message(number * per_file + n) for n in range(per_file)]
        broken = message(number, sentAt="never")
        write(f"{number:02d}.ndjson", [*lines, lines[0], message(0), broken, "{"])
    return files * (per_file + 4), files * per_file


def _check(warehouse, query, lines: int, events: int) -> None:
    with warehouse.read() as con:
        books = accounting(con)
    assert books.holds, books.problems
    assert (books.read, books.loaded) == (lines, events)
    assert query("select count(*), count(distinct message_id) from raw.events") == [(events, events)]
    assert (
        query("select count(*), count(distinct file) from raw.loads")[0][0]
        == query("select count(distinct file) from raw.loads")[0][0]
    )


@pytest.mark.parametrize("place", PLACES)
def test_killed_between_two_writes_nothing_is_lost_or_doubled(
    warehouse, settings, message, write, query, as_of, place
) -> None:
    lines, events = _fill(write, message, files=3, per_file=50)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, place], env=_environment(settings.home), capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    committed = place == "after the commit"
    if committed:
        assert query("select count(*) from raw.events") == [(events,)]
    report = ingest(warehouse, as_of=as_of)
    assert report.loaded == (0 if committed else events)
    _check(warehouse, query, lines, events)


def test_a_ledger_that_is_written_before_the_events_is_caught(
    warehouse, settings, message, write, query, as_of
) -> None:
    lines, events = _fill(write, message, files=3, per_file=50)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "the ledger before the events"],
        env=_environment(settings.home), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert ingest(warehouse, as_of=as_of).loaded == 0
    with pytest.raises(AssertionError):
        _check(warehouse, query, lines, events)


def test_killed_at_random_moments_each_file_is_read_once(
    warehouse, settings, message, write, query, as_of, monkeypatch
) -> None:
    lines, events = _fill(write, message, files=12, per_file=300)
    rng = random.Random(7)
    # A small buffer makes a transaction of every few files.
    program = PROGRAM.replace("print(", "module.CHUNK_BYTES = 1 << 18\nprint(", 1)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=_environment(settings.home), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.2, 1.6))
        process.kill()
        process.wait()
        process.stdout.close()
    ingest(warehouse, as_of=as_of)
    _check(warehouse, query, lines, events)


def test_a_full_disk_is_told_and_the_next_run_does_the_rest(warehouse, settings, message, write, query, as_of) -> None:
    for number in range(3):
        write(
            f"{number}.ndjson",
            [message(number * 3000 + n, properties={"feature": os.urandom(200).hex()}) for n in range(3000)],
        )
    with warehouse.write("make the tables") as con:
        con.execute("create schema if not exists raw")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
    try:
        with pytest.raises(WarehouseError, match="is full") as caught:
            ingest(warehouse, as_of=as_of)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free space" in str(caught.value)
    assert ingest(warehouse, as_of=as_of).loaded == 9000
    _check(warehouse, query, 9000, 9000)


def test_what_sqlite_says_when_the_disk_is_full_has_the_fix_too(warehouse, message, write, as_of, monkeypatch) -> None:
    """Its log has no place beside the catalog: it says no more than that writing failed."""
    write("0.ndjson", [message(0)])
    failed = duckdb.IOException('Failed to execute query "COMMIT": disk I/O error')
    monkeypatch.setattr(sys.modules[ingest.__module__]._Run, "groups", Mock(side_effect=failed))
    with pytest.raises(WarehouseError, match="is full: Failed to execute") as caught:
        ingest(warehouse, as_of=as_of)
    assert "free space" in str(caught.value)


def test_without_space_for_a_single_byte_the_fix_is_said_by_readers_and_writers(
    warehouse, message, write, query, as_of
) -> None:
    write("0.ndjson", [message(0)])
    assert ingest(warehouse, as_of=as_of).loaded == 1
    path = write("1.ndjson", [message(1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        for attempt in (warehouse.connect, lambda: ingest(warehouse, [path], as_of=as_of)):
            with pytest.raises(WarehouseError, match="free space"):
                attempt()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ingest(warehouse, as_of=as_of).loaded == 1


def test_two_at_once_do_not_read_a_file_twice(warehouse, settings, message, write, query) -> None:
    lines, events = _fill(write, message, files=4, per_file=100)
    command = [sys.executable, "-c", PROGRAM]
    both = [
        subprocess.Popen(command, env=_environment(settings.home), stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in both:
        _, error = process.communicate()
        assert process.returncode == 0, error
    _check(warehouse, query, lines, events)
    assert json.loads(query("select to_json(count(*)) from raw.loads")[0][0]) == 4
