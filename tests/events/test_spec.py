"""What the Segment spec makes of a message."""

import json
import os
from datetime import datetime
from typing import Any

import numpy as np

from segue.events import ingest
from segue.events.loader import Loader


def test_every_type_of_the_spec_is_loaded(warehouse, message, write, query, as_of) -> None:
    write(
        "types.ndjson",
        [
            message(1),
            message(2, type="identify", event=None, properties=None, traits={"email": "ann@example.com"}),
            message(3, type="page", event=None, name="Home", properties={"path": "/"}),
            message(4, type="screen", event=None, name="Basket", properties=None),
            message(5, type="group", event=None, groupId="g-1", traits={"name": "Acme"}),
            message(6, type="alias", event=None, previousId="anonymous-1"),
        ],
    )
    assert ingest(warehouse, as_of=as_of).loaded == 6
    assert query("select type, event, name, group_id, previous_id from raw.events order by message_id") == [
        ("track", "Premium Feature Used", None, None, None),
        ("identify", None, None, None, None),
        ("page", None, "Home", None, None),
        ("screen", None, "Basket", None, None),
        ("group", None, None, "g-1", None),
        ("alias", None, None, None, "anonymous-1"),
    ]


def test_a_message_of_rudderstack_is_the_same_message(warehouse, message, write, query, as_of) -> None:
    """Offsets instead of Z, an empty userId, traits in the context, fields that Segment does not have."""
    write(
        "rudder.json",
        [
            message(
                1,
                type="identify",
                event=None,
                properties=None,
                userId="",
                anonymousId="a-1",
                channel="web",
                request_ip="192.0.2.1",
                rudderId="r-1",
                receivedAt="2026-02-01T15:30:02.000+05:30",
                context={"traits": {"email": "ann@example.com"}},
            )
        ],
    )
    ingest(warehouse, as_of=as_of)
    rows = query("select user_id, anonymous_id, traits->>'email', received_at, timestamp from raw.events")
    assert rows == [(None, "a-1", "ann@example.com", datetime(2026, 2, 1, 10, 0, 2), datetime(2026, 2, 1, 10, 0, 1))]


def test_snake_case_is_read_like_camel_case(warehouse, message, write, query, as_of) -> None:
    names = {
        "messageId": "message_id", "userId": "user_id", "originalTimestamp": "original_timestamp",
        "sentAt": "sent_at", "receivedAt": "received_at",
    }  # fmt: skip
    write("a-camel.ndjson", [message(n) for n in range(3)])
    ingest(warehouse, as_of=as_of)
    snake = [{names.get(k, k): v for k, v in message(n).items()} for n in range(5)]
    write("b-snake.ndjson", snake)
    report = ingest(warehouse, as_of=as_of)
    assert (report.loaded, report.duplicates) == (2, 3)
    columns = "type, event, timestamp, original_timestamp, sent_at, received_at"
    assert len(query(f"select distinct {columns} from raw.events")) == 1


CLOCKS = {
    "the client's clock is right": ({}, "10:00:01"),
    "three hours slow": ({"originalTimestamp": "2026-02-01T07:00:00Z", "sentAt": "2026-02-01T07:00:01Z"}, "10:00:01"),
    "reset to 1970": ({"originalTimestamp": "1970-01-01T00:00:00Z", "sentAt": "1970-01-01T00:00:01Z"}, "10:00:01"),
    "no sentAt: the timestamp field": ({"sentAt": None}, "10:00:01"),
    "only the original": ({"sentAt": None, "timestamp": None}, "10:00:00"),
    "ahead: not after it was received": ({"originalTimestamp": "2026-02-01T10:00:30Z"}, "10:00:02"),
    "only timestamp": ({"receivedAt": None, "sentAt": None, "originalTimestamp": None}, "10:00:01"),
}


def test_the_clock_of_the_client_is_corrected(warehouse, message, write, query, as_of) -> None:
    write("clocks.ndjson", [message(1, messageId=name, **fields) for name, (fields, _) in CLOCKS.items()])
    ingest(warehouse, as_of=as_of)
    found = dict(query("select message_id, strftime(timestamp, '%Y-%m-%d %H:%M:%S') from raw.events"))
    assert found == {name: f"2026-02-01 {expected}" for name, (_, expected) in CLOCKS.items()}


BROKEN = [
    ({"type": "tracked"}, "unknown_type", ["tracked", "identify"]),
    ({"type": None}, "unknown_type", ["no `type`"]),
    ({"userId": None}, "missing_ids", ["userId", "anonymousId"]),
    ({"userId": "  "}, "missing_ids", ["userId"]),
    ({"type": "alias"}, "missing_ids", ["previousId"]),
    ({"type": "group"}, "missing_ids", ["groupId"]),
    ({"event": None}, "missing_property", ["event"]),
    ({"sentAt": "yesterday"}, "bad_timestamp", ["sentAt", "yesterday", "ISO 8601"]),
    ({"timestamp": 1767225600}, "bad_timestamp", ["timestamp", "1767225600"]),
    ({"timestamp": "infinity"}, "bad_timestamp", ["infinity"]),
    (
        {"timestamp": None, "originalTimestamp": None, "sentAt": None, "receivedAt": None},
        "bad_timestamp",
        ["no timestamp at all"],
    ),
    ({"originalTimestamp": "2126-02-01T10:00:00Z"}, "future_timestamp", ["2126", "clock"]),
    ({"originalTimestamp": "2026-02-03T10:00:00Z"}, "future_timestamp", ["day"]),
    ({"originalTimestamp": "1970-01-01T00:00:00Z"}, "ancient_timestamp", ["1970", "2000"]),
    ({"properties": "feature=export"}, "wrong_type", ["properties", "string"]),
    ({"context": [1]}, "wrong_type", ["context", "array"]),
]


def test_what_breaks_the_spec_is_quarantined_with_its_value(warehouse, message, write, query, as_of) -> None:
    lines = [message(number, **fields) for number, (fields, _, _) in enumerate(BROKEN)]
    write("broken.ndjson", [*lines, message(1)])
    report = ingest(warehouse, as_of=as_of)
    assert (report.read, report.loaded, report.quarantined_count) == (len(BROKEN) + 1, 1, len(BROKEN))
    rows = query("select file, line, reason, detail, payload from raw.quarantine order by line")
    for number, ((_, reason, words), row) in enumerate(zip(BROKEN, rows, strict=True), start=1):
        file, line, found, detail, payload = row
        assert (file, line, found) == ("broken.ndjson", number, reason)
        assert detail.startswith(f"line {number}: ")
        assert all(word in detail for word in words), detail
        assert json.loads(payload) == lines[number - 1]


def test_the_future_begins_a_day_after_as_of_and_after_the_file(warehouse, message, write, query, as_of) -> None:
    def at(moment: str, number: int) -> dict[str, Any]:
        return message(number, originalTimestamp=moment, sentAt=moment, receivedAt=moment, timestamp=moment)

    lines = [at("2026-03-01T23:59:59Z", 1), at("2026-03-02T00:00:01Z", 2)]
    path = write("old.ndjson", lines)
    os.utime(path, (as_of.timestamp() - 9, as_of.timestamp() - 9))
    assert ingest(warehouse, as_of=as_of).quarantined == {"future_timestamp": 1}
    # A file that was written later than `as_of` (a backfill) knows about times after it.
    path = write("new.ndjson", [at("2026-03-02T00:00:01Z", 3)])
    os.utime(path, (as_of.timestamp() + 86_400, as_of.timestamp() + 86_400))
    assert ingest(warehouse, as_of=as_of).loaded == 1


def test_a_message_without_id_gets_the_same_one_each_time(warehouse, message, write, query, as_of) -> None:
    first = message(1, messageId=None)
    other = message(1, messageId=None, properties={"feature": "import"})
    again = first | {"sentAt": "2026-02-01T10:00:05Z", "receivedAt": "2026-02-01T10:00:06Z"}
    write("one.ndjson", [first, other, again])
    report = ingest(warehouse, as_of=as_of)
    assert (report.loaded, report.duplicates) == (2, 1)
    write("two.ndjson", [again | {"messageId": ""}])
    assert ingest(warehouse, as_of=as_of).duplicates == 1


def test_the_first_received_of_two_wins_whatever_their_order(warehouse, message, write, query, as_of) -> None:
    late = message(1, receivedAt="2026-02-01T10:09:00Z", properties={"feature": "late"})
    write("one.ndjson", [late, message(1)])
    report = ingest(warehouse, as_of=as_of)
    assert (report.loaded, report.duplicates) == (1, 1)
    assert query("select properties->>'feature' from raw.events") == [("export",)]


def test_a_broken_copy_does_not_hide_a_good_one(warehouse, message, write, query, as_of) -> None:
    write("one.ndjson", [message(1, sentAt="never"), message(1)])
    report = ingest(warehouse, as_of=as_of)
    assert (report.loaded, report.quarantined) == (1, {"bad_timestamp": 1})


def test_the_fast_and_the_careful_way_give_the_same(warehouse, message, write, query, as_of, monkeypatch) -> None:
    lines = [
        message(1, userId=17, messageId=5),
        message(2, properties={"feature": "é\u4e2d\U0001f600", "nested": {"a": [1, {"b": None}]}}),
        message(3, originalTimestamp="2026-02-01T10:00:00.123456789+01:00", timestamp="2026-02-01 10:00"),
        message(4, type="page", event="ignored", name=None, properties={"name": "Home", "path": "/"}),
        message(5, traits={"x": 1}, context=None),
        '{"type":"track","event":"A\\u0020B","userId":"u","messageId":"m\\"6","timestamp":"2026-02-01"}',
        "  " + json.dumps(message(7)) + " \r",
    ]
    write("fast.ndjson", lines)
    assert ingest(warehouse, as_of=as_of).loaded == len(lines)
    columns = "* exclude (load_id)"
    fast = query(f"select {columns} from raw.events order by message_id")
    with warehouse.write("clean") as con:
        con.execute("delete from raw.events")
        con.execute("delete from raw.loads")
    look = Loader.first_look
    monkeypatch.setattr(
        Loader, "first_look", lambda self, lines: look(self, lines)._replace(is_suspect=np.ones(len(lines), bool))
    )
    assert ingest(warehouse, as_of=as_of).loaded == len(lines)
    assert query(f"select {columns} from raw.events order by message_id") == fast
