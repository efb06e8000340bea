"""What the API knows besides people: how fresh the store is, and what the segments are. Kept up beside requests."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

from segue.errors import BadInputError, SegueError
from segue.log import open_log
from segue.serving.project import FollowedProject
from segue.serving.subscriptions import named_in, subscriptions
from segue.serving.webhooks import Standing, Webhooks
from segue.settings import Settings
from segue.store import Reader
from segue.store.model import stamp_text

_log = logging.getLogger(__name__)

_FRESH_SECONDS = 0.5
#: Webhooks are looked at once in so many looks, since that reads a part of the outbox.
_WEBHOOK_LOOKS = 4
_WEBHOOK_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class Freshness:
    """As of when answers are, and how many seconds that is behind; None: nothing was evaluated yet."""

    as_of: datetime | None
    lag_seconds: float | None
    as_of_json: bytes = b"null"


class State:
    """What was seen last."""

    def __init__(self, settings: Settings, reader: Reader, clock: Callable[[], datetime]) -> None:
        self._settings, self._reader, self._clock = settings, reader, clock
        self._log = open_log(settings)
        self._kept = Webhooks(settings)
        self._as_of: datetime | None = None
        self._as_of_json = b"null"
        self._log_lag = 0.0
        self.store: Mapping[str, Any] = {}
        self.log: Mapping[str, Any] = {}
        self.is_up = False
        self.webhooks: Sequence[Standing] = ()
        self._looks = 0
        self.project = FollowedProject(settings)

    def freshness(self) -> Freshness:
        """Of an answer that is given now."""
        if self._as_of is None:
            return Freshness(None, None)
        behind = (self._clock() - self._as_of).total_seconds()
        return Freshness(self._as_of, round(max(0.0, behind, self._log_lag), 3), self._as_of_json)

    async def follow_store(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_FRESH_SECONDS)

    async def look(self) -> None:
        """Look once."""
        try:
            found = await self._reader.state()
            status = await asyncio.to_thread(self._log.status)
            if self._looks % _WEBHOOK_LOOKS == 0:
                self.webhooks = await asyncio.to_thread(self._standings)
            self._looks += 1
        except (SegueError, OSError, redis.RedisError) as error:
            if self.is_up:
                _log.warning("the store cannot be read: %s", error)
            self.is_up = False
            return
        self.is_up = True
        said = found["engine"].get("as_of")
        moments = [m for m in (found["as_of"], datetime.fromisoformat(said) if said else None) if m is not None]
        # Before the first update there is nothing to be fresh.
        self._as_of = max(moments) if found["as_of"] is not None else None
        if self._as_of is not None:
            self._as_of_json = b'"%b"' % stamp_text(self._as_of).encode()
        self._log_lag = status.lags["engine"].seconds
        self.store = found
        self.log = {
            "entries": status.entries,
            "bytes": status.bytes,
            "ceilingBytes": status.ceiling_bytes,
            "lagSeconds": {reader: lag.seconds for reader, lag in status.lags.items()},
        }

    def _standings(self) -> Sequence[Standing]:
        try:
            known = subscriptions(self._settings, named_in(self.project.segments.values()))
        except BadInputError as error:
            _log.warning("webhooks cannot be shown: %s", error.message)
            return ()
        return self._kept.standings(known, most=_WEBHOOK_ENTRIES)
