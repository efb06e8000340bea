"""What comes into the warehouse is handed over in pieces, and a load counts as known with its last one only."""

import duckdb
import pyarrow as pa
import pytest

from segue.events import ensure_tables
from segue.realtime.landed import Watch
from segue.realtime.start import News, Sources
from segue.warehouse import Connection, Warehouse
from tests.realtime.fakes import FakeLog, judge
from tests.realtime.world import START, raw_events


class Loads:
    """Sources with one new load, and a table that has changed since it was read."""

    load_id = 7

    def news(self) -> News:
        if self.load_id == 8:
            return News(None, held_is_old=True, decisions=None)
        self.load_id = 8
        fresh = pa.table({"message_id": [f"m{n}" for n in range(5_000)]})
        return News(fresh, held_is_old=True, decisions=None)


def test_a_load_is_known_with_its_last_piece() -> None:
    watch = Watch(Loads())  # type: ignore[arg-type]
    watch.look()
    found = []
    while (piece := watch.take()) is not None:
        found.append(piece)
    assert [piece.load_id for piece in found] == [7, 7, 7, 8]
    assert [piece.held_is_old for piece in found] == [False, False, False, True]
    messages = [
        one for piece in found if piece.messages is not None for one in piece.messages["message_id"].to_pylist()
    ]
    assert messages == [f"m{n}" for n in range(5_000)]
    assert not watch.has_some


def test_what_waits_is_forgotten_when_the_history_is_loaded_anew() -> None:
    watch = Watch(Loads())  # type: ignore[arg-type]
    watch.look()
    assert watch.has_some
    watch.forget()
    assert watch.take() is None


def test_a_load_whose_reading_breaks_off_is_read_again(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    message = {"message_id": "m1", "type": "track", "timestamp": START, "received_at": START, "load_id": 1}
    with warehouse.write("test") as con:
        ensure_tables(con)
        con.register("arriving", raw_events([message]))
        con.execute("insert into raw.events by name from arriving")
    sources = Sources(warehouse, FakeLog(), judge)  # type: ignore[arg-type]

    def breaks(_con: Connection) -> None:
        raise duckdb.IOException("the network is away")

    with monkeypatch.context() as patch:
        patch.setattr("segue.realtime.start.read_decisions", breaks)
        with pytest.raises(duckdb.IOException):
            sources.news()
    fresh = sources.news().fresh
    assert fresh is not None
    assert fresh["message_id"].to_pylist() == ["m1"]
    assert sources.news().fresh is None
