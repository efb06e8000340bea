"""How fast a backlog is worked off: a million events in the log, through the engine, into the serving store.

`segue realtime` runs over a history of 5 million events of 100,000 people. The engine is stopped (SIGSTOP), a million
events of these people (--quick: 50,000 of 2,000) are appended to the log as the collector writes them, the engine goes
on, and the time is taken until the store has the position of the last. Everything else runs too, and the landing
writer reads the same backlog at the same time. Against it: a bare reader of the log that judges the same messages by
the spec and the contracts, and does no more.

    python -m benchmarks.drain [--quick] [--events N] [--people N] [--history N]
"""

import argparse
import asyncio
import os
import random
import signal
import time
from datetime import UTC, datetime

import orjson

from benchmarks._home import home, real_time
from benchmarks._report import report
from benchmarks.latency import message
from segue.clock import system_time
from segue.log import Log, open_log
from segue.realtime import ContractJudge
from segue.realtime.intake import BATCH_BYTES
from segue.settings import Settings
from segue.store import open_store

GOAL = 50_000
_PER_ENTRY = 1_000


def lines(start: int, count: int, people: int, draw: random.Random) -> bytes:
    """Messages as the collector stamps them."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return b"".join(
        orjson.dumps(
            message(draw.randrange(people), f"drain-{number}", now, draw) | {"receivedAt": now, "sentAt": now},
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for number in range(start, start + count)
    )


async def fill(log: Log, count: int, people: int) -> None:
    """Append so many events."""
    draw = random.Random(2)
    for start in range(0, count, _PER_ENTRY):
        await log.append([lines(start, min(_PER_ENTRY, count - start), people, draw)])


def bare(settings: Settings, after: str, last: str) -> float:
    """Seconds to read and judge what was appended."""
    log, judge = open_log(settings), ContractJudge(settings, system_time)
    started = time.monotonic()
    while after < last:
        entries = log.read(after, limit_bytes=BATCH_BYTES, wait_seconds=1.0)
        judge(b"".join(entry.payload for entry in entries))
        after = entries[-1].position
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--events", type=int)
    parser.add_argument("--people", type=int)
    parser.add_argument("--history", type=int)
    options = parser.parse_args()
    count = options.events or (50_000 if options.quick else 1_000_000)
    people = options.people or (2_000 if options.quick else 100_000)
    history = options.history or (50_000 if options.quick else 5_000_000)
    with home(people=people, events=history) as settings, real_time(settings, SEGUE_LANDING_SECONDS="600") as world:
        world.wait_until("everybody is evaluated", world.is_ready)
        log, store = open_log(settings), open_store(settings)
        first, engine = log.status().newest, world.state()["engine"]["pid"]
        os.kill(engine, signal.SIGSTOP)
        try:
            asyncio.run(fill(log, count, people))
            last = log.status().newest
            before = world.cpu_seconds()
        finally:
            os.kill(engine, signal.SIGCONT)
        started = time.monotonic()
        world.wait_until("the backlog is worked off", lambda: store.position() >= last)
        took = time.monotonic() - started
        used = {name: round(seconds - before[name], 1) for name, seconds in world.cpu_seconds().items()}
        print(f"{count:,} events in {took:.1f} s; seconds of processor: {used}", flush=True)
        floor = bare(settings, first, last)
    report(
        "drain",
        figure=count / took,
        unit="events/s through engine and store",
        against=f"{count / floor:,.0f} events/s read from the log and judged, on one core",
        goal=f"≥ {GOAL:,}",
        holds=count / took >= GOAL,
        events=count,
        people=people,
        events_of_history=history,
        events_per_engine_cpu_second=round(count / max(used["engine"], 0.1)),
        engine_cpu_seconds=used["engine"],
        store_cpu_seconds=used["valkey"],
    )


if __name__ == "__main__":
    main()
