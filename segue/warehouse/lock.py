"""One writer at a time, across processes: an advisory lock that dies with its holder."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segue.errors import BusyError, WarehouseError
from segue.settings import make_folder

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_SAY_AFTER_SECONDS = 3.0


class WriterLock:
    """The right to write the warehouse. The kernel releases it when the holder dies, so no lock is ever stale.

    Not re-entrant: taking it twice in one process waits for itself.

    Args:
        path: the lock file; its content names the holder, for messages only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self, purpose: str, *, patience: float | None = None) -> int:
        """Wait for the lock and return the file descriptor that holds it; say once who is in the way.

        Args:
            patience: seconds to wait at most; left out: as long as it takes.

        Raises:
            BusyError: when the patience has ended, naming the holder.
            WarehouseError: when the lock file cannot be made.
        """
        try:
            make_folder(self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WarehouseError(
                f"the warehouse cannot be written: {error.filename}: {error.strerror}",
                fix="check SEGUE_HOME and the permissions of its folders, and that its disk has space",
            ) from error
        started = time.monotonic()
        said = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - started
                if patience is not None and waited >= patience:
                    os.close(descriptor)
                    raise BusyError(
                        f"the warehouse is being written by another: {self.holder() or 'unknown'}",
                        fix="try again when that has ended",
                    ) from None
                if not said and waited > _SAY_AFTER_SECONDS:
                    log.warning("%s: waiting until this has ended: %s", purpose, self.holder() or "unknown")
                    said = True
                time.sleep(_POLL_SECONDS)
            except BaseException:
                os.close(descriptor)
                raise
        with suppress(OSError):  # a note for people; a full disk is told by whoever writes what matters
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode(), 0)
        return descriptor

    @contextmanager
    def held(self, purpose: str, *, patience: float | None = None) -> Iterator[None]:
        """Hold the lock for the block; `patience` as in `acquire`."""
        descriptor = self.acquire(purpose, patience=patience)
        try:
            yield
        finally:
            os.close(descriptor)

    def holder(self) -> str | None:
        """Who holds, or last held, the lock: `purpose (pid N)`; None when never taken."""
        try:
            note = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None
        return f"{note['purpose']} (pid {note['pid']})"
