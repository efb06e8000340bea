"""Any mix of lines, in any files: read = loaded + duplicates + quarantined, and the order changes nothing."""

import gzip
import importlib
import json
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.events import accounting, ingest
from segue.settings import Settings
from segue.warehouse import Warehouse

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)

#: (line, id of the message when it is good, counts as read)
Line = tuple[bytes, str | None, bool]


def _message(number: int, **fields: Any) -> bytes:
    base = {
        "type": "track",
        "event": "X",
        "messageId": f"m-{number}",
        "userId": "ü",
        "timestamp": "2026-02-01T10:00:00Z",
    }
    return json.dumps({k: v for k, v in (base | fields).items() if v is not None}).encode()


numbers = st.integers(0, 30)  # few, so that ids repeat within and across files
text = st.text(max_size=30)
good = st.builds(lambda n, t: (_message(n, properties={"t": t}), f"m-{n}", True), numbers, text)
broken = st.one_of(
    st.builds(lambda n: (_message(n, type="what"), None, True), numbers),
    st.builds(lambda n: (_message(n, userId=None), None, True), numbers),
    st.builds(lambda n: (_message(n, timestamp="2126-01-01"), None, True), numbers),
    st.builds(lambda n: (_message(n, timestamp="1970-01-01"), None, True), numbers),
    st.builds(lambda n: (_message(n)[:-1], None, True), numbers),
    st.builds(lambda n: (_message(n).replace(b"track", b"tr\xe4ck"), None, True), numbers),
    st.builds(
        lambda n: (_message(n, properties={"t": "x" * 3000}), None, True), numbers
    ),  # longer than the limit below
    st.sampled_from([(b"[]", None, True), (b"null", None, True), (b"17", None, True), (b"\x00", None, True)]),
    st.binary(min_size=1, max_size=20)
    .map(lambda raw: b"\xff" + raw.replace(b"\n", b"").replace(b"\r", b""))
    .map(lambda raw: (raw, None, True)),
)
blank = st.sampled_from([(b"", None, False), (b"  ", None, False), (b"\r", None, False)])
files = st.lists(
    st.tuples(
        st.lists(st.one_of(good, good, good, broken, blank), max_size=40), st.sampled_from(["plain", "gzip", "zstd"])
    ),
    min_size=1,
    max_size=5,
)


def _pack(lines: list[Line], how: str) -> bytes:
    raw = b"\n".join(line for line, _, _ in lines) + (b"\n" if len(lines) % 2 else b"")
    return {"plain": lambda: raw, "gzip": lambda: gzip.compress(raw), "zstd": lambda: zstandard.compress(raw)}[how]()


def _ingest(base: Path, contents: list[bytes]) -> tuple[int, set[str]]:
    """Read the files in their order; returns how many lines were read and the ids in the warehouse."""
    warehouse = Warehouse(Settings(home=base, settle_seconds=0, _env_file=None))  # type: ignore[call-arg]
    zone = warehouse.settings.landing_zone
    zone.mkdir(parents=True)
    for number, content in enumerate(contents):
        (zone / f"{number}.log").write_bytes(content)
    report = ingest(warehouse, as_of=AS_OF)
    assert not report.refused
    assert report.read == report.loaded + report.duplicates + report.quarantined_count
    with warehouse.read() as con:
        books = accounting(con)
        ids = [row[0] for row in con.execute("select message_id from raw.events").fetchall()]
    assert books.holds, books.problems
    assert (books.read, books.quarantined, len(ids)) == (report.read, report.quarantined_count, len(set(ids)))
    return report.read, set(ids)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(files=files, seed=st.integers(0, 100))
def test_nothing_is_dropped_and_the_order_of_files_changes_nothing(
    files: list[tuple[list[Line], str]], seed: int
) -> None:
    module = importlib.import_module("segue.events.ingest")
    chunk_bytes, module.CHUNK_BYTES = module.CHUNK_BYTES, 4096  # type: ignore[attr-defined]
    try:
        contents = [_pack(lines, how) for lines, how in files]
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            read, ids = _ingest(Path(first), contents)
            random.Random(seed).shuffle(contents)
            read_again, ids_again = _ingest(Path(second), contents)
    finally:
        module.CHUNK_BYTES = chunk_bytes  # type: ignore[attr-defined]
    assert read == read_again == sum(counts for lines, _ in files for _, _, counts in lines)
    assert ids == ids_again == {name for lines, _ in files for _, name, _ in lines if name is not None}
