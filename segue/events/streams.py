"""The bytes of an event file, whatever it is packed in, and what is wrong with them."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import duckdb
import zstandard

from segue.errors import BadInputError

_BLOCK = 1 << 18
#: Bytes at the start that tell what a file is.
_START = 8
#: Small, since a damaged block gives nothing and a good one may grow a thousandfold.
_ZSTD_BLOCK = 1 << 14
_MOST_PER_BLOCK = 1 << 22

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_UTF8_MARK = b"\xef\xbb\xbf"


class Stream(Protocol):
    """Newline-delimited JSON, read in pieces."""

    #: Set at the end when the file broke off or is corrupt: a sentence.
    damage: str | None

    def readinto(self, target: memoryview) -> int:
        """Fill the start of `target`; 0 only at the end."""
        ...

    def close(self) -> None: ...


class BlockStream:
    """A stream over blocks of bytes of any size. A generator may set `damage` on it before it ends."""

    def __init__(self) -> None:
        self.damage: str | None = None
        self._blocks: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")
        self._is_start = True

    def feed(self, blocks: Iterator[bytes]) -> "BlockStream":
        self._blocks = blocks
        return self

    def readinto(self, target: memoryview) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            if self._is_start and block:
                self._is_start = False
                block = block.removeprefix(_UTF8_MARK)
            self._rest = memoryview(block)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._blocks = iter(())


class PlainStream:
    """A file that is not compressed: read straight into the buffer."""

    def __init__(self, path: Path, skip: int) -> None:
        self.damage: str | None = None
        self._file = path.open("rb", buffering=0)
        self._file.seek(skip)

    def readinto(self, target: memoryview) -> int:
        return self._file.readinto(target) or 0

    def close(self) -> None:
        self._file.close()


def open_stream(path: Path) -> Stream:
    """Open an event file by what its first bytes say, not by its name.

    Raises:
        BadInputError: when the file cannot be read at all, with the fix.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except FileNotFoundError:
        raise BadInputError(f"{path} does not exist", fix="check the path") from None
    except PermissionError:
        mode = "+rx" if path.is_dir() else "+r"
        raise BadInputError(
            f"{path}: no permission to read it", fix=f"chmod {mode} {path}, or run as its owner"
        ) from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}", fix="check the disk it lies on") from None
    if (encoding := _encoding(start)) is not None:
        raise BadInputError(
            f"{path} is {encoding} text, events are read as UTF-8",
            fix=f"iconv -f {encoding} -t UTF-8 {path.name} > fixed{path.suffix}",
        )
    if start.startswith(b"PAR1"):
        return BlockStream().feed(parquet_lines(path))
    stream = BlockStream()
    if start.startswith(_GZIP):
        return stream.feed(_gunzip(path, stream))
    if start.startswith(_ZSTD):
        return stream.feed(_unzstd(path, stream))
    return PlainStream(path, len(_UTF8_MARK) if start.startswith(_UTF8_MARK) else 0)


def check_whole(path: Path) -> None:
    """Read a file to its end, for readers that take what they get of a packed file that breaks off.

    Raises:
        BadInputError: when it cannot be read at all, breaks off or is corrupt; names the line and the fix.
    """
    stream = open_stream(path)
    with path.open("rb") as file:
        is_packed = file.read(_START).startswith((_GZIP, _ZSTD))
    if not is_packed:  # whatever is there is all
        stream.close()
        return
    buffer = memoryview(bytearray(_BLOCK))
    line = 1
    while count := stream.readinto(buffer):
        line += buffer[:count].tobytes().count(b"\n")
    if stream.damage is not None:
        raise BadInputError(
            f"{path}, line {line}: {stream.damage}",
            fix="get the whole file again; nothing of it was read",
        )


def first_line(path: Path) -> str:
    """The beginning of a file as text, up to the first line end."""
    stream, buffer = open_stream(path), memoryview(bytearray(_BLOCK))
    try:
        count = stream.readinto(buffer)
    finally:
        stream.close()
    return buffer[:count].tobytes().partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r")


def _encoding(start: bytes) -> str | None:
    """An encoding that is not UTF-8, by its mark, or by the zeros that it puts beside each letter."""
    for mark, encoding in _ENCODINGS:
        if start.startswith(mark):
            return encoding
    even, odd = start[::2], start[1::2]
    if len(start) == _START and not any(odd) and all(even):
        return "UTF-16LE"
    if len(start) == _START and not any(even) and all(odd):
        return "UTF-16BE"
    return None


def _gunzip(path: Path, stream: BlockStream) -> Iterator[bytes]:
    with path.open("rb") as file:
        member = zlib.decompressobj(31)
        is_open = False
        while data := file.read(_BLOCK):
            while data:
                if not is_open:  # members may be padded with zeros
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    is_open = True
                spare = member.copy()
                try:
                    text = member.decompress(data, _MOST_PER_BLOCK)
                except zlib.error as error:
                    yield from _up_to_the_damage(spare, data)
                    stream.damage = f"the gzip data is corrupt near byte {file.tell():,} ({error})"
                    return
                yield text
                data = member.unconsumed_tail
                if member.eof:
                    data, member, is_open = member.unused_data, zlib.decompressobj(31), False
        if is_open:
            yield member.flush()
        if is_open and not member.eof:
            stream.damage = "the gzip file ends before its end mark: it was cut off"


def _up_to_the_damage(member: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """zlib gives nothing of a block that is damaged; so give it one byte after the other."""
    for at in range(len(data)):
        try:
            text = member.decompress(data[at : at + 1])
        except zlib.error:
            return
        yield text


def _unzstd(path: Path, stream: BlockStream) -> Iterator[bytes]:
    with path.open("rb") as file:
        frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        is_open = False
        while data := file.read(_ZSTD_BLOCK):
            while data:
                is_open = True
                try:
                    yield frame.decompress(data)
                except zstandard.ZstdError as error:
                    stream.damage = f"the zstd data is corrupt near byte {file.tell():,} ({error})"
                    return
                data = b""
                if frame.eof:
                    data = frame.unused_data
                    frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
                    is_open = False
        if is_open:
            stream.damage = "the zstd file ends before its end mark: it was cut off"


def parquet_lines(path: Path) -> Iterator[bytes]:
    """The rows of a Parquet file as lines of JSON; text columns that hold objects become objects.

    Raises:
        BadInputError: when the file is not whole.
    """
    with duckdb.connect(":memory:", config={"threads": 1}) as con:
        con.execute("set TimeZone = 'UTC'")
        try:
            con.execute(
                "create view rows as from read_parquet($1)".replace("$1", "'" + str(path).replace("'", "''") + "'")
            )
            kinds = {name: kind for name, kind, *_ in con.execute("describe rows").fetchall()}
            texts = [n for n in ("properties", "traits", "context") if kinds.get(n) in ("VARCHAR", "JSON")]
            replace = ", ".join(f"case when json_valid({n}) then {n}::json else to_json({n}) end as {n}" for n in texts)
            query = (
                f"select to_json(r)::varchar from (select * {f'replace ({replace})' if replace else ''} from rows) as r"
            )
            answer = con.execute(query)
            while rows := answer.fetchmany(4096):
                yield "".join(f"{line}\n" for (line,) in rows).encode()
        except duckdb.Error as error:
            raise BadInputError(
                f"{path} is not a whole Parquet file: {_first_lines(error)}", fix="write it again, or remove it"
            ) from None


def _first_lines(error: duckdb.Error) -> str:
    """What DuckDB says, without the query that it said it about."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split())
