"""The landing writer: the log into files of the landing zone, each entry into exactly one.

A file is named after the positions that it lies between. It appears whole, under its name, before the log hears of
it; so after a crash the name tells whether it is there, and it is never written a second time.
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import zstandard

from segue.durable import make_folder, sync
from segue.errors import BadInputError, LogDownError
from segue.events import COLLECTED
from segue.log import Entry, Log, Position
from segue.settings import Settings

_log = logging.getLogger(__name__)

_READER = "landing"
_SUFFIX = ".ndjson.zst"
_BEGINNING = "0000-start"  # before every position, in a listing too
_DAY = re.compile(rb'"receivedAt":"(\d{4}-\d{2}-\d{2})T')
_WAIT_SECONDS = 0.5
_PAUSE_SECONDS = 2.0


class LandingWriter:
    """Writes files. One at a time for each landing zone.

    Args:
        log: what is read, and trimmed behind both readers.
        settings: where files go, how large they are and how often they come.
    """

    def __init__(self, log: Log, settings: Settings) -> None:
        self._event_log = log
        self._folder = settings.landing_zone / COLLECTED
        self._most_bytes, self._seconds = settings.landing_bytes, settings.landing_seconds
        self._waiting: list[Entry] = []
        self._size = 0
        self._since = 0.0  # monotonic: when the first that waits was read
        self._after: Position = ""  # what is in files
        self._told: Position = ""  # what the log knows of that
        self._tidied = 0.0  # monotonic: when the log was trimmed last

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Write until told to stop; then what waits is written too.

        Raises:
            BadInputError: when another landing writer works on this zone.
        """
        with self._alone():
            self._retrying(self.recover, should_stop)
            while not should_stop():
                self._retrying(self.step, should_stop)
            with suppress(LogDownError, OSError):  # the next writer does it
                self.flush()

    def recover(self) -> None:
        """Take up where the last one ended: a file that is there counts, whether the log has heard of it or not."""
        self._waiting, self._size = [], 0
        self._after = self._told = self._event_log.committed(_READER)
        while (written := self._file_after(self._after)) is not None:
            self._after = written
        self._tidied = time.monotonic()
        if self._told != self._after:
            self._tell()

    def step(self) -> None:
        """Read what has come; write a file when it is time."""
        # Also when nothing comes: a full log that the engine is past only now takes no more until it is trimmed.
        if self._told != self._after or time.monotonic() - self._tidied >= self._seconds:
            self._tell()
        left = self._since + self._seconds - time.monotonic() if self._waiting else self._seconds
        room = self._most_bytes - self._size
        if left > 0 and room > 0:
            last = self._waiting[-1].position if self._waiting else self._after
            entries = self._event_log.read(last, limit_bytes=room, wait_seconds=min(left, _WAIT_SECONDS))
            if entries and not self._waiting:
                self._since = time.monotonic()
            self._waiting += entries
            self._size += sum(len(entry.payload) for entry in entries)
        if self._size >= self._most_bytes or (self._waiting and time.monotonic() - self._since >= self._seconds):
            self.flush()

    def flush(self) -> None:
        """Write a file of what waits, if anything does, and tell the log."""
        if self._waiting:
            last = self._waiting[-1].position
            self._write([entry.payload for entry in self._waiting], last)
            # From here on they are in a file, whether the log can be told so now or later.
            self._waiting, self._size, self._after = [], 0, last
            self._tell()

    def _tell(self) -> None:
        """Let the log know what is in files, and drop what every reader is past."""
        if self._told != self._after:
            self._event_log.commit(_READER, self._after)
            self._told = self._after
        self._event_log.trim()
        self._tidied = time.monotonic()

    def _write(self, payloads: list[bytes], last: Position) -> None:
        day = _DAY.search(payloads[0][:200])
        folder = self._folder / (day[1].decode() if day else "undated")
        make_folder(folder)
        path = folder / f"{self._after or _BEGINNING}_{last}{_SUFFIX}"
        fresh = folder / f".{path.name}.tmp"
        packer = zstandard.ZstdCompressor(level=3, write_checksum=True)
        try:
            with fresh.open("wb") as file:
                with packer.stream_writer(file, closefd=False) as packed:
                    for payload in payloads:
                        packed.write(payload)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        sync(folder)

    def _file_after(self, position: Position) -> Position | None:
        """The last position in the file that begins after this one; None when there is no such file."""
        start = f"{position or _BEGINNING}_"
        for path in self._folder.glob(f"*/{start}*{_SUFFIX}"):
            return path.name[len(start) : -len(_SUFFIX)]
        return None

    def _retrying(self, work: Callable[[], None], should_stop: Callable[[], bool]) -> None:
        """Do it until it works: nothing is lost meanwhile, since the log keeps what was not committed."""
        while not should_stop():
            try:
                work()
                return
            except LogDownError as error:
                _log.warning("%s; the landing writer waits for it", error.message)
            except OSError as error:
                _log.error("cannot write to %s: %s; trying again", self._folder, error.strerror)
            _pause(_PAUSE_SECONDS, should_stop)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        make_folder(self._folder)
        with (self._folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInputError(
                    f"another landing writer works on {self._folder}", fix="one is enough; stop the other first"
                ) from None
            yield


def _pause(seconds: float, should_stop: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not should_stop():
        time.sleep(0.1)
