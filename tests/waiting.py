"""Waiting for what will come, and no longer."""

import time
from collections.abc import Callable


def until(is_so: Callable[[], object], *, seconds: float = 30) -> None:
    """Look again and again; fails when it does not come in that time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
