"""Files: every packing, every kind of damage, each one read exactly once."""

import gzip
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest
import zstandard

from segue.errors import BadInputError
from segue.events import accounting, ingest, pending_files
from segue.events.loader import Loader
from segue.warehouse import Warehouse

ingest_module = importlib.import_module("segue.events.ingest")


def _text(messages) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in messages)


def test_every_packing_is_read_by_its_content(warehouse, settings, message, query, as_of) -> None:
    zone = settings.landing_zone
    (zone / "segment-logs" / "source" / "1769904000000").mkdir(parents=True)
    halves = [_text(message(n) for n in range(10, 15)), _text(message(n) for n in range(15, 20))]
    (zone / "plain.log").write_bytes(_text(message(n) for n in range(5)))
    (zone / "mark.json").write_bytes(b"\xef\xbb\xbf" + _text(message(n) for n in range(5, 10)))
    (zone / "segment-logs/source/1769904000000/a.gz").write_bytes(gzip.compress(halves[0]) + gzip.compress(halves[1]))
    (zone / "b.zst").write_bytes(
        zstandard.compress(_text(message(n) for n in range(20, 25))) + zstandard.compress(_text([message(25)]))
    )
    (zone / "no-line-end").write_bytes(_text([message(26)]).rstrip())
    (zone / "windows.ndjson").write_bytes(_text([message(27)]).replace(b"\n", b"\r\n") + b"\r\n \n\n")
    text = zone / "x.ndjson"
    text.write_bytes(_text(message(n) for n in range(28, 30)))
    with duckdb.connect(":memory:") as con:
        con.execute(f"copy (from read_json('{text}')) to '{zone}/c.parquet'")
        con.execute(
            f"copy (select * replace (properties::json::varchar as properties) from read_json('{text}')) "
            f"to '{zone}/d.parquet'"
        )
    report = ingest(warehouse, as_of=as_of)
    assert (report.read, report.loaded, report.duplicates) == (34, 30, 4)
    assert {row[0] for row in query("select message_id from raw.events")} == {f"m-{n}" for n in range(30)}
    assert query("select distinct properties->>'feature' from raw.events") == [("export",)]
    assert not ingest(warehouse, as_of=as_of).files


def test_a_parquet_file_alone_gives_the_same_as_its_ndjson(warehouse, settings, message, query, as_of) -> None:
    text = settings.home / "x.ndjson"
    text.write_bytes(_text(message(n) for n in range(3)))
    with duckdb.connect(":memory:") as con:
        con.execute(f"copy (from read_json('{text}')) to '{settings.landing_zone}/c.parquet'")
    ingest(warehouse, as_of=as_of)
    (row,) = query(
        "select timestamp, received_at, properties::varchar, context::varchar from raw.events where message_id = 'm-1'"
    )
    assert [str(value) for value in row] == [
        "2026-02-01 10:00:01", "2026-02-01 10:00:02", '{"feature":"export"}', '{"library":{"name":"test"}}',
    ]  # fmt: skip


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_of_a_truncated_file_the_good_lines_are_loaded_and_the_rest_is_shown(
    warehouse, settings, message, query, as_of, pack
) -> None:
    lines = _text(message(n, properties={"feature": os.urandom(40).hex()}) for n in range(500))
    packed = gzip.compress(lines) if pack == "gzip" else zstandard.compress(lines)
    (settings.landing_zone / "cut").write_bytes(packed[: len(packed) // 2])
    report = ingest(warehouse, as_of=as_of)
    assert report.loaded > 100 if pack == "gzip" else report.loaded >= 0
    assert report.quarantined == {"truncated_file": 1}
    ((line, detail, payload),) = query("select line, detail, payload from raw.quarantine")
    assert line == report.loaded + 1
    assert f"line {line}: the {pack} file ends before its end mark" in detail
    assert lines.decode().split("\n")[line - 1].startswith(payload)


def test_a_corrupt_gzip_is_named_and_its_good_lines_are_loaded(warehouse, settings, message, query, as_of) -> None:
    packed = bytearray(
        gzip.compress(_text(message(n, properties={"feature": os.urandom(40).hex()}) for n in range(5000)))
    )
    middle = len(packed) // 2
    packed[middle : middle + 400] = b"\xff" * 400
    (settings.landing_zone / "bad.gz").write_bytes(packed)
    report = ingest(warehouse, as_of=as_of)
    assert report.read == report.loaded + report.duplicates + report.quarantined_count
    assert report.loaded > 1000
    assert query(
        "select count(*) from raw.quarantine where reason = 'truncated_file' and detail like '%gzip data is corrupt%'"
    ) == [(1,)]


def test_broken_lines_are_quarantined_with_the_place_and_the_others_are_loaded(
    warehouse, message, write, query, as_of
) -> None:
    cases = [
        (b'{"type": "track", "event": "x', "broken_json", "not JSON"),
        (b'[{"type": "track"}]', "broken_json", "an array"),
        (b"null", "broken_json", "null"),
        (b'{"a": 1} {"b": 2}', "broken_json", "column"),
        (json.dumps(message(1)).encode().replace(b"export", b"caf\xe9"), "bad_encoding", "0xe9"),
        (b"\x00\x01", "broken_json", "not JSON"),
    ]
    write("one.ndjson", [json.dumps(message(0)), *(raw for raw, _, _ in cases), json.dumps(message(2))])
    report = ingest(warehouse, as_of=as_of)
    assert (report.read, report.loaded) == (8, 2)
    rows = query("select line, reason, detail, payload from raw.quarantine order by line")
    for (raw, reason, words), (line, found, detail, payload), number in zip(cases, rows, range(2, 8), strict=True):
        assert (line, found) == (number, reason)
        assert words in detail
        assert payload == raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def test_a_50_mb_line_is_refused_in_flat_memory(warehouse, settings, message, query, as_of) -> None:
    with (settings.landing_zone / "one.ndjson").open("wb") as file:
        file.write(_text([message(1)]))
        file.write(b'{"type": "track", "x": "')
        for _ in range(50):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + _text([message(2)]))
    report = ingest(warehouse, as_of=as_of)
    assert (report.read, report.loaded, report.quarantined) == (3, 2, {"line_too_long": 1})
    ((line, detail, kept),) = query("select line, detail, length(payload) from raw.quarantine")
    assert (line, kept) == (2, 65536)
    assert "50,000,026 bytes" in detail


def test_an_empty_file_is_read_once_and_brings_nothing(warehouse, write, settings, as_of) -> None:
    write("empty.ndjson", [])
    (settings.landing_zone / "empty.gz").write_bytes(gzip.compress(b""))
    report = ingest(warehouse, as_of=as_of)
    assert [(one.file, one.read) for one in report.files] == [("empty.gz", 0), ("empty.ndjson", 0)]
    assert not ingest(warehouse, as_of=as_of).files


def test_what_cannot_be_read_is_told_and_does_not_stop_the_others(
    warehouse, write, settings, message, as_of, monkeypatch
) -> None:
    write("a.ndjson", [message(1)])
    (settings.landing_zone / "b-utf16.ndjson").write_text(json.dumps(message(2)), encoding="utf-16")
    (settings.landing_zone / "b-utf16-unmarked.ndjson").write_bytes(json.dumps(message(2)).encode("utf-16-le"))
    (settings.landing_zone / "c.parquet").write_bytes(b"PAR1 and then nothing")
    secret = write("d-secret.ndjson", [message(3)])
    write("e.ndjson", [message(4)])
    opened = Path.open

    def refuse(self, *args, **kwargs):  # root may read everything, so permissions alone prove nothing here
        if self == secret:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    report = ingest(warehouse, as_of=as_of)
    assert [one.file for one in report.files] == ["a.ndjson", "e.ndjson"]
    assert report.loaded == 2
    assert "UTF-16" in report.refused["b-utf16.ndjson"]
    assert "iconv -f UTF-16" in report.refused["b-utf16.ndjson"]
    assert "iconv -f UTF-16LE" in report.refused["b-utf16-unmarked.ndjson"]
    assert "Parquet" in report.refused["c.parquet"]
    assert "read_parquet" not in report.refused["c.parquet"], "our query is not their business"
    assert "chmod +r" in report.refused["d-secret.ndjson"]
    monkeypatch.undo()
    assert ingest(warehouse, as_of=as_of).loaded == 1  # it was not lost


@pytest.fixture
def without_override() -> list[str]:
    """What to put before a command so that permissions bind it, also when root runs the tests."""
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []


def test_permissions_are_told_and_nothing_behind_a_closed_folder_is_forgotten(
    settings, write, message, without_override
) -> None:
    write("a.ndjson", [message(1)])
    closed_file = write("closed.ndjson", [message(2)])
    closed_folder = write("closed/b.ndjson", [message(3)]).parent
    table = settings.home / "closed.csv"
    table.write_text("who\n")
    mapping = settings.home / "mapping.yaml"
    mapping.write_text("columns: {user_id: who, event: what, timestamp: at}\n")
    segue = [*without_override, str(Path(sys.executable).with_name("segue"))]
    env = {**os.environ, "SEGUE_HOME": str(settings.home), "SEGUE_SETTLE_SECONDS": "0", "COLUMNS": "300"}

    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*segue, *arguments], env=env | variables, capture_output=True, text=True, check=False)

    for path in (closed_file, closed_folder, table):
        path.chmod(0)
    try:
        done = run("ingest")
        imported = run("import", str(table), "-m", str(mapping))
    finally:
        for path in (closed_folder, closed_file, table):
            path.chmod(0o700)
    assert done.returncode == imported.returncode == 1
    assert "loaded 1 " in done.stdout
    assert f"chmod +r {closed_file}" in done.stderr
    assert f"chmod +rx {closed_folder}" in done.stderr
    assert f"chmod +r {table}" in imported.stderr
    assert "loaded 2 " in run("ingest").stdout

    locked = settings.home / "locked"
    locked.mkdir(mode=0o555)
    refused = run("ingest", SEGUE_HOME=str(locked / "home"), SEGUE_LANDING=str(settings.landing_zone))
    assert refused.returncode == 1
    assert f"{locked / 'home'}: Permission denied" in refused.stderr
    assert "fix: check" in refused.stderr


def test_a_path_that_does_not_exist_is_an_error(warehouse, tmp_path, as_of) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.ndjson cannot be read.*No such file"):
        ingest(warehouse, [tmp_path / "nowhere.ndjson"], as_of=as_of)


def test_unfinished_and_hidden_files_are_left_alone(warehouse, write, message, settings, as_of) -> None:
    for name in (".hidden", "x.tmp", "x.part", "x.inprogress", "_SUCCESS", ".folder/x.ndjson", "_temporary/x.ndjson"):
        write(name, [message(1)])
    assert pending_files(settings, None).files == ()
    assert ingest(warehouse, as_of=as_of).read == 0


def test_a_file_that_grows_while_we_watch_is_left_for_the_next_time(settings, message, write, as_of) -> None:
    patient = Warehouse(settings.model_copy(update={"settle_seconds": 0.6}))
    with patient.read():
        pass
    path = write("growing.ndjson", [message(1)])
    write("whole.ndjson", [message(2)])
    done = threading.Event()

    def grow() -> None:
        while not done.is_set():
            with path.open("ab") as file:
                file.write(b" ")
            time.sleep(0.05)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        report = ingest(patient, as_of=as_of)
    finally:
        done.set()
        writer.join()
    assert (report.still_written, report.loaded) == (("growing.ndjson",), 1)
    assert ingest(patient, as_of=as_of).loaded == 1


def test_a_file_that_changes_while_it_is_read_is_not_read_half(
    warehouse, settings, message, write, query, as_of, monkeypatch
) -> None:
    write("a.ndjson", [message(1)])
    path = write("b.ndjson", [message(2)])
    write("c.ndjson", [message(3)])
    open_stream = ingest_module.open_stream

    def meanwhile(file):
        stream = open_stream(file)
        if file == path and path.stat().st_size < 1000:
            with path.open("ab") as more:
                more.write(_text(message(n) for n in range(4, 9)))
        return stream

    monkeypatch.setattr(ingest_module, "open_stream", meanwhile)
    report = ingest(warehouse, as_of=as_of)
    assert report.still_written == ("b.ndjson",)
    assert query("select message_id from raw.events order by 1") == [("m-1",), ("m-3",)]
    assert ingest(warehouse, as_of=as_of).loaded == 6


def test_a_file_that_grew_later_brings_only_what_is_new(warehouse, message, write, query, as_of) -> None:
    lines = [json.dumps(message(1)), "{broken", json.dumps(message(2))]
    write("log.ndjson", lines)
    ingest(warehouse, as_of=as_of)
    write("log.ndjson", [*lines, json.dumps(message(3))])
    report = ingest(warehouse, as_of=as_of)
    assert (report.read, report.loaded, report.duplicates) == (4, 1, 3)
    assert query("select count(*) from raw.quarantine") == [(1,)]
    with warehouse.read() as con:
        assert accounting(con).holds


def test_the_fingerprint_follows_what_waits_and_survives_a_restart(warehouse, settings, message, write, as_of) -> None:
    def fingerprint() -> str:
        with Warehouse(settings).read() as con:
            return pending_files(settings, con).fingerprint

    assert fingerprint() == ""
    path = write("a.ndjson", [message(1)])
    first = fingerprint()
    assert first == fingerprint() != ""
    write("b.ndjson", [message(2)])
    second = fingerprint()
    with path.open("ab") as file:
        file.write(_text([message(3)]))
    assert len({first, second, fingerprint()}) == 3
    ingest(warehouse, as_of=as_of)
    assert fingerprint() == ""


def test_small_files_share_a_transaction_and_keep_their_own_ledger(
    warehouse, message, write, query, as_of, monkeypatch
) -> None:
    for number in range(20):
        write(f"{number:02d}.ndjson", [message(number * 10 + n) for n in range(3)] + ["{"])
    chunks = []
    load = Loader.load
    monkeypatch.setattr(
        Loader, "load", lambda self, chunk, *rest: (chunks.append(len(chunk.lines)), load(self, chunk, *rest))
    )
    report = ingest(warehouse, as_of=as_of)
    assert chunks == [80]
    assert [(one.read, one.loaded, one.quarantined) for one in report.files] == [(4, 3, 1)] * 20
    ledger = query(
        "select l.load_id, l.read_count, count(e.load_id) from raw.loads as l "
        "join raw.events as e using (load_id) group by all order by all"
    )
    assert ledger == [(number, 4, 3) for number in range(1, 21)]
    assert query("select min(line), max(line) from raw.quarantine") == [(4, 4)]
