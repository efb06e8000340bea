"""Event files cut into chunks of whole lines, in two buffers that are used in turn: memory stays flat.

What cannot be a line of JSON text (too long, not UTF-8, cut off) comes out as a fault, with its line number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.events.streams import Stream

#: Bytes of text that are looked at together.
CHUNK_BYTES = 1 << 26
#: A longer line is refused: no message is that large, and it must fit the buffer.
MAX_LINE_BYTES = 1 << 24
#: So much of a refused line is kept as its payload.
KEPT_BYTES = 1 << 16

#: As JSON writes them; of the same length, so that nothing moves.
_NUL, _BROKEN = b"\\u0000", b"\\ufffd"
_BACKSLASH = ord("\\")

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A piece of a file that is no line of text."""

    file: int  # index of the file
    line: int  # from 1
    reason: str
    detail: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Lines of one or several files. `lines` lies in a shared buffer, which the chunk after the next one reuses."""

    lines: pa.LargeStringArray
    file: Numbers  # of each line: index of its file
    line: Numbers  # of each line: its number in the file, from 1
    faults: tuple[Fault, ...]
    is_boundary: bool  # the chunk ends with the end of a file: here may be committed
    files_done: int  # how many files have been read to their end


@dataclass(slots=True)
class _Pending:
    """What has been cut since the last chunk."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    file: list[Numbers] = field(default_factory=list)
    line: list[Numbers] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


class LineReader:
    """Cuts streams into chunks.

    Args:
        open_file: opens the file of that index.
        close_file: called when the file of that index has been read to its end; may raise to refuse it.
        chunk_bytes: size of the buffer.
        max_line_bytes: longer lines become faults; at most half a chunk.
    """

    def __init__(
        self,
        open_file: Callable[[int], Stream],
        close_file: Callable[[int], None],
        *,
        chunk_bytes: int = CHUNK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._open = open_file
        self._close = close_file
        self._max_line = min(max_line_bytes, chunk_bytes // 2)
        self._buffer, self._other = bytearray(chunk_bytes), bytearray(chunk_bytes)
        self._view, self._other_view = memoryview(self._buffer), memoryview(self._other)
        self._kept = b""  # beginning of the line that is being skipped

    def chunks(self, files: Sequence[int]) -> Iterator[Chunk]:
        """The lines of the files, in order. Small files share a chunk; a large one has several."""
        pending = _Pending()
        used = 0  # bytes of the buffer that belong to whole lines of `pending`
        read_since_boundary = 0
        for position, file in enumerate(files):
            stream = self._open(file)
            try:
                line, fill, skipped = 1, used, 0
                while True:
                    if fill == len(self._buffer):
                        yield self._chunk(pending, used, is_boundary=False, files_done=position)
                        pending = _Pending()
                        self._turn(used, fill)
                        used, fill = 0, fill - used
                    count = stream.readinto(self._view[fill:])
                    read_since_boundary += count
                    if count == 0:
                        break
                    used, fill, line, skipped = self._cut(pending, used, fill, fill + count, file, line, skipped)
                used = self._last_line(pending, used, fill, file, line, skipped, stream.damage)
            finally:
                stream.close()
            self._close(file)
            is_last = position == len(files) - 1
            if is_last or read_since_boundary >= len(self._buffer) // 4:
                yield self._chunk(pending, used, is_boundary=True, files_done=position + 1)
                self._turn(used, used)
                pending, used, read_since_boundary = _Pending(), 0, 0

    def _turn(self, used: int, fill: int) -> None:
        """Go on in the other buffer, beginning with what is left of this one."""
        self._other[: fill - used] = self._view[used:fill]
        self._buffer, self._other = self._other, self._buffer
        self._view, self._other_view = self._other_view, self._view

    def _cut(
        self, pending: _Pending, used: int, scan: int, fill: int, file: int, line: int, skipped: int
    ) -> tuple[int, int, int, int]:
        """Find the line ends in buffer[scan:fill]; returns the new used, fill, line and skipped."""
        if skipped:  # inside a line that is too long: drop up to its end
            end = self._buffer.find(b"\n", scan, fill)
            if end < 0:
                return used, scan, line, skipped + fill - scan
            self._too_long(pending, file, line, skipped + end - scan)
            line += 1
            rest = fill - end - 1
            self._buffer[scan : scan + rest] = self._buffer[end + 1 : fill]
            fill, skipped = scan + rest, 0
        ends: list[int] = []
        find, start = self._buffer.find, scan
        while True:
            end = find(b"\n", start, fill) + 1
            if not end:
                break
            ends.append(end)
            start = end
        if ends:
            pending.starts.append(used)
            pending.starts += ends[:-1]
            pending.ends += ends
            pending.file.append(np.full(len(ends), file, np.int64))
            pending.line.append(np.arange(line, line + len(ends), dtype=np.int64))
            line += len(ends)
            used = ends[-1]
        if fill - used > self._max_line:
            # Keep the beginning for the quarantine, forget the rest as it comes.
            self._kept = bytes(self._buffer[used : used + KEPT_BYTES])
            skipped = fill - used
            fill = used
        return used, fill, line, skipped

    def _last_line(
        self, pending: _Pending, used: int, fill: int, file: int, line: int, skipped: int, damage: str | None
    ) -> int:
        """What stands after the last line end. Returns the new used."""
        if skipped:
            self._too_long(pending, file, line, skipped)
            line += 1
        rest = bytes(self._buffer[used:fill])
        if damage is not None:
            detail = f"line {line}: {damage}; the lines before it were read"
            pending.faults.append(
                Fault(file=file, line=line, reason="truncated_file", detail=detail, payload=as_text(rest))
            )
        elif rest:
            pending.starts.append(used)
            pending.ends.append(fill)
            pending.file.append(np.full(1, file, np.int64))
            pending.line.append(np.full(1, line, np.int64))
            used = fill
        return used

    def _too_long(self, pending: _Pending, file: int, line: int, length: int) -> None:
        detail = (
            f"line {line} has {length:,} bytes, more than {self._max_line:,}; its first {KEPT_BYTES:,} are kept here. "
            "Was a line end lost, or is the file one large JSON array? Write one message a line"
        )
        pending.faults.append(
            Fault(file=file, line=line, reason="line_too_long", detail=detail, payload=as_text(self._kept))
        )

    def _chunk(self, pending: _Pending, used: int, *, is_boundary: bool, files_done: int) -> Chunk:
        mend_nul(self._buffer, used)
        starts, ends = np.array(pending.starts, np.int64), np.array(pending.ends, np.int64)
        file = np.concatenate(pending.file) if pending.file else np.empty(0, np.int64)
        line = np.concatenate(pending.line) if pending.line else np.empty(0, np.int64)
        keep = np.ones(len(starts), bool)
        lengths = ends - starts
        for index in np.flatnonzero(lengths > self._max_line):
            keep[index] = False
            self._kept = bytes(self._buffer[starts[index] : starts[index] + KEPT_BYTES])
            self._too_long(pending, int(file[index]), int(line[index]), int(lengths[index]) - 1)
        for index in np.flatnonzero(lengths <= 8):  # blank lines are no messages
            keep[index] = bool(self._buffer[starts[index] : ends[index]].strip())
        offsets = np.append(starts, ends[-1:]) if len(starts) else np.zeros(1, np.int64)
        lines = pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(self._view[:used]))
        try:
            lines.validate(full=True)
        except pa.ArrowInvalid:
            for index in np.flatnonzero(keep):
                if (
                    fault := self._bad_encoding(starts[index], ends[index], int(file[index]), int(line[index]))
                ) is not None:
                    keep[index] = False
                    pending.faults.append(fault)
        if not keep.all():
            chosen = np.flatnonzero(keep)
            lines = pa.array([bytes(self._buffer[starts[i] : ends[i]]) for i in chosen], pa.large_binary()).cast(
                pa.large_string()
            )
            file, line = file[chosen], line[chosen]
        return Chunk(
            lines=lines,
            file=file,
            line=line,
            faults=tuple(pending.faults),
            is_boundary=is_boundary,
            files_done=files_done,
        )

    def _bad_encoding(self, start: int, end: int, file: int, line: int) -> Fault | None:
        raw = bytes(self._buffer[start:end])
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            detail = (
                f"line {line}: byte 0x{raw[error.start]:02x} at column {error.start + 1} is not UTF-8. If the file is "
                "Windows-1252 or Latin-1: iconv -f WINDOWS-1252 -t UTF-8"
            )
            return Fault(file=file, line=line, reason="bad_encoding", detail=detail, payload=as_text(raw))
        return None


def mend_nul(text: bytearray, size: int) -> None:
    """Write the character that stands for a broken one wherever JSON spells the character NUL, in the first `size`.

    C ends a text at a NUL, and so does the catalog of the warehouse when it is asked for one: a single message with
    it in an identifier would have every later look at the table fail.
    """
    at = text.find(_NUL, 0, size)
    while at >= 0:
        before = at
        while before > 0 and text[before - 1] == _BACKSLASH:
            before -= 1
        if (at - before) % 2 == 0:  # else the backslash is itself escaped, and zeros follow
            text[at : at + len(_NUL)] = _BROKEN
        at = text.find(_NUL, at + len(_NUL), size)


def without_nul(text: str) -> str:
    """The same for one text."""
    mended = bytearray(text.encode())
    mend_nul(mended, len(mended))
    return mended.decode()


def as_text(raw: bytes) -> str:
    """Bytes as text that can be stored: what is not UTF-8 is written as \\xNN."""
    return raw.rstrip(b"\r\n").decode("utf-8", "backslashreplace").replace("\0", "\\x00")
