"""The end of the outbox in memory: read once, however many endpoints follow it."""

from bisect import bisect_right
from collections.abc import Sequence

from segue.store import Told

_KEPT = 20_000


class Tail:
    """The newest transitions. What is older has to be read from the outbox.

    Args:
        after: the position from which on it is fed.
    """

    def __init__(self, after: str, *, kept: int = _KEPT) -> None:
        self._base, self._kept = after, kept
        self._positions: list[str] = []
        self._rows: list[Told] = []

    @property
    def newest(self) -> str:
        """The last position it was fed."""
        return self._positions[-1] if self._positions else self._base

    def feed(self, rows: Sequence[Told]) -> None:
        """Add what came after the newest."""
        self._rows += rows
        self._positions += (row.position for row in rows)
        if len(self._rows) > 2 * self._kept:
            self._base = self._positions[-self._kept - 1]
            del self._rows[: -self._kept], self._positions[: -self._kept]

    def after(self, position: str, limit: int) -> Sequence[Told] | None:
        """What follows a position, as far as it is known; None when something in between is not in memory."""
        if position < self._base:
            return None
        first = bisect_right(self._positions, position)
        return self._rows[first : first + limit]
