"""The files: reproducible, whole, in order, within the time asked for."""

import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import zstandard

from segue.errors import BadInputError
from segue.events.simulator import FileFormat, SimulationReport, simulate

UNTIL = datetime(2026, 3, 1, tzinfo=UTC)
Run = Callable[..., SimulationReport]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_makes_the_same_bytes_of_events_and_truth(run: Run) -> None:
    one, other = run("one"), run("other")
    assert contents(one.events) == contents(other.events)
    assert contents(one.truth) == contents(other.truth)


def test_another_seed_makes_another_history(run: Run) -> None:
    one, other = run("one"), run("other", seed=4)
    assert contents(one.events).keys() == contents(other.events).keys()
    assert all(a != b for a, b in zip(contents(one.events).values(), contents(other.events).values(), strict=True))


def test_compressed_files_carry_neither_name_nor_time(run: Run) -> None:
    for path in run().events.iterdir():
        header = path.read_bytes()[:10]
        assert header[3] == 0, "no file name in the header"
        assert header[4:8] == bytes(4), "no time in the header"


@pytest.mark.parametrize("until", [UNTIL, datetime(2026, 2, 27, 13, 30, tzinfo=UTC)])
def test_nothing_is_received_at_or_after_until_and_each_file_is_one_received_day(run: Run, until: datetime) -> None:
    report = run(until=until, file_format=FileFormat.ndjson)
    days = []
    for path in sorted(report.events.iterdir()):
        messages = [message for line in path.read_bytes().splitlines() if (message := parse_or_none(line))]
        received = [datetime.fromisoformat(message["receivedAt"]) for message in messages]
        assert {moment.date().isoformat() for moment in received} == {path.name[:10]}
        assert max(received) < until
        # The same bytes again say the time of the first time.
        first: dict[str, datetime] = {}
        for message, moment in zip(messages, received, strict=True):
            first.setdefault(message["messageId"], moment)
        assert list(first.values()) == sorted(first.values())
        days.append(date.fromisoformat(path.name[:10]))
    assert days[0] == (until - timedelta(days=20)).date()
    assert days[-1] == (until - timedelta(milliseconds=1)).date()


def parse_or_none(line: bytes) -> dict[str, Any] | None:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def test_every_format_says_the_same(run: Run) -> None:
    plain = run("plain", file_format=FileFormat.ndjson)
    packed = run("packed", file_format=FileFormat.ndjson_zst)
    for path in packed.events.iterdir():
        with path.open("rb") as file:
            text = zstandard.ZstdDecompressor().stream_reader(file).read()
        assert text == (plain.events / path.name.removesuffix(".zst")).read_bytes()


def test_parquet_has_the_same_good_messages_and_no_broken_json(run: Run) -> None:
    plain = run("plain", file_format=FileFormat.ndjson)
    columns = run("columns", file_format=FileFormat.parquet)
    assert columns.lines == plain.lines
    assert columns.accepted == plain.accepted
    assert "broken_json" not in columns.broken
    assert columns.broken_count == plain.broken_count
    whole = [parse_or_none(line) for path in sorted(plain.events.iterdir()) for line in path.read_bytes().splitlines()]
    rows = [row for path in sorted(columns.events.iterdir()) for row in pq.read_table(path).to_pylist()]
    for message, row in zip(whole, rows, strict=True):
        if message is not None:
            fields = {name: value for name, value in row.items() if value is not None}
            for name in ("properties", "traits", "context"):
                if name in fields:
                    fields[name] = orjson.loads(fields[name])
            assert fields == message


def test_memory_does_not_grow_with_days(run: Run) -> None:
    def peak(days: int) -> int:
        tracemalloc.reset_peak()
        run(str(days), people=150, days=days, file_format=FileFormat.ndjson)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(5)  # what is imported and cached once
        short, long = peak(20), peak(120)
    finally:
        tracemalloc.stop()
    assert long < short * 1.5


def test_progress_is_told_after_each_day(run: Run) -> None:
    told: list[tuple[int, int, int]] = []
    report = run(progress=lambda *step: told.append(step))
    assert [(day, count) for day, count, _ in told] == [(n, 20) for n in range(1, 21)]
    assert told[-1][2] == report.lines


@pytest.mark.parametrize(("people", "days"), [(1, 1), (1, 40), (3, 2), (2, 16)])
def test_the_smallest_worlds_can_be_made(run: Run, people: int, days: int) -> None:
    report = run(people=people, days=days)
    assert report.lines == report.accepted + report.duplicates + report.broken_count
    assert report.files == len(list(report.events.iterdir()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"people": 0}, "people is 0"),
        ({"days": 0}, "days is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"days": 20_000}, "20,000 days before 2026-03-01 is before 2001"),
    ],
)
def test_impossible_numbers_are_named(run: Run, options: dict[str, int], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        run(**options)


def test_a_folder_in_use_is_left_alone_unless_forced(run: Run, tmp_path: Path) -> None:
    run(people=20, days=5)
    mine = tmp_path / "out" / "events" / "my-own.ndjson"
    mine.write_text("{}\n")
    before = contents(tmp_path / "out")
    with pytest.raises(BadInputError, match="is not empty") as raised:
        run(people=20, days=3)
    assert "--force" in str(raised.value)
    assert contents(tmp_path / "out") == before
    report = run(people=20, days=3, force=True, file_format=FileFormat.ndjson)
    assert mine.read_text() == "{}\n"
    days = ["2026-02-26.ndjson", "2026-02-27.ndjson", "2026-02-28.ndjson"]
    assert sorted(path.name for path in report.events.iterdir()) == [*days, "my-own.ndjson"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="is a file, not a folder"):
        simulate(tmp_path / "file", people=1, days=1, seed=1, until=UNTIL)
    with pytest.raises(BadInputError, match="cannot be written: Not a directory"):
        simulate(tmp_path / "file" / "below", people=1, days=1, seed=1, until=UNTIL)


def test_a_full_disk_is_said_and_leaves_no_half_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segue.events.simulator import files

    def full(self: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files._Lines, "flush", full)
    with pytest.raises(BadInputError, match="No space left on device") as raised:
        run()
    assert "free space" in str(raised.value)
    assert list((tmp_path / "out" / "events").iterdir()) == []
