"""The spec and the contracts as the engine holds messages to them: as ingest will, later, with the same lines."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import pyarrow as pa

from segue.errors import DefinitionError
from segue.events import TOLERANCE, Contract, Judge, load_contracts
from segue.realtime.last_good import remember_contracts, remembered_contracts
from segue.settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0


class ContractJudge:
    """Lines of JSON in, accepted messages out; for one thread at a time. Contracts that were edited are taken up.

    While they cannot be used, the last good ones go on, across restarts too. Ingest waits until they can.

    Args:
        settings: says where the contracts are.
        clock: the system's time.

    Raises:
        DefinitionError: when they cannot be used, and never could.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = settings.dbt_project / "contracts", clock
        self._kept = settings.home / "realtime"
        self._looking = threading.Lock()  # guards what follows
        self._looked_at = 0.0
        self._state: list[tuple[str, int]] | None = None  # of the files, when they could be used last
        self._error = ""
        self._contracts: tuple[Contract, ...] | None = None
        self._judged_by = self._look()
        self._judge = Judge(self._judged_by)

    def __call__(self, payload: bytes) -> pa.Table:
        """The accepted messages, with the columns of `raw.events`."""
        contracts = self._look()
        if contracts is not self._judged_by:
            judge = Judge(contracts)
            self._judge.close()
            self._judged_by, self._judge = contracts, judge
        return self._judge.judge(payload, latest=self._clock() + TOLERANCE).accepted

    def error(self) -> str:
        """Why the contracts cannot be used as they are now; "" when they can. From any thread."""
        self._look()
        return self._error

    def _look(self) -> tuple[Contract, ...]:
        """The contracts in force; every so often the files are looked at."""
        with self._looking:
            now = time.monotonic()
            if self._contracts is None or now - self._looked_at > _LOOK_SECONDS:
                self._looked_at, self._contracts = now, self._newest(self._contracts)
            return self._contracts

    def _newest(self, known: tuple[Contract, ...] | None) -> tuple[Contract, ...]:
        state = self._files()
        if known is not None and state == self._state:
            self._error = ""  # what was broken is as it was before
            return known
        try:
            contracts = load_contracts(self._folder)
        except (DefinitionError, OSError) as error:
            if known is None and (known := remembered_contracts(self._kept)) is None:
                raise
            text = error.message if isinstance(error, DefinitionError) else str(error)
            if text != self._error:
                log.error("the contracts cannot be used, the last good ones stay: %s", text)
            self._error = text
            return known
        self._state, self._error = state, ""
        try:
            remember_contracts(contracts, self._kept)
        except OSError as error:
            log.warning("the contracts cannot be kept for the next start: %s", error)
        return contracts

    def _files(self) -> list[tuple[str, int]]:
        found = []
        for path in self._folder.glob("*.y*ml"):
            with suppress(FileNotFoundError):  # an editor replaces it
                found.append((path.name, path.stat().st_mtime_ns))
        return sorted(found)
