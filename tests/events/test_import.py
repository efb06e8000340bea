"""Bring your own events."""

import gzip
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import zstandard

from segue.errors import BadInputError
from segue.events import accounting, import_file, load_mapping, preview
from segue.settings import PROJECT_ROOT

EXAMPLE = PROJECT_ROOT / "examples" / "ecom"


@pytest.fixture
def mapping(tmp_path: Path):
    def write_mapping(text: str):
        path = tmp_path / "mapping.yaml"
        path.write_text(text)
        return load_mapping(path)

    return write_mapping


SIMPLE = "columns: {user_id: who, event: what, timestamp: at}\n"


def test_every_row_of_ecom_comes_in_and_a_second_import_adds_nothing(warehouse, query, as_of) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE / "fetch.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file = Path(done.stdout.strip())
    fields = load_mapping(EXAMPLE / "mapping.yaml")
    first = import_file(warehouse, file, fields, as_of=as_of)
    assert (first.read, first.loaded, first.quarantined_count) == (31_106, 31_106, 0)
    assert query(
        "select count(*), count(distinct message_id), count(distinct user_id), count(distinct event) from raw.events"
    ) == [(31_106, 31_106, 600, 19)]
    with gzip.open(file, "rt") as table:
        names, *rows = (line.rstrip("\n").split(",") for line in table)
    expected = sorted((row[0], row[2], row[3], row[1], row[4], row[5]) for row in rows)
    assert names[:6] == ["user_id", "session_id", "event", "timestamp", "platform", "acquisition_channel"]
    found = query(
        "select user_id, event, timestamp::varchar, properties->>'session_id', context->'device'->>'type', "
        "context->'campaign'->>'medium' from raw.events order by all"
    )
    assert found == expected
    second = import_file(warehouse, file, fields, as_of=as_of)
    assert (second.read, second.loaded, second.duplicates) == (31_106, 0, 31_106)
    with warehouse.read() as con:
        assert accounting(con).holds


def test_equal_rows_are_as_many_events_and_a_copy_of_the_file_adds_nothing(
    warehouse, tmp_path, mapping, query, as_of
) -> None:
    fields = mapping(SIMPLE)
    rows = "who,what,at,n\n" + "ann,click,2026-01-01 10:00:00,1\n" * 3 + "bob,click,2026-01-01 10:00:00,1\n"
    (tmp_path / "a.csv").write_text(rows)
    assert import_file(warehouse, tmp_path / "a.csv", fields, as_of=as_of).loaded == 4
    (tmp_path / "copy.csv").write_text(rows)
    assert import_file(warehouse, tmp_path / "copy.csv", fields, as_of=as_of).loaded == 0
    # One more equal row is one more event, and a new mapping does not make old rows new.
    (tmp_path / "a.csv").write_text(rows + "ann,click,2026-01-01 10:00:00,1\n")
    changed = mapping(SIMPLE + "rename: {click: Button Clicked}\n")
    assert import_file(warehouse, tmp_path / "a.csv", changed, as_of=as_of).loaded == 1
    assert query("select event, count(*) from raw.events group by event order by event") == [
        ("Button Clicked", 1),
        ("click", 4),
    ]


def test_a_mapping_says_types_names_constants_and_times(warehouse, tmp_path, mapping, query, as_of) -> None:
    fields = mapping(
        """
source: shop
columns: {user_id: who, anonymous_id: cookie, event: what, timestamp: at, received_at: seen}
timestamp: {format: "%d.%m.%Y %H:%M", zone: Europe/Berlin}
rename: {start: Home}
types: {page: [start], identify: [hello]}
properties: {price: amount, zip: zip, gift: gift}
traits: {email: mail}
context: {campaign.medium: medium}
constants: {context.location.country: DE, properties.version: 2}
"""
    )
    (tmp_path / "t.csv").write_text(
        "who;cookie;what;at;seen;amount;zip;gift;mail;medium\n"
        "007;c1;start;01.07.2026 12:00;01.07.2026 12:05;1.5;01234;true;;email\n"
        ";c2;buy;01.01.2026 12:00;01.01.2026 12:00;;;;;\n"
        "9;c3;hello;01.01.2026 12:00;01.01.2026 12:00;7;12345;false;ann@example.com;\n"
    )
    report = import_file(warehouse, tmp_path / "t.csv", fields, as_of=as_of)
    assert (report.loaded, report.quarantined) == (3, {})
    rows = query(
        "select type, event, name, user_id, anonymous_id, timestamp::varchar, received_at::varchar, source, "
        "properties::varchar, traits->>'email', context->'campaign'->>'medium', context->'location'->>'country' "
        "from raw.events order by anonymous_id"
    )
    assert rows == [
        ("page", None, "Home", "007", "c1", "2026-07-01 10:00:00", "2026-07-01 10:05:00", "shop",
         '{"price":1.5,"zip":"01234","gift":true,"version":2}', None, "email", "DE"),
        ("track", "buy", None, None, "c2", "2026-01-01 11:00:00", "2026-01-01 11:00:00", "shop",
         '{"price":null,"zip":null,"gift":null,"version":2}', None, None, "DE"),
        ("identify", None, None, "9", "c3", "2026-01-01 11:00:00", "2026-01-01 11:00:00", "shop",
         '{"price":7.0,"zip":"12345","gift":false,"version":2}', "ann@example.com", None, "DE"),
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["ndjson", "parquet", "csv.gz", "ndjson.zst"])
def test_tables_of_every_kind_can_be_imported(warehouse, tmp_path, mapping, query, as_of, suffix) -> None:
    path = tmp_path / f"t.{suffix}"
    with duckdb.connect(":memory:") as con:
        con.execute(
            f"copy (select 'u' || range as who, 'click' as what, "
            f"timestamp '2026-01-01 10:00:00' + range * interval 1 hour as at, "
            f"range as n, range > 1 as big from range(3)) to '{path}'"
        )
    assert import_file(warehouse, path, mapping(SIMPLE + "properties: rest\n"), as_of=as_of).loaded == 3
    assert query("select user_id, timestamp::varchar, properties::varchar from raw.events order by all")[2] == (
        "u2", "2026-01-01 12:00:00", '{"n":2,"big":true}',
    )  # fmt: skip
    assert import_file(warehouse, path, mapping(SIMPLE), as_of=as_of).loaded == 0


def test_rows_that_are_no_events_are_quarantined_and_come_in_after_a_fix(
    warehouse, tmp_path, mapping, query, as_of
) -> None:
    (tmp_path / "t.csv").write_text("who,what,at\nann,click,31/01/2026\n,click,2026-01-01\nbob,,2026-01-01\n")
    report = import_file(warehouse, tmp_path / "t.csv", mapping(SIMPLE), as_of=as_of)
    assert report.quarantined == {"bad_timestamp": 1, "missing_ids": 1, "missing_property": 1}
    assert ('line 1: `timestamp` is "31/01/2026"; write ISO 8601, e.g. 2026-01-31T12:00:00Z',) in [
        (detail.replace("originalTimestamp", "timestamp"),) for (detail,) in query("select detail from raw.quarantine")
    ]
    fixed = mapping(SIMPLE + 'timestamp: {format: "%d/%m/%Y"}\n')
    assert import_file(warehouse, tmp_path / "t.csv", fixed, as_of=as_of).loaded == 1


def test_a_dry_run_shows_what_would_come_and_writes_nothing(settings, tmp_path, mapping) -> None:
    (tmp_path / "t.csv").write_text("who,what,at\nann,click,2026-01-01\nann,view,2026-01-01\nbob,click,2026-01-01\n")
    seen = preview(tmp_path / "t.csv", mapping(SIMPLE), settings, count=1)
    assert (seen.row_count, dict(seen.event_counts), len(seen.messages)) == (3, {"track click": 2, "track view": 1}, 1)
    assert not settings.warehouse_home.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "columns: {user_id: whom, event: what, timestamp: at}",
            ["line 1", "no column `whom`", "did you mean `who`", "who, what, at, n"],
        ),
        (SIMPLE + "properties: [n,\n  size]", ["line 3", "no column `size`", "who, what, at, n"]),
        (SIMPLE + "context: {device.type: gadget}", ["line 2", "no column `gadget`"]),
        ("columns: {event: what, timestamp: at}", ["line 1", "user_id", "anonymous_id"]),
        ("columns: {user_id: who, event: what}", ["line 1", "lacks `timestamp`"]),
        ("columns: {user: who, event: what, timestamp: at}", ["line 1", "no key `user`", "user_id"]),
        (SIMPLE + "timestamp: {zone: Europe/Berlinn}", ["line 2", "Europe/Berlinn"]),
        (SIMPLE + "types: {click: [a]}", ["line 2", "no key `click`", "page"]),
        (SIMPLE + "properties: everything", ["line 2", "rest"]),
        (SIMPLE + "colums: {}", ["line 2", "did you mean `columns`"]),
        ("columns:\n\t- x", ["line 2", "not YAML"]),
    ],
)
def test_a_mistake_in_a_mapping_names_file_line_and_fix(warehouse, tmp_path, mapping, as_of, text, words) -> None:
    (tmp_path / "t.csv").write_text("who,what,at,n\nann,click,2026-01-01,1\n")
    with pytest.raises(BadInputError) as caught:
        fields = mapping(text)
        import_file(warehouse, tmp_path / "t.csv", fields, as_of=as_of)
    assert "mapping.yaml" in caught.value.message
    assert caught.value.fix
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_table_that_cannot_be_read_is_told(warehouse, tmp_path, mapping, as_of) -> None:
    (tmp_path / "latin.csv").write_bytes("who,what,at\nbj\xf6rn,click,2026-01-01\n".encode("latin-1") * 3)
    (tmp_path / "utf16.csv").write_bytes("who,what,at\nann,click,2026-01-01\n".encode("utf-16"))
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "odd.csv").write_text("who,what,at\n" + "ann,click,2026-01-01\n" * 9 + "bob,click,2026-01-01,x\n")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    (tmp_path / "t.ndjson").write_text('{"who": "ann", \n')
    for name, words in (
        ("latin.csv", "UTF-8"),
        ("utf16.csv", "iconv -f UTF-16 "),
        ("empty.csv", "is empty"),
        ("odd.csv", "odd.csv.*Line: 11"),
        ("t.parquet", "t.parquet"),
        ("t.ndjson", "t.ndjson"),
        ("none.csv", "does not exist|No such"),
    ):
        with pytest.raises(BadInputError, match=words):
            import_file(warehouse, tmp_path / name, mapping(SIMPLE), as_of=as_of)


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_of_a_packed_table_that_breaks_off_nothing_is_imported_and_the_line_is_named(
    warehouse, tmp_path, mapping, query, as_of, pack
) -> None:
    rows = "who,what,at\n" + "".join(f"{os.urandom(20).hex()},click,2026-01-01\n" for _ in range(20_000))
    whole = gzip.compress(rows.encode()) if pack == "gzip" else zstandard.compress(rows.encode())
    path = tmp_path / f"t.csv.{'gz' if pack == 'gzip' else 'zst'}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError, match=rf"t\.csv\..*, line \d+: the {pack} file ends before its end mark"):
        import_file(warehouse, path, mapping(SIMPLE), as_of=as_of)
    with pytest.raises(BadInputError, match="cut off"):
        preview(path, mapping(SIMPLE), warehouse.settings)
    path.write_bytes(whole)
    assert import_file(warehouse, path, mapping(SIMPLE), as_of=as_of).loaded == 20_000


def test_the_example_is_fetched_once(tmp_path) -> None:
    spec = importlib.util.spec_from_file_location("fetch", EXAMPLE / "fetch.py")
    assert spec is not None
    assert spec.loader is not None
    fetch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fetch)
    (tmp_path / "ecom.csv.gz").write_bytes(b"another file")
    with pytest.raises(RuntimeError, match="not the file we know"):
        fetch.fetch(tmp_path)
