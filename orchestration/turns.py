"""Whose turn it is: a lock between processes that dies with its holder."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segue.settings import cannot_write, make_folder


@contextmanager
def turn(path: Path, say: Callable[[str], object] = print) -> Iterator[None]:
    """Hold the lock file for the block; say once when somebody else has it.

    Raises:
        BadSettingError: when the folder of the lock file cannot be written.
    """
    try:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is working on this warehouse; waiting for it to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
