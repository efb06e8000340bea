"""What a client can make a server say, bounded: whoever sends rubbish must not fill a disk, or a pipe nobody reads."""

import logging
import time
from collections.abc import Callable

#: Loggers on which a request can put a line. uvicorn warns of each request that is none, asyncio of each lost client.
_LOGGERS = ("uvicorn.error", "asyncio", "segue.collector.app")
_SECONDS = 60.0
_TEXTS = 1_000


class BoundedLog(logging.Filter):
    """Lets one kind of line through once a minute, and says then how many were left out.

    Args:
        now: seconds of a clock that never steps back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        now, text = self._now(), str(record.msg)
        at, left_out = self._said.get(text, (now - _SECONDS, 0))
        if now - at < _SECONDS:
            self._said[text] = (at, left_out + 1)
            return False
        if len(self._said) >= _TEXTS:
            self._said.clear()
        self._said[text] = (now, 0)
        if left_out:
            record.msg = f"{text} (and {left_out} times before)"
        return True


def bound_log() -> None:
    """Bound what requests can put into the log of this process."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(BoundedLog())
