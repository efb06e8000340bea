"""The lease of one engine: taken, kept in a thread, and lost when another engine has it."""

import logging
import threading
import time

from segue.errors import SegueError
from segue.store import Store

log = logging.getLogger(__name__)

#: An engine that says nothing for so long is taken for dead.
LEASE_SECONDS = 15


class LeaseLostError(SegueError):
    """Another engine has taken over, or ours was taken for dead."""


class Lease:
    """Who holds it may write the store; every write names its token.

    Args:
        store: where it is kept.
        owner: who holds it, for the message that another engine shows.
        stop: set when the engine is to end.
    """

    def __init__(self, store: Store, owner: str, stop: threading.Event) -> None:
        self._store, self._owner, self._stop = store, owner, stop
        self._lost: str | None = None
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.token = 0

    def take(self) -> bool:
        """Wait until it is ours, and keep it from then on; False when the engine is told to stop before."""
        is_told = False
        while not self._stop.is_set():
            token = self._store.acquire(self._owner, ttl_seconds=LEASE_SECONDS)
            if token is not None:
                self.token = token
                self._keeper.start()
                return True
            if not is_told:
                log.warning("another engine holds the lease; this one waits and takes over when that one stops")
                is_told = True
            self._stop.wait(1)
        return False

    def check(self) -> None:
        """Go on only while it is ours.

        Raises:
            LeaseLostError: when it is not.
        """
        if self._lost is not None:
            raise LeaseLostError(self._lost, fix="one engine a home is enough; this one can be started again to wait")

    def give_back(self) -> None:
        """Let another engine have it at once. To be called after `stop` was set."""
        self._keeper.join(timeout=5)
        if self._lost is None:
            self._store.release(self.token)

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._stop.wait(LEASE_SECONDS / 5):
            try:
                if not self._store.renew(self.token):
                    self._lost = "another engine has taken over the lease"
                    break
                renewed = time.monotonic()
            except SegueError as error:
                log.warning("the lease could not be renewed: %s", error.message)
                # Not ours any more for certain; whether somebody has it, the next write will tell.
                if time.monotonic() - renewed > 20 * LEASE_SECONDS:
                    self._lost = "the store could not be reached for too long"
                    break
