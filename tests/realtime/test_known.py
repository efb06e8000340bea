"""Which messages the store stands for, wherever each of them is at the moment."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import zstandard

from segue.realtime.known import known_messages
from segue.settings import Settings
from segue.warehouse import Warehouse
from tests.realtime.fakes import FakeLog, judge
from tests.realtime.test_service import fill_warehouse, track
from tests.realtime.world import START, raw_events


def message(number: int, load: int = 0) -> dict[str, Any]:
    return track(number, START + timedelta(seconds=number), user_id="u1", load_id=load)


def file_of(settings: Settings, name: str, numbers: Sequence[int]) -> None:
    path = settings.landing_zone / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(message(n), default=lambda t: t.isoformat()) + "\n" for n in numbers)
    path.write_bytes(zstandard.compress(lines.encode()))


def test_each_message_counts_by_how_it_came_and_not_by_where_it_is(settings: Settings) -> None:
    log = FakeLog()
    for n in range(10):  # entry 000001 holds message 0, and so on
        log.put([message(n)])
    log.entries = log.entries[4:]  # trimmed
    log.commits["landing"] = "000004"
    position, load = "000006", 7
    # Loads: 7 is known to the engine; 8 came by the log, half of it after the position; 9 is an import.
    old = [message(100, load=7)]
    by_log = [message(4, load=8), message(6, load=8), message(8, load=8)]
    imported = [message(200, load=9), message(7, load=9)]  # 7 came by the log too, and was not read yet
    fill_warehouse(settings, raw_events([*old, *by_log, *imported]))
    with Warehouse(settings).write("test") as con:
        for number, file in ((8, "collected/d/000002_000009.ndjson.zst"), (9, "orders.ndjson")):
            con.execute("insert into raw.loads (load_id, file, file_size) values ($1, $2, 1)", [number, file])
    file_of(settings, "collected/d/0000-start_000002.ndjson.zst", [0, 1])
    file_of(settings, "collected/d/000002_000008.ndjson.zst", [2, 3, 5, 6, 7])
    file_of(settings, "collected/d/000006_000010.ndjson.zst", [6, 9])
    file_of(settings, "dropped.ndjson.zst", [300, 5])
    with Warehouse(settings).read() as con:
        known = known_messages(con, settings, log, judge, position=position, load_id=load)
        rows = con.execute(f"select message_id from ({known.query(con)}) order by all").fetchall()
        widest = con.execute(f"select message_id from ({known.widest(con)}) order by all").fetchall()
        assert known.counts(con) == (2, 5)
    assert [int(m[1:]) for (m,) in rows] == sorted([100, 0, 1, 2, 3, 4, 5], key=str)
    assert [int(m[1:]) for (m,) in widest] == sorted([100, 0, 1, 2, 3, 4, 5, 200, 300], key=str)
    assert len(known.left_out) == 4
    assert not known.is_all_landed


def test_before_the_first_ingest_there_is_only_the_log(settings: Settings) -> None:
    log = FakeLog()
    log.put([message(1)])
    log.put([message(2)])
    with Warehouse(settings).read() as con:
        known = known_messages(con, settings, log, judge, position="000001", load_id=-1)
        assert con.execute(f"select message_id from ({known.query(con)})").fetchall() == [("m1",)]
        assert known.counts(con) == (0, 1)


def test_nothing_is_left_out_when_all_was_read_and_landed(settings: Settings) -> None:
    fill_warehouse(settings, raw_events([message(1, load=1), message(2, load=2)]))
    with Warehouse(settings).read() as con:
        known = known_messages(con, settings, FakeLog(), judge, position="", load_id=2)
        assert known.is_all_landed
        assert con.execute(f"select count(*) from ({known.query(con)})").fetchone() == (2,)
        early = known_messages(con, settings, FakeLog(), judge, position="", load_id=1)
        assert con.execute(f"select message_id from ({early.query(con)})").fetchall() == [("m1",)]
