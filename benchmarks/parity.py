"""Does real time agree with the warehouse? The engine's memberships against the same models run for everyone.

A shop's events with late arrivals, duplicates, sign-ins that join profiles and a month of time (--quick: two days) go
through the engine in batches of random sizes; at several times all memberships are compared. The figure is the number
of people who differ at any of them, and must be 0.

    python -m benchmarks.parity [--quick] [--events N] [--seed N]
"""

import argparse
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks._report import report
from benchmarks._shop import shop_events
from benchmarks._truth import evaluator, members_at
from segue.clock import to_warehouse
from segue.models import Evaluator, Project, prepare
from segue.models.check import empty_lake
from segue.realtime import Engine
from segue.settings import Settings

FIRST = datetime(2026, 1, 1)  # noqa: DTZ001 — naive UTC, as in the warehouse
HORIZON = 6 * 3600
CHECKS = 4


def _stream(count: int, people: int, seed: int, days: int) -> pa.Table:
    """Messages in the order in which they were received; one in twenty late, one in fifty twice.

    They come on the hour, so that what time changes later changes at few different seconds: each of them is searched
    for, and a month of search would measure the patience of the reader. The tests have times of all kinds.
    """
    made = shop_events(people=people, count=count, first=FIRST, last=FIRST + timedelta(days=days), seed=seed)
    con = empty_lake()
    con.register("made", made)
    found = con.execute(
        """
        with hourly as (
            select * replace (
                date_trunc('hour', timestamp) as timestamp, date_trunc('hour', received_at) as received_at
            ) from made
        ),
        arrived as (
            select * replace (
                received_at + case when hash(message_id) % 20 = 0
                    then to_hours((hash(message_id) // 20 % 72)::bigint) else interval 2 second end as received_at
            ) from hourly
        ),
        twice as (
            select * from arrived union all
            select * replace (received_at + interval 90 second as received_at) from arrived
            where hash(message_id) % 50 = 0
        )
        select * replace (row_number() over (order by received_at, message_id) as load_id) from twice
        order by received_at, message_id
        """
    ).to_arrow_table()
    con.close()
    return found.combine_chunks()


def _pass_time(engine: Engine, until: datetime) -> None:
    """Do what has to be done by a time, when it has to be done."""
    while True:
        while engine.look_ahead(engine.as_of, limit=5_000):
            pass
        while engine.has_big:
            engine.big(engine.as_of)
        moments = [m for m in (engine.next_due, engine.next_look) if m is not None and m <= until]
        if not moments:
            return
        now = max(engine.as_of, min(moments))
        while engine.due(now) is not None:
            pass
        if now == engine.as_of and not engine.look_ahead(now, limit=5_000):
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--events", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    count = options.events or (8_000 if options.quick else 1_000_000)
    people = max(100, count // 60)
    started = time.monotonic()
    stream = _stream(count, people, options.seed, 2 if options.quick else 30)
    end = pc.max(stream["received_at"]).as_py()
    with tempfile.TemporaryDirectory() as folder:
        project = prepare(Settings(home=Path(folder), _env_file=None))  # type: ignore[call-arg]
        lake = empty_lake()
        lake.execute("create schema raw")
        lake.register("arriving", stream)
        lake.execute(
            "create table raw.events as from arriving"
            " qualify row_number() over (partition by message_id order by received_at) = 1"
        )
        until = end.replace(tzinfo=UTC) + timedelta(hours=1)
        everyone = evaluator(project, lake, until=until)
        engine = Engine(project, horizon_seconds=HORIZON)
        different, compared, largest = _run(project, engine, everyone, stream, options.seed)
        everyone.close()
    report(
        "parity",
        figure=different,
        unit="people who differ",
        against="the same models run for everyone",
        goal="0",
        holds=different == 0,
        events=stream.num_rows,
        memberships_compared=compared,
        people=largest,
        only_the_sweep_caught=engine.caught_by_sweep,
        seconds=round(time.monotonic() - started, 1),
    )


def _run(project: Project, engine: Engine, everyone: Evaluator, stream: pa.Table, seed: int) -> tuple[int, int, int]:
    """People who differed, memberships compared, people at the last check."""
    draw = random.Random(seed)
    received = stream["received_at"].cast(pa.int64()).to_numpy()
    chosen = sorted(draw.randrange(stream.num_rows // 4, stream.num_rows) for _ in range(CHECKS - 1))
    # A check is a second after a message: everything that was received by then comes before it.
    checks = [int(np.searchsorted(received, received[at] + 1_000_000, side="right")) for at in chosen]
    checks.append(stream.num_rows)
    # Batches of one event cost as much as of a hundred: a few of them, and ever larger ones.
    sizes = (1, 10, 300, max(1_000, stream.num_rows // 60))
    at = different = compared = largest = 0
    for check in checks:
        while at < check:
            size = min(draw.choice(sizes), check - at)
            part = stream.slice(at, size)
            at += size
            moment = part["received_at"][-1].as_py().replace(tzinfo=UTC)
            _pass_time(engine, moment - timedelta(seconds=1))
            engine.batch(part, max(moment, engine.as_of))
        moment = engine.as_of.replace(microsecond=0) + timedelta(seconds=1)
        _pass_time(engine, moment)
        while engine.due(moment) is not None:
            pass
        mine, theirs = engine.memberships(), members_at(project, everyone, moment)
        wrong = [person for person in mine.keys() | theirs.keys() if mine.get(person) != theirs.get(person)]
        different += len(wrong)
        for person in sorted(wrong)[:3]:
            print(f"  {person}: {mine.get(person)} here, {theirs.get(person)} there", flush=True)
        compared += sum(map(len, theirs.values()))
        largest = len(theirs)
        print(f"{at:,} events, {to_warehouse(moment)}: {len(wrong)} of {largest:,} people differ", flush=True)
    return different, compared, largest


if __name__ == "__main__":
    main()
