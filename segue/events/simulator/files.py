"""Files of messages: one a day, whole or absent, the same bytes for the same messages."""

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from segue.errors import BadInputError


class FileFormat(StrEnum):
    """How the files of events are written."""

    ndjson = "ndjson"
    ndjson_gz = "ndjson.gz"
    ndjson_zst = "ndjson.zst"
    parquet = "parquet"


#: The names we write, and so the only ones that `--force` removes.
OWN_NAME = re.compile(r"\d{4}-\d\d-\d\d\.(ndjson|ndjson\.gz|ndjson\.zst|parquet)(\.part)?")

_LINES_AT_ONCE = 2000
_TEXTS = (
    "messageId", "type", "event", "name", "userId", "anonymousId", "previousId", "groupId",
    "timestamp", "originalTimestamp", "sentAt", "receivedAt",
)  # fmt: skip
_OBJECTS = ("properties", "traits", "context")
_SCHEMA = pa.schema([(name, pa.string()) for name in (*_TEXTS, *_OBJECTS)])


class DayFile(Protocol):
    """A file that takes messages."""

    count: int  # messages written so far

    def write(self, line: bytes) -> int:
        """Add one message; its line (or row), from 1."""


class _Lines:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []
        self.count = 0

    def write(self, line: bytes) -> int:
        self._waiting.append(line)
        self.count += 1
        if len(self._waiting) >= _LINES_AT_ONCE:
            self.flush()
        return self.count

    def flush(self) -> None:
        if self._waiting:
            self._stream.write(b"\n".join(self._waiting) + b"\n")
            self._waiting.clear()


class _Rows:
    """Objects become JSON text, as they do in the Parquet files of warehouse exports."""

    def __init__(self, stream: BinaryIO) -> None:
        self._writer = pq.ParquetWriter(stream, _SCHEMA, compression="zstd")
        self._waiting: list[dict[str, str]] = []
        self.count = 0

    def write(self, line: bytes) -> int:
        message = orjson.loads(line)
        self._waiting.append(
            message | {name: orjson.dumps(message[name]).decode() for name in _OBJECTS if name in message}
        )
        self.count += 1
        if len(self._waiting) >= 10 * _LINES_AT_ONCE:
            self.flush()
        return self.count

    def flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=_SCHEMA))
            self._waiting.clear()

    def close(self) -> None:
        self._writer.close()


@contextmanager
def day_file(path: Path, file_format: FileFormat) -> Iterator[DayFile]:
    """A file under its name only when it is whole: an ingest that watches the folder never sees a half one."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as raw:
            if file_format is FileFormat.parquet:
                rows = _Rows(raw)
                yield rows
                rows.flush()
                rows.close()
            else:
                with _compressed(raw, file_format) as stream:
                    lines = _Lines(stream)
                    yield lines
                    lines.flush()
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def _compressed(raw: BinaryIO, file_format: FileFormat) -> Iterator[BinaryIO]:
    if file_format is FileFormat.ndjson_gz:
        # No name and no time in the header: the same messages are the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=1, mtime=0) as stream:
            yield cast(BinaryIO, stream)
    elif file_format is FileFormat.ndjson_zst:
        with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as stream:
            yield cast(BinaryIO, stream)
    else:
        yield raw


def prepare_folders(out: Path, *, force: bool) -> tuple[Path, Path]:
    """The folders for events and truth, empty of what an earlier simulation left there.

    Raises:
        BadInputError: when the folder has something in it and `force` is not given, or cannot be written.
    """
    events, truth = out / "events", out / "truth"
    try:
        if out.exists() and not out.is_dir():
            raise BadInputError(f"{out} is a file, not a folder", fix="name a folder that is new or empty")
        if out.is_dir() and any(out.iterdir()) and not force:
            raise BadInputError(
                f"{out} is not empty",
                fix="name another folder, or pass --force to replace the simulation in it; other files stay",
            )
        for folder in (events, truth):
            folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(events.iterdir()):
            if OWN_NAME.fullmatch(path.name):
                path.unlink()
        for path in sorted(truth.iterdir()):
            if path.name in TRUTH_FILES:
                path.unlink()
    except OSError as error:
        raise cannot_write(out, error) from None
    return events, truth


#: Files of the truth, by what they hold.
TRUTH_FILES = ("people.parquet", "identifiers.parquet", "disturbed_days.parquet", "messages.parquet", "summary.json")


def cannot_write(path: Path, error: OSError) -> BadInputError:
    """What a person needs to know when a folder does not take our files."""
    return BadInputError(
        f"{error.filename or path} cannot be written: {error.strerror or error}",
        fix="check the permissions of the folder and the free space on its disk",
    )
