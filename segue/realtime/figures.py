"""How the engine is doing: what the live page and the metrics show."""

import resource
from collections import deque
from typing import Any

from segue.realtime.engine import Engine

#: Batches whose latency is remembered.
_REMEMBERED = 2_000


class Share:
    """Work that may take a share of the time, and comes in turns. Times in seconds, as `time.monotonic` counts."""

    def __init__(self, share: float) -> None:
        self._pause = 1 / share - 1
        self._next = 0.0
        self.seconds = 0.0

    def may(self, now: float) -> bool:
        """Whether it is its turn."""
        return now >= self._next

    def took(self, started: float, now: float) -> None:
        """A turn is over."""
        self.seconds += now - started
        self._next = now + (now - started) * self._pause


class Figures:
    """Counters of one engine. Times are those of `time.monotonic`, in seconds."""

    def __init__(self) -> None:
        self.event_count = 0
        self.batch_count = 0
        self.big = Share(0.2)  # of those with very many events
        self.looking = Share(0.2)  # of looking ahead, while batches wait
        self.errors = {"definitions": "", "project": "", "contracts": ""}  # what of these is broken, and how
        self._latency: deque[float] = deque(maxlen=_REMEMBERED)

    def batch(self, events: int) -> None:
        """A batch was taken into the history."""
        self.event_count += events
        self.batch_count += 1

    def applied(self, seconds: float) -> None:
        """What was taken is applied, so long after the last of it was read from the log."""
        self._latency.append(seconds)

    def status(self, engine: Engine) -> dict[str, Any]:
        """What the store keeps for others to see; JSON-able."""
        latency = sorted(self._latency)
        return {
            "as_of": engine.as_of.isoformat(),
            "events": self.event_count,
            "batches": self.batch_count,
            "batch_latency_p50_ms": _percentile(latency, 0.5),
            "batch_latency_p99_ms": _percentile(latency, 0.99),
            "people": engine.person_count,
            "history_rows": engine.facts.history.row_count,
            "history_bytes": engine.facts.history.nbytes,
            "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "timers": engine.timer_count,
            "waiting": engine.backlog,
            "to_evaluate": engine.pass_left,
            "only_the_sweep_caught": engine.caught_by_sweep,
            "left_out": dict(engine.rules.left_out),
            "definitions": {s.name: s.definition_hash for s in engine.rules.evaluated if s.name in engine.rules.served},
            "definition_error": " ".join(error for error in self.errors.values() if error),
        }


def _percentile(ordered: list[float], share: float) -> float:
    if not ordered:
        return 0.0
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)
