"""The way out of the quarantine."""

import json
from pathlib import Path

import pytest

from segue.errors import BadInputError
from segue.events import accounting, ingest, list_quarantined, replay, show_quarantined
from segue.settings import Settings
from segue.warehouse import Warehouse

CONTRACT = """\
event: {event}
description: d
owner: o@example.com
properties:
  size: {{type: {type}, required: {required}}}
"""


@pytest.fixture
def contract(settings: Settings, tmp_path: Path):
    folder = tmp_path / "project" / "contracts"
    folder.mkdir(parents=True)

    def write_contract(event: str = "Measured", type: str = "integer", required: str = "true") -> None:
        (folder / f"{event}.yml").write_text(CONTRACT.format(event=event, type=type, required=required))

    write_contract()
    return write_contract


@pytest.fixture
def warehouse(settings: Settings, tmp_path: Path, contract) -> Warehouse:
    return Warehouse(settings.model_copy(update={"dbt_project": tmp_path / "project"}))


def test_a_fixed_contract_lets_messages_in_exactly_once(warehouse, contract, message, write, query, as_of) -> None:
    sizes = [1, "2", 3.5, None, "5"]
    lines = [
        message(n, event="Measured", properties={"size": size} if size is not None else {})
        for n, size in enumerate(sizes)
    ]
    write("one.ndjson", [*lines, "{broken", lines[1]])
    report = ingest(warehouse, as_of=as_of)
    assert report.quarantined == {"broken_json": 1, "missing_property": 1, "wrong_type": 4}

    first = replay(warehouse, as_of=as_of)
    assert (first.tried, first.loaded, sum(first.remaining.values())) == (6, 0, 6)

    contract(type="string")
    second = replay(warehouse, as_of=as_of)
    # The number that was right before is not looked at again; 3.5 is still no string; one "2" is a copy of the other.
    assert (second.tried, second.loaded, second.duplicates) == (6, 2, 1)
    assert second.remaining == {"broken_json": 1, "missing_property": 1, "wrong_type": 1}
    assert query("select properties->>'size' from raw.events order by message_id") == [("1",), ("2",), ("5",)]
    assert query("select detail from raw.quarantine where reason = 'wrong_type' and replayed_at is null") == [
        ("line 3: `size` of `Measured` is number 3.5, the contract says string; see `size` in Measured.yml",)
    ]
    third = replay(warehouse, as_of=as_of)
    assert (third.tried, third.loaded, third.duplicates) == (3, 0, 0)
    with warehouse.read() as con:
        books = accounting(con)
    assert books.holds, books.problems
    assert (books.read, books.loaded, books.duplicates, books.quarantined, books.replayed) == (7, 3, 1, 3, 3)


def test_replayed_events_come_in_a_load_of_their_own(warehouse, contract, message, write, query, as_of) -> None:
    """Staging reads events by ascending load, so it must see them as new ones."""
    write("one.ndjson", [message(1, event="Measured")])
    write("two.ndjson", [message(2)])
    ingest(warehouse, as_of=as_of)
    contract(required="false")
    replay(warehouse, as_of=as_of)
    assert query("select message_id, load_id from raw.events order by load_id") == [("m-2", 2), ("m-1", 3)]


def test_replay_can_be_limited_to_a_reason_or_to_ids(warehouse, contract, message, write, query, as_of) -> None:
    write(
        "one.ndjson",
        [
            message(1, event="Measured"),
            message(2, event="Measured"),
            message(3, event="Measured", properties={"size": "x"}),
        ],
    )
    ingest(warehouse, as_of=as_of)
    contract(type="string", required="false")
    with warehouse.read() as con:
        first, *_ = list_quarantined(con, reason="missing_property")
    assert replay(warehouse, as_of=as_of, ids=[first.quarantine_id[:12]]).loaded == 1
    assert replay(warehouse, as_of=as_of, reason="missing_property").loaded == 1
    with warehouse.read() as con:
        assert [one.reason for one in list_quarantined(con)] == ["wrong_type"]
    with pytest.raises(BadInputError, match="no reason is called wrongtype"):
        replay(warehouse, as_of=as_of, reason="wrongtype")
    with pytest.raises(BadInputError, match="no message in quarantine"):
        replay(warehouse, as_of=as_of, ids=["feedbeef"])


def test_what_was_kept_only_in_part_is_not_tried(warehouse, message, write, as_of) -> None:
    write("one.ndjson", [json.dumps(message(1)).encode().replace(b"export", b"\xff")])
    ingest(warehouse, as_of=as_of)
    report = replay(warehouse, as_of=as_of)
    assert (report.tried, report.not_whole) == (0, 1)


def test_the_quarantine_shows_the_original_text(warehouse, message, write, as_of) -> None:
    text = '{ "type":"track",  "event": "Measured", "userId": "u", "timestamp": "2026-02-01T00:00:00Z" }'
    write("one.ndjson", [text])
    ingest(warehouse, as_of=as_of)
    with warehouse.read() as con:
        (listed,) = list_quarantined(con)
        assert show_quarantined(con, listed.quarantine_id[:6]) == listed
    assert (listed.payload, listed.file, listed.line) == (text, "one.ndjson", 1)


def test_a_replay_that_dies_leaves_everything_as_it_was(
    warehouse, contract, message, write, query, as_of, monkeypatch
) -> None:
    from segue.events import quarantine

    write("one.ndjson", [message(1, event="Measured")])
    ingest(warehouse, as_of=as_of)
    contract(required="false")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quarantine, "_update", die)
    with pytest.raises(KeyboardInterrupt):
        replay(warehouse, as_of=as_of)
    monkeypatch.undo()
    assert query("select count(*) from raw.events") == [(0,)]
    assert replay(warehouse, as_of=as_of).loaded == 1
    with warehouse.read() as con:
        assert accounting(con).holds
