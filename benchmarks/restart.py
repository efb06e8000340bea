"""How long it takes after kill -9 until the engine serves again, and how much memory it needs.

`segue realtime` runs over a history of 5 million events of 100,000 people (--quick: 2,000 people, 50,000 events). The
engine is killed, and at once the first event of a new user is sent: the figure is the time until this user's segments
are read over the API. In it are the lease of the dead engine, which must run out (15 s), the read of the history from
the warehouse, and all that is made of it in memory; evaluating everybody anew comes after it, between batches.
Against it: DuckDB reads the same columns of the same history into memory, and does nothing with them.

The bound is the lease plus a time that is linear in the history; memory is linear in it too.

    python -m benchmarks.restart [--quick]
"""

import argparse
import os
import signal
import time

import psutil

from benchmarks._home import home, real_time
from benchmarks._report import report
from benchmarks.latency import Connection, arrival_seconds, basic
from segue.clock import system_time
from segue.keys import READ, create_key
from segue.realtime.lease import LEASE_SECONDS
from segue.settings import Settings
from segue.warehouse import Warehouse

GOAL_SECONDS = 60.0
_COLUMNS = (
    "message_id, type, event, timestamp, received_at, user_id, anonymous_id, previous_id, properties, traits, context"
)


def bare_read(settings: Settings) -> float:
    """Seconds in which DuckDB has the history in memory."""
    started = time.monotonic()
    with Warehouse(settings).read() as con:
        con.execute(f"select {_COLUMNS} from raw.events").to_arrow_table()
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    people, events = (2_000, 50_000) if options.quick else (100_000, 5_000_000)
    with home(people=people, events=events) as settings:
        key = create_key(settings, "web", as_of=system_time())
        token = create_key(settings, "benchmark", as_of=system_time(), kind=READ)
        with real_time(settings, SEGUE_API_REQUESTS_PER_SECOND="100000") as world:
            first = world.wait_until("everybody is evaluated", world.is_ready)
            print(f"everybody is evaluated {first:.1f} s after the first start", flush=True)
            state = world.state()
            collector = Connection(state["collector"]["url"], basic(key))
            api = Connection(state["api"]["url"], f"Bearer {token}")
            victim = state["engine"]["pid"]
            os.kill(victim, signal.SIGKILL)
            down = arrival_seconds(collector, api, "after-the-kill", ask_seconds=0.05)
            print(f"serves again {down:.1f} s after kill -9", flush=True)
            again = world.wait_until("everybody is evaluated again", world.is_ready) + down
            engine = psutil.Process(world.state()["engine"]["pid"])
            memory, store = engine.memory_info().rss, psutil.Process(state["valkey"]["pid"]).memory_info().rss
        bare = bare_read(settings)
    report(
        "restart",
        figure=down,
        unit="s from kill -9 to a new user's segments",
        against=f"{bare:.1f} s for DuckDB to read the same history into memory",
        goal=f"< {GOAL_SECONDS:.0f}",
        holds=down < GOAL_SECONDS,
        lease_seconds=LEASE_SECONDS,
        seconds_without_lease=round(down - LEASE_SECONDS, 1),
        everybody_evaluated_seconds=round(again, 1),
        engine_mb=round(memory / 1e6),
        store_mb=round(store / 1e6),
        people=people,
        events_of_history=events,
    )


if __name__ == "__main__":
    main()
