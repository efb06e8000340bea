"""Reads the log and judges what is in it, beside the evaluation: while one batch is evaluated the next is made."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue

import pyarrow as pa

from segue.log import Log, LogDownError, Position
from segue.realtime.start import Judge

log = logging.getLogger(__name__)

#: Payload that is judged together at most: about 25,000 messages.
BATCH_BYTES = 16_000_000

_WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Batch:
    """Whatever was waiting in the log, judged."""

    accepted: pa.Table  # as raw.events
    position: Position  # of its last entry
    received: float  # time.monotonic() when it was read
    is_full: bool  # there is more in the log


class Intake:
    """A thread that makes batches. At most one waits, so that under load each is as large as it can be.

    Args:
        event_log: what to read.
        after: where to begin.
        judge: lines of JSON → accepted messages.
    """

    def __init__(self, event_log: Log, after: Position, judge: Judge) -> None:
        self._log, self._after, self._judge = event_log, after, judge
        self._queue: Queue[Batch] = Queue(maxsize=1)
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it had read and nobody took is read again by the next."""
        self._stop.set()
        self._thread.join(timeout=5)

    def take(self, wait_seconds: float) -> Batch | None:
        """The next batch; None when none came in time. Raises what stopped the thread."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._queue.get(timeout=wait_seconds) if wait_seconds > 0 else self._queue.get_nowait()
        except Empty:
            return None

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        except Exception as error:  # told to whoever takes the next batch
            self._failure = error

    def _step(self) -> None:
        try:
            entries = self._log.read(self._after, limit_bytes=BATCH_BYTES, wait_seconds=_WAIT_SECONDS)
        except LogDownError as error:
            log.warning("%s; trying again", error.message)
            self._stop.wait(error.retry_after_seconds)
            return
        if not entries:
            return
        read_at = time.monotonic()
        accepted = self._judge(_joined([entry.payload for entry in entries]))
        self._after = entries[-1].position
        size = sum(len(entry.payload) for entry in entries)
        self._put(Batch(accepted, self._after, read_at, is_full=size > BATCH_BYTES * 3 // 4))

    def _put(self, batch: Batch) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(batch, timeout=0.2)
            except Full:
                continue
            return


def _joined(payloads: Sequence[bytes]) -> bytes:
    return b"".join(payload if payload.endswith(b"\n") else payload + b"\n" for payload in payloads)
