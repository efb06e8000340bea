"""Readers while one writer writes, is killed and maintains: no wrong answer, no error, no lost commit.

One writer commits transactions over two tables that must agree (inserts, deletes, whole-table swaps as dbt does
them). It is killed with SIGKILL at random and started again; maintenance runs beside it with a retention of seconds.
Four readers in processes of their own (two connect afresh for each read, two hold a connection) check in each read
that the two tables agree and that time never goes backwards. The alternative in the same run is a plain DuckDB file
that the writer publishes as a copy (`cp`, fsync, rename) after each commit.

    python -m benchmarks.readers [--quick] [--seconds N] [--keep]
"""

import argparse
import json
import math
import multiprocessing as mp
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from benchmarks._report import report
from segue.clock import system_time
from segue.settings import Settings
from segue.warehouse import Warehouse, maintain

CHECK = """
select t.batch, t.item_count = i.item_count and t.item_sum = i.item_sum and t.batch = i.batch
from soak.totals as t,
     (select count(*) as item_count, coalesce(sum(value), 0) as item_sum, max(batch) as batch from soak.items) as i
"""


def _warehouse(home: Path) -> Warehouse:
    return Warehouse(Settings(home=home, snapshot_hours=1, _env_file=None))  # type: ignore[call-arg]


def _create(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("create schema if not exists soak")
    con.execute("create table soak.items as select 0::bigint as batch, 0::bigint as value")
    con.execute(
        "create table soak.totals as select 0::bigint as batch, 1::bigint as item_count, 0::hugeint as item_sum"
    )


def _step(con: duckdb.DuckDBPyConnection, rng: random.Random) -> int:
    """One transaction; returns the batch it makes."""
    con.execute("begin")
    row = con.execute("select batch from soak.totals").fetchone()
    assert row is not None
    batch = int(row[0]) + 1
    con.execute("insert into soak.items select $1, range from range($2)", [batch, rng.randint(1, 2000)])
    if batch % 4 == 0:  # a delete, so that files of deletions are read too
        con.execute("delete from soak.items where batch < $1 and value % 3 = $2", [batch, batch % 3])
    if batch % 10 == 0:  # the swap that dbt does
        con.execute("create table soak.items_new as select * from soak.items where batch > $1", [batch - 50])
        con.execute("alter table soak.items rename to items_old")
        con.execute("alter table soak.items_new rename to items")
        con.execute("drop table soak.items_old")
    con.execute(
        "update soak.totals set batch = $1, "
        "item_count = (select count(*) from soak.items), item_sum = (select coalesce(sum(value), 0) from soak.items)",
        [batch],
    )
    con.execute("commit")
    return batch


def _acknowledge(path: Path, batch: int) -> None:
    with path.open("a") as file:
        file.write(f"{batch} {time.time()}\n")
        file.flush()
        os.fsync(file.fileno())


def _lake_writer(home: Path, seed: int) -> None:
    rng = random.Random(seed)
    while True:
        with _warehouse(home).writer("soak") as con:
            for _ in range(8):
                _acknowledge(home / "acknowledged", _step(con, rng))
        time.sleep(0.02)  # the lock is not fair; let maintenance in


def _lake_maintenance(home: Path) -> None:
    while True:
        # Retention of the settings is at least an hour; a clock ahead makes it 20 seconds.
        maintain(_warehouse(home), as_of=system_time() + timedelta(hours=1, seconds=-20))
        time.sleep(1.0)


def _lake_reader(home: Path, held: bool) -> Callable[[], Any]:
    warehouse = _warehouse(home)
    if not held:

        def fresh() -> Any:
            with warehouse.read() as con:
                return con.execute(CHECK).fetchone()

        return fresh
    con = warehouse.connect()

    def again() -> Any:
        con.execute("begin")
        row = con.execute(CHECK).fetchone()
        con.execute("commit")
        return row

    return again


def _file_writer(home: Path, seed: int) -> None:
    rng = random.Random(seed)
    with duckdb.connect(str(home / "plain.duckdb")) as con:
        while True:
            batch = _step(con, rng)
            con.execute("checkpoint")
            copy = home / "copy.tmp"
            shutil.copyfile(home / "plain.duckdb", copy)
            with copy.open("rb+") as file:
                os.fsync(file.fileno())
            copy.replace(home / "published.duckdb")
            _acknowledge(home / "acknowledged", batch)


def _file_reader(home: Path, held: bool) -> Callable[[], Any]:
    # A held connection would keep reading the replaced copy for ever, so both kinds open the newest one.
    def read() -> Any:
        with duckdb.connect(str(home / "published.duckdb"), read_only=True) as con:
            return con.execute(CHECK).fetchone()

    return read


def _read_on(make: Callable[[Path, bool], Callable[[], Any]], home: Path, held: bool, name: str, until: Any) -> None:
    """Read until the time (a shared value) is over; write what was seen as JSON."""
    seen: dict[str, Any] = {"held": held, "wrong": [], "errors": [], "waits": [], "reads": []}
    read = make(home, held)
    newest = -1
    while time.time() < until.value:
        started, began_at = time.perf_counter(), time.time()
        try:
            batch, agrees = read()
        except Exception as error:
            seen["errors"].append(repr(error)[:300])
            read = make(home, held)
            continue
        seen["waits"].append(time.perf_counter() - started)
        seen["reads"].append((began_at, batch))
        if not agrees:
            seen["wrong"].append(f"the tables disagree at batch {batch}")
        if batch < newest:
            seen["wrong"].append(f"time went back from {newest} to {batch}")
        newest = max(newest, batch)
    (home / f"seen-{name}.json").write_text(json.dumps(seen))


def _soak(
    home: Path,
    seconds: float,
    *,
    writer: Callable[[Path, int], None],
    reader: Callable[[Path, bool], Callable[[], Any]],
    maintenance: Callable[[Path], None] | None,
    kill: bool,
    seed: int,
) -> dict[str, Any]:
    context = mp.get_context("spawn")
    rng = random.Random(seed)
    shared_until = context.Value("d", math.inf)
    readers = [
        context.Process(target=_read_on, args=(reader, home, held, f"{number}", shared_until))
        for number, held in enumerate([True, True, False, False])
    ]
    for process in readers:
        process.start()
    kills = 0
    log = home / "acknowledged"
    log.touch()
    writing = context.Process(target=writer, args=(home, seed), daemon=True)
    maintaining = context.Process(target=maintenance, args=(home,), daemon=True) if maintenance else None
    writing.start()
    if maintaining:
        maintaining.start()
    # The clock starts with the first commit: starting processes is not what is measured.
    while not log.stat().st_size:
        time.sleep(0.02)
    until = time.time() + seconds
    shared_until.value = until
    while time.time() < until:
        # Let each writer commit before it is killed, however slowly its process starts.
        before = log.stat().st_size
        while log.stat().st_size == before and time.time() < until:
            time.sleep(0.02)
        time.sleep(min(rng.uniform(0.0, 3.0), max(0.0, until - time.time())))
        if not kill or time.time() >= until:
            continue
        assert writing.pid is not None
        os.kill(writing.pid, signal.SIGKILL)
        writing.join()
        kills += 1
        if maintenance and maintaining and rng.random() < 0.5:
            assert maintaining.pid is not None
            os.kill(maintaining.pid, signal.SIGKILL)
            maintaining.join()
            kills += 1
            maintaining = context.Process(target=maintenance, args=(home,), daemon=True)
            maintaining.start()
        writing = context.Process(target=writer, args=(home, seed + kills), daemon=True)
        writing.start()
    for process in (writing, maintaining):
        if process:
            process.kill()
            process.join()
    for process in readers:
        process.join()
    acknowledged = {int(batch): float(at) for batch, at in (line.split() for line in log.read_text().splitlines())}
    row = reader(home, False)()
    seen = [json.loads(path.read_text()) for path in home.glob("seen-*.json")]
    waits = sorted(wait for one in seen for wait in one["waits"])
    # How long a newer commit had been acknowledged when a read began that did not show it.
    behind = [
        max(0.0, began_at - acknowledged.get(batch + 1, began_at)) for one in seen for began_at, batch in one["reads"]
    ]
    held_waits = sorted(wait for one in seen if one["held"] for wait in one["waits"])
    # The newest commit may have been killed before it was acknowledged; an acknowledged one must be there.
    return {
        "reads": len(waits),
        "commits": len(acknowledged),
        "kills": kills,
        "wrong": [text for one in seen for text in one["wrong"]] + ([] if row[1] else ["the last state disagrees"]),
        "errors": [text for one in seen for text in one["errors"]],
        "lost": sum(1 for batch in acknowledged if batch > row[0]),
        "p50": statistics.median(waits),
        "p99": waits[int(len(waits) * 0.99)],
        "held_p99": held_waits[int(len(held_waits) * 0.99)],
        "behind": max(behind),
    }


def _show(name: str, result: dict[str, Any]) -> None:
    print(
        f"{name}: {result['reads']} reads, {result['commits']} commits, {result['kills']} kills | "
        f"wrong {len(result['wrong'])}, errors {len(result['errors'])}, lost {result['lost']} | read p50 "
        f"{result['p50']:.3f} s, p99 {result['p99']:.3f} s (held p99 {result['held_p99']:.3f} s), "
        f"never more than {result['behind']:.2f} s behind"
    )
    for text in [*result["wrong"], *result["errors"]][:5]:
        print("   ", text)


def run(seconds: float, *, seed: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Soak the warehouse, then the copied file, for `seconds` each."""
    base = Path(tempfile.mkdtemp(prefix="readers-"))
    try:
        lake, plain = base / "lake", base / "plain"
        lake.mkdir()
        plain.mkdir()
        with _warehouse(lake).write("soak") as con:
            _create(con)
        ours = _soak(
            lake, seconds, writer=_lake_writer, reader=_lake_reader, maintenance=_lake_maintenance, kill=True, seed=seed
        )
        with duckdb.connect(str(plain / "plain.duckdb")) as con:
            _create(con)
        shutil.copyfile(plain / "plain.duckdb", plain / "published.duckdb")
        theirs = _soak(
            plain, seconds, writer=_file_writer, reader=_file_reader, maintenance=None, kill=False, seed=seed
        )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 seconds of each instead of 180")
    parser.add_argument("--seconds", type=float, help="how long each of the two is soaked")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    ours, theirs = run(arguments.seconds or (20 if arguments.quick else 180), seed=arguments.seed)
    _show("warehouse", ours)
    _show("copied file", theirs)
    bad = len(ours["wrong"]) + len(ours["errors"]) + ours["lost"]
    report(
        "readers",
        figure=bad,
        unit="wrong answers, errors and lost commits",
        against=f"copied file: {len(theirs['wrong']) + len(theirs['errors']) + theirs['lost']}",
        goal="0",
        holds=bad == 0,
        read_p99_seconds=round(ours["p99"], 4),
        read_p99_seconds_copied_file=round(theirs["p99"], 4),
        reads=ours["reads"],
        kills=ours["kills"],
    )
    sys.exit(0 if bad == 0 else 1)


if __name__ == "__main__":
    main()
