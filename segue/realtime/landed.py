"""What comes into the warehouse while the engine runs, looked for beside the evaluation: opening it takes a moment."""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from segue.errors import SegueError
from segue.realtime.start import Sources

log = logging.getLogger(__name__)

#: Messages that are handed over together: nearly all came through the log before, and batches wait meanwhile.
_TOGETHER = 2_000


@dataclass(frozen=True, slots=True)
class Landed:
    """A piece of what was found, in the order of its loads."""

    messages: pa.Table | None
    load_id: int  # with this piece, all up to this load is handed over
    held_is_old: bool  # what `Sources.held` said is not what the warehouse says now
    decisions: Sequence[Mapping[str, Any]] | None = None  # all about identity, when there is a new one


class Watch:
    """Looks every so often, in a thread of its own.

    Attributes:
        lock: whoever else uses the sources holds it.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._found: deque[Landed] = deque()
        self.lock = threading.Lock()

    def run(self, stop: threading.Event, seconds: float) -> None:
        """Look until told to stop."""
        while not stop.wait(seconds):
            try:
                with self.lock:
                    self.look()
            except (SegueError, duckdb.Error, OSError) as error:
                log.warning("the warehouse cannot be read just now (%s); later", type(error).__name__)

    def look(self) -> None:
        """Look once."""
        before = self._sources.load_id
        news = self._sources.news()
        for piece in () if news.fresh is None else news.fresh.to_batches(max_chunksize=_TOGETHER):
            self._found.append(Landed(pa.Table.from_batches([piece]), before, held_is_old=False))
        if news.fresh is not None or news.held_is_old or news.decisions is not None:
            self._found.append(Landed(None, self._sources.load_id, news.held_is_old, news.decisions))

    @property
    def has_some(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._found)

    def take(self) -> Landed | None:
        """The next piece; None when there is none."""
        return self._found.popleft() if self._found else None

    def forget(self) -> None:
        """The history is loaded anew, and what waits is part of it."""
        self._found.clear()
