"""SQL that does not end is stopped, so that it holds up nobody else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb

from segue.warehouse.connect import Connection


def stop_after(con: Connection, seconds: float) -> threading.Timer:
    """Interrupt what `con` works on in so many seconds: it then raises `duckdb.InterruptException`.

    Returns:
        The timer, to be cancelled when the work is done.
    """

    def interrupt() -> None:
        with suppress(duckdb.ConnectionException):  # closed meanwhile, so it has ended
            con.interrupt()

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    return timer


@contextmanager
def patience(con: Connection, seconds: float) -> Iterator[None]:
    """What is executed on `con` inside may take so long; then it raises `duckdb.InterruptException`."""
    timer = stop_after(con, seconds)
    try:
        yield
    finally:
        timer.cancel()


def too_long(seconds: float) -> str:
    """What is said of a model that was stopped."""
    return f"its SQL did not end within {seconds:g} s and was stopped (SEGUE_MODEL_SECONDS)"
