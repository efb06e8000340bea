"""How much one token may ask."""

from collections.abc import Callable


class RateLimit:
    """A bucket for each token: filled with `per_second` requests each second, and never more than one second's.

    Args:
        now: seconds of a clock that never steps back.
    """

    def __init__(self, per_second: int, now: Callable[[], float]) -> None:
        self._per_second, self._now = per_second, now
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_seconds(self, token: str) -> float:
        """0 when the request may be made, and it is counted then; else how long until it may."""
        now = self._now()
        left, seen = self._buckets.get(token, (float(self._per_second), now))
        left = min(float(self._per_second), left + (now - seen) * self._per_second)
        if left < 1:
            self._buckets[token] = (left, now)
            return (1 - left) / self._per_second
        self._buckets[token] = (left - 1, now)
        return 0.0
