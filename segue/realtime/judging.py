"""The spec and the contracts as the engine holds messages to them: as ingest will, later, with the same lines."""

import time
from collections.abc import Callable
from datetime import datetime

import pyarrow as pa

from segue.events import TOLERANCE, Judge, load_contracts
from segue.settings import Settings

_LOOK_SECONDS = 2.0


class ContractJudge:
    """Lines of JSON in, accepted messages out. Contracts that were edited are taken up. For one thread at a time.

    Args:
        settings: says where the contracts are.
        clock: the system's time.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = settings.dbt_project / "contracts", clock
        self._state = self._look()
        self._looked_at = time.monotonic()
        self._judge = Judge(load_contracts(self._folder))

    def __call__(self, payload: bytes) -> pa.Table:
        """The accepted messages, with the columns of `raw.events`."""
        if time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._looked_at, state = time.monotonic(), self._look()
            if state != self._state:
                judge, self._state = Judge(load_contracts(self._folder)), state
                self._judge.close()
                self._judge = judge
        return self._judge.judge(payload, latest=self._clock() + TOLERANCE).accepted

    def _look(self) -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_mtime_ns) for path in self._folder.glob("*.y*ml"))
