"""Reads the log beside the evaluation: whatever has come when a batch is asked for is in it."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from segue.log import Entry, Log, LogDownError, Position
from segue.realtime.start import LineJudge

log = logging.getLogger(__name__)

#: Payload of one batch at most: about 25,000 messages.
BATCH_BYTES = 16_000_000

#: Payload that is judged while the evaluation is busy; less than that is left for `take`, so that what comes until then
#: is judged with it.
_AHEAD_BYTES = 250_000

_WAIT_SECONDS = 0.5

#: Between two reads: each of many small entries would be read alone, and take the processor from the evaluation.
_PAUSE_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Batch:
    """Whatever was waiting in the log, judged."""

    accepted: pa.Table  # as raw.events
    position: Position  # of its last entry
    received: float  # time.monotonic() when the first of it was read
    is_full: bool  # there is more in the log


class Intake:
    """A thread that reads ahead, by a batch at most.

    Args:
        event_log: what to read.
        after: where to begin.
        judge: lines of JSON → accepted messages.
    """

    def __init__(self, event_log: Log, after: Position, judge: LineJudge) -> None:
        self._log, self._after, self._judge = event_log, after, judge
        self._changed = threading.Condition()  # guards what follows
        self._entries: list[Entry] = []  # read
        self._accepted: list[pa.Table] = []  # judged; these come before the entries
        self._position = after  # of the last that was judged
        self._bytes = 0  # of both
        self._since = 0.0
        self._failure: Exception | None = None
        self._judging = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it had read and nobody took is read again by the next."""
        self._stop.set()
        self._thread.join(timeout=5)

    def take(self, wait_seconds: float) -> Batch | None:
        """All that was read; None when nothing came in time. Raises what stopped the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes or self._failure, wait_seconds)
            if self._failure is not None:
                raise self._failure
            if not self._bytes:
                return None
        with self._judging:  # the thread may have begun
            self._judge_waiting()
            with self._changed:
                accepted, self._accepted = self._accepted, []
                left = sum(len(entry.payload) for entry in self._entries)
                size, self._bytes = self._bytes - left, left
                position, since, self._since = self._position, self._since, time.monotonic()
                self._changed.notify_all()
        return Batch(pa.concat_tables(accepted), position, since, is_full=size > BATCH_BYTES * 3 // 4)

    def _judge_waiting(self) -> None:
        """To be called by who holds `_judging`."""
        with self._changed:
            entries, self._entries = self._entries, []
        if not entries:
            return
        accepted = self._judge(_joined([entry.payload for entry in entries]))
        with self._changed:
            self._accepted.append(accepted)
            self._position = entries[-1].position

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        except Exception as error:  # told to whoever takes the next batch
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _step(self) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._bytes < BATCH_BYTES, _WAIT_SECONDS):
                return
            room = BATCH_BYTES - self._bytes
        try:
            entries = self._log.read(self._after, limit_bytes=room, wait_seconds=_WAIT_SECONDS)
        except LogDownError as error:
            log.warning("%s; trying again", error.message)
            self._stop.wait(error.retry_after_seconds)
            return
        if not entries:
            return
        self._after = entries[-1].position
        with self._changed:
            if not self._bytes:
                self._since = time.monotonic()
            self._entries += entries
            self._bytes += sum(len(entry.payload) for entry in entries)
            is_much = sum(len(entry.payload) for entry in self._entries) > _AHEAD_BYTES
            self._changed.notify_all()
        if is_much:
            with self._judging:
                self._judge_waiting()
        self._stop.wait(_PAUSE_SECONDS)


def _joined(payloads: Sequence[bytes]) -> bytes:
    return b"".join(payload if payload.endswith(b"\n") else payload + b"\n" for payload in payloads)
