"""Judged in memory is judged as the warehouse does; and only the landing writer's files may name a source."""

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from segue.events import COLLECTED, Judge, ingest, list_quarantined, load_contracts, replay
from segue.settings import Settings
from segue.warehouse import Warehouse

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
LATEST = AS_OF + timedelta(days=1)
COLUMNS = (
    "message_id, type, event, name, user_id, anonymous_id, previous_id, group_id, timestamp, original_timestamp, "
    "sent_at, received_at, properties::varchar, traits::varchar, context::varchar, source, message_hash"
)

stamps = st.sampled_from(
    [None, "2026-02-01T10:00:00.000Z", "2026-02-01T12:00:00+02:00", "tomorrow", "2031-01-01T00:00:00Z", "1990-01-01", 7]
)
ids = st.sampled_from([None, "", " u1 ", "ü", 5, {"a": 1}])
objects = st.one_of(
    st.none(),
    st.just({"value": 3, "currency": "USD"}),
    st.just([]),
    st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=5), st.integers(), st.booleans()), max_size=3),
)
messages = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "identify", "page", "screen", "group", "alias", "odd", None, 3]),
        "event": st.sampled_from(["Checkout Started", "Anything", "", None]),
        "name": st.sampled_from([None, "Home"]),
        "userId": ids,
        "anonymousId": ids,
        "previousId": ids,
        "groupId": ids,
        "timestamp": stamps,
        "originalTimestamp": stamps,
        "sentAt": stamps,
        "receivedAt": stamps,
        "properties": objects,
        "traits": objects,
        "context": objects,
        "_source": st.sampled_from(["web", "app's"]),
    }
)
oddities = st.sampled_from(
    [b"{", b"[]", b"3", b"null", b'{"a":"\\ud800"}', b'{"a":1e999}', b"{} x", b"nan", b"\xe9t\xe9"]
)
lines = st.lists(st.one_of(messages, messages, oddities), min_size=1, max_size=12)


def as_lines(drawn: list[Any], *, keep_null: bool = False) -> bytes:
    texts = []
    for number, one in enumerate(drawn):
        if isinstance(one, bytes):
            texts.append(one)
        else:
            fields = {name: value for name, value in one.items() if keep_null or value is not None}
            texts.append(json.dumps({"messageId": f"m-{number}", **fields}).encode())
    return b"\n".join(texts) + b"\n"


@pytest.fixture(scope="module")
def judge() -> Judge:
    contracts = Settings(_env_file=None).dbt_project / "contracts"  # type: ignore[call-arg]
    return Judge(load_contracts(contracts))


@given(drawn=lines, keep_null=st.booleans())
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_memory_and_warehouse_judge_alike(judge: Judge, drawn: list[Any], keep_null: bool) -> None:
    text = as_lines(drawn, keep_null=keep_null)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), settle_seconds=0, _env_file=None)  # type: ignore[call-arg]
        path = settings.landing_zone / COLLECTED / "a.ndjson"
        path.parent.mkdir(parents=True)
        path.write_bytes(text)
        warehouse = Warehouse(settings)
        ingest(warehouse, as_of=datetime.now(UTC))
        # The file's own age decides what is the future; here it was written now.
        judged = judge.judge(text, latest=datetime.now(UTC) + timedelta(days=1))
        with warehouse.read() as con:
            wanted = con.execute(f"select {COLUMNS} from raw.events order by message_id").fetchall()
            con.register("judged", judged.accepted)
            found = con.execute(f"select {COLUMNS} from judged order by message_id").fetchall()
            refused = sorted((one.reason, one.payload) for one in list_quarantined(con, limit=None))
    assert found == wanted
    assert sorted((one.reason, one.payload) for one in judged.refused) == refused


def test_columns_are_those_of_raw_events(judge: Judge, warehouse: Warehouse) -> None:
    from segue.events import ensure_tables

    with warehouse.writer("test") as con:
        ensure_tables(con)
        names = [name for name, *_ in con.execute("describe raw.events").fetchall()]
    good = {"type": "track", "event": "X", "userId": "u", "messageId": "1", "receivedAt": "2026-02-01T10:00:00Z"}
    assert judge.judge(json.dumps(good).encode(), latest=LATEST).accepted.column_names == names
    assert judge.judge(b"", latest=LATEST).accepted.column_names == names


def test_a_message_from_the_future_is_refused(judge: Judge) -> None:
    line = b'{"type":"track","event":"X","userId":"u","receivedAt":"2026-03-02T00:00:01Z"}\n'
    assert [one.reason for one in judge.judge(line, latest=LATEST).refused] == ["future_timestamp"]
    assert not judge.judge(line, latest=LATEST + timedelta(seconds=1)).refused


def _sources(warehouse: Warehouse) -> list[tuple[str, str]]:
    with warehouse.read() as con:
        return con.execute("select message_id, source from raw.events order by all").fetchall()


def test_only_files_of_the_landing_writer_name_their_source(settings, warehouse, write, message) -> None:
    for folder in (f"{COLLECTED}/2026-02-01", "dropped", f"{COLLECTED}-too"):
        write(f"{folder}/a.ndjson", [message(folder=0, messageId=folder, _source="web")])
    write(f"{COLLECTED}/b.ndjson", [message(messageId="z", _source=None)])
    outside = settings.home / COLLECTED / "c.ndjson"
    outside.parent.mkdir()
    outside.write_text(json.dumps(message(messageId="y", _source="web")))
    ingest(warehouse, as_of=AS_OF)
    ingest(warehouse, [outside], as_of=AS_OF)
    assert _sources(warehouse) == [
        (f"{COLLECTED}-too", "landing"),
        (f"{COLLECTED}/2026-02-01", "web"),
        ("dropped", "landing"),
        ("y", "files"),
        ("z", "landing"),
    ]


def test_a_refused_message_keeps_its_source_through_replay(tmp_path: Path, settings, write, message) -> None:
    folder = tmp_path / "project" / "contracts"
    folder.mkdir(parents=True)
    contract = folder / "x.yml"
    text = "event: X\ndescription: d\nowner: o@example.com\nproperties:\n  size: {type: integer, required: true}\n"
    contract.write_text(text)
    warehouse = Warehouse(settings.model_copy(update={"dbt_project": tmp_path / "project"}))
    write(f"{COLLECTED}/a.ndjson", [message(event="X", properties={}, messageId="kept", _source="web")])
    ingest(warehouse, as_of=AS_OF)
    with warehouse.read() as con:
        assert [one.source for one in list_quarantined(con)] == ["web"]
    contract.unlink()
    replay(warehouse, as_of=AS_OF)
    assert _sources(warehouse) == [("kept", "web")]


def test_bad_input_the_character_nul_in_a_message_is_mended_and_the_tables_can_still_be_asked(
    settings: Settings,
) -> None:
    odd = {
        "type": "track", "event": "Nul\0Seen", "messageId": "m\0", "userId": "u\0", "anonymousId": "\\u0000\0",
        "timestamp": "2026-02-01T10:00:00Z", "receivedAt": "2026-02-01T10:00:00Z", "properties": {"a\0": "b\0"},
    }  # fmt: skip
    line = json.dumps(odd).encode()
    settings.landing_zone.mkdir(parents=True, exist_ok=True)
    (settings.landing_zone / "odd.ndjson").write_bytes(line + b"\n")
    warehouse = Warehouse(settings)
    ingest(warehouse, as_of=AS_OF)
    ids = ("m\ufffd", "u\ufffd", "\\u0000\ufffd", "b\ufffd")
    query = (
        "select message_id, user_id, anonymous_id, properties ->> '$.\"a\ufffd\"' from raw.events where user_id = $1"
    )
    with warehouse.read() as con:
        assert con.execute(query, ["u\ufffd"]).fetchall() == [ids]
        # The catalog looks for files by the values that a join brings.
        con.execute("create temp table wanted as select user_id from raw.events")
        assert con.execute("select count(*) from raw.events join wanted using (user_id)").fetchall() == [(1,)]
    accepted = Judge([]).judge(line, latest=LATEST).accepted.to_pylist()
    assert [(row["message_id"], row["user_id"], row["anonymous_id"]) for row in accepted] == [ids[:3]]
