"""NDJSON into deduplicated, checked `raw.events`, against a bare DuckDB `read_json` + `COPY` to Parquet.

The events are made here: eight kinds of message of a web shop, about 850 bytes each, 1 % duplicates, 0.5 % that
break their contract. Both sides read the same files in the same run, each in a process of its own, in turns, and
the median of the turns' ratios counts. Memory is the peak of the ingest process at two sizes, ten-fold apart
(four-fold with --quick). Then a day's load is timed on an empty warehouse and on one with a year of history.

    python -m benchmarks.ingest [--quick] [--events N]
"""

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from benchmarks._report import report
from segue.events import accounting, ensure_tables, ingest
from segue.settings import Settings
from segue.warehouse import Warehouse

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
FILE_EVENTS = 250_000

GENERATE = """
copy (
    with numbered as (
        -- Every hundredth message is the one before it, sent again.
        select range - (range % 100 = 99)::int as i, range as n from range($from, $to)
    ),
    clocked as (
        select *, timestamp '2026-01-01' + i * interval 400 millisecond as happened, i % 1000 as product, hash(i) as h
        from numbered
    )
    select
        case i % 8 when 6 then 'page' when 7 then 'identify' else 'track' end as type,
        ['Product Viewed', 'Product Added', 'Search Performed', 'Order Completed', 'Signed In', 'Product Viewed'][
            1 + i % 8
        ] as event,
        case when i % 8 = 6 then 'Home' end as name,
        'm-' || lpad(h::varchar, 20, '0') || '-' || i as "messageId",
        case when i % 3 > 0 then 'user-' || (h % 50000) end as "userId",
        'anonymous-' || lpad((h % 70000)::varchar, 26, '0') as "anonymousId",
        strftime(happened, '%Y-%m-%dT%H:%M:%S.%gZ') as "originalTimestamp",
        strftime(happened + interval 1 second, '%Y-%m-%dT%H:%M:%S.%gZ') as "sentAt",
        strftime(happened + interval 2 second, '%Y-%m-%dT%H:%M:%S.%gZ') as "receivedAt",
        strftime(happened + interval 1 second, '%Y-%m-%dT%H:%M:%S.%gZ') as "timestamp",
        case when i % 8 = 7 then null else json_object(
            'product_id', 'p-' || product, 'category', ['books', 'toys', 'music'][1 + product % 3],
            'price', case when i % 200 = 33 then to_json('a lot') else to_json(product / 100) end,
            'quantity', 1 + i % 3, 'query', 'red shoes', 'result_count', product, 'order_id', 'o-' || i,
            'revenue', product / 10, 'currency', 'USD', 'product_count', 2, 'method', 'email', 'path', '/p/' || product
        ) end as properties,
        case when i % 8 = 7 then
            json_object('email', 'user' || (h % 50000) || '@example.com', 'plan', 'free')
        end as traits,
        {
            'library': {'name': 'analytics.js', 'version': '2.1.0'},
            'device': {'id': lpad((h % 90000)::varchar, 32, 'd'), 'type': 'mobile', 'model': 'Pixel 8'},
            'os': {'name': 'Android', 'version': '15'}, 'locale': 'en-US', 'timezone': 'Europe/Berlin',
            'ip': '192.0.2.' || (h % 250), 'campaign': {'source': 'newsletter', 'medium': 'email', 'name': 'spring'},
            'page': {'path': '/p/' || product, 'url': 'https://shop.example/p/' || product, 'referrer': ''},
            'location': {'country': 'DE'},
            'consent': {'categoryPreferences': {'analytics': true, 'marketing': false, 'functional': true}}
        } as context,
        {'All': true} as integrations
    from clocked order by n
) to '$file' (format json)
"""


def _generate(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    with duckdb.connect(":memory:") as con:
        for number, start in enumerate(range(0, count, FILE_EVENTS)):
            statement = GENERATE.replace("$from", str(start)).replace("$to", str(min(start + FILE_EVENTS, count)))
            con.execute(statement.replace("$file", str(folder / f"part-{number:05d}.ndjson")))


def _settings(home: Path) -> Settings:
    return Settings(home=home, settle_seconds=0, _env_file=None)  # type: ignore[call-arg]


def _ours(folder: Path, home: Path) -> dict[str, float]:
    result = ingest(Warehouse(_settings(home)), [folder], as_of=AS_OF)
    with Warehouse(_settings(home)).read() as con:
        books = accounting(con)
    assert books.holds, books.problems
    return {
        "read": result.read,
        "loaded": result.loaded,
        "duplicates": result.duplicates,
        "broken": result.quarantined_count,
    }


def _bare(folder: Path, home: Path) -> dict[str, float]:
    home.mkdir(parents=True)
    with duckdb.connect(":memory:") as con:
        con.execute(f"copy (from read_json('{folder}/*.ndjson')) to '{home}/events.parquet'")
    return {}


def _in_process(what: str, folder: Path, home: Path) -> dict[str, float]:
    """Run one side in a process of its own: seconds, peak memory in MB, and what it counted."""
    shutil.rmtree(home, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.ingest", "--side", what, "--folder", str(folder), "--home", str(home)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def _side(what: str, folder: Path, home: Path) -> None:
    started, cpu = time.perf_counter(), time.process_time()
    counts = (_ours if what == "ours" else _bare)(folder, home)
    counts |= {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    counts["peak_mb"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps(counts))


def _day_on_history(base: Path, days: int, per_day: int) -> float:
    """Seconds for a day's file on a warehouse that has `days` of history, without the start of the connection."""
    home = base / f"history-{days}"
    warehouse = Warehouse(_settings(home))
    with warehouse.writer("history") as con:
        ensure_tables(con)
        for first in range(0, days, 30):  # a month in a file, as maintenance leaves it
            con.execute(
                "insert into raw.events "
                "(message_id, type, event, user_id, timestamp, received_at, load_id, message_hash) "
                "select 'old-' || range, 'track', 'Product Viewed', 'user-' || range % 50000, timestamp '2025-01-01' + "
                "range * interval 1 second, timestamp '2025-01-01' + range * interval 1 second, -1, "
                "md5_number_lower('old-' || range) from range($1, $2)",
                [first * per_day, min(first + 30, days) * per_day],
            )
    best = float("inf")
    for turn in range(3):  # the first one also loads code
        folder = base / f"day-{days}-{turn}"
        folder.mkdir()
        with duckdb.connect(":memory:") as con:
            start = turn * per_day
            statement = GENERATE.replace("$from", str(start)).replace("$to", str(start + per_day))
            con.execute(statement.replace("$file", str(folder / "day.ndjson")))
        started = time.perf_counter()
        ingest(warehouse, [folder], as_of=AS_OF)
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="150,000 events instead of 5 million")
    parser.add_argument("--events", type=int, help="how many events")
    parser.add_argument("--side", choices=["ours", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        _side(arguments.side, arguments.folder, arguments.home)
        return
    count = arguments.events or (150_000 if arguments.quick else 5_000_000)
    turns = 3
    # Asked to stop, the gigabytes are still removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    base = Path(tempfile.mkdtemp(prefix="ingest-"))
    try:
        folder = base / "large"
        _generate(folder, count)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{count:,} events, {size / 1e6:,.0f} MB of NDJSON", flush=True)
        small = base / "small"
        few = count // (4 if arguments.quick else 10)
        _generate(small, few)
        memory_small = _in_process("ours", small, base / "home")["peak_mb"]
        ours, bare = [], []
        for turn in range(turns):
            ours.append(_in_process("ours", folder, base / "home"))
            bare.append(_in_process("bare", folder, base / "home"))
            print(
                f"turn {turn + 1}: ours {ours[-1]['seconds']:.1f} s ({ours[-1]['cpu_seconds']:.1f} s of processor), "
                f"bare {bare[-1]['seconds']:.1f} s ({bare[-1]['cpu_seconds']:.1f} s)",
                flush=True,
            )
        ratios = sorted(mine["seconds"] / theirs["seconds"] for mine, theirs in zip(ours, bare, strict=True))
        mine, theirs = (statistics.median(one["seconds"] for one in side) for side in (ours, bare))
        memory = max(one["peak_mb"] for one in ours)
        per_day = 5_000 if arguments.quick else 50_000
        first, year = _day_on_history(base, 0, per_day), _day_on_history(base, 365, per_day)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    one = ours[0]
    print(
        f"read {one['read']:,} = {one['loaded']:,} loaded + {one['duplicates']:,} duplicates "
        f"+ {one['broken']:,} quarantined"
    )
    print(f"median: {count / mine:,.0f} events/s, bare {count / theirs:,.0f} events/s")
    print(f"peak memory: {memory_small:,.0f} MB at {few:,} events, {memory:,.0f} MB at {count:,}")
    print(f"a day of {per_day:,} events: {first:.2f} s on no history, {year:.2f} s on 365 days of it")
    figure = statistics.median(ratios)
    report(
        "ingest",
        figure=figure,
        unit="times the seconds of bare DuckDB",
        against=f"read_json + COPY to Parquet: {theirs:.1f} s, ours {mine:.1f} s, {count:,} events",
        goal="<= 2, flat memory",
        holds=figure <= 2 and memory <= 1.5 * memory_small,
        cpu_ratio=round(min(one["cpu_seconds"] for one in ours) / min(one["cpu_seconds"] for one in bare), 3),
        peak_mb=round(memory),
        peak_mb_small=round(memory_small),
        peak_mb_bare=round(max(one["peak_mb"] for one in bare)),
        day_seconds=round(first, 3),
        day_seconds_after_a_year=round(year, 3),
    )


if __name__ == "__main__":
    main()
