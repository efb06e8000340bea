"""A log, a store and a judge in memory, with places to die."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from segue.log import Entry, LogStatus
from tests.realtime.world import Remembered, raw_events


class Died(Exception):
    """Stands for kill -9."""


class FakeLog:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.commits: dict[str, str] = {}

    def put(self, messages: Sequence[dict[str, Any]]) -> None:
        lines = [json.dumps(m, default=lambda t: t.isoformat()) for m in messages]
        self.entries.append(Entry(f"{len(self.entries) + 1:06}", ("\n".join(lines) + "\n").encode()))

    def read(self, after: str, *, limit_bytes: int, wait_seconds: float) -> list[Entry]:
        found: list[Entry] = []
        for entry in self.entries:
            if entry.position > after and (not found or limit_bytes > 0):
                found.append(entry)
                limit_bytes -= len(entry.payload)
        return found

    def status(self) -> LogStatus:
        newest = self.entries[-1].position if self.entries else ""
        return LogStatus(entries=len(self.entries), bytes=0, ceiling_bytes=0, newest=newest, lags={})

    def commit(self, reader: str, position: str) -> None:
        self.commits[reader] = max(position, self.commits.get(reader, ""))

    def committed(self, reader: str) -> str:
        return self.commits.get(reader, "")


def judge(payload: bytes) -> pa.Table:
    """Everything is good."""
    rows = []
    for line in payload.splitlines():
        row = json.loads(line)
        for name in ("timestamp", "received_at"):
            row[name] = datetime.fromisoformat(row[name]).astimezone(UTC)
        rows.append(row)
    return raw_events(rows)


class NoRequests:
    """Nobody has any."""

    def waiting(self) -> Sequence[str]:
        return ()


class FakeStore:
    """One home's store; engines come and go."""

    def __init__(self) -> None:
        self.state = Remembered()
        self.requests = NoRequests()
        self.at = ""
        self.clock: datetime | None = None
        self.holder: str | None = None
        self.token = 0
        self.apply_count = 0
        self.filled = False
        self.said: dict[str, Any] = {}  # by the engine, of itself
        self.die_before: int | None = None  # the apply that does not happen
        self.die_after: int | None = None  # the apply after which its engine dies

    def acquire(self, owner: str, *, ttl_seconds: int) -> int | None:
        if self.holder is not None:
            return None
        self.holder, self.token = owner, self.token + 1
        return self.token

    def renew(self, token: int) -> bool:
        return token == self.token

    def release(self, token: int) -> None:
        if token == self.token:
            self.holder = None

    def position(self) -> str:
        return self.at

    def as_of(self) -> datetime | None:
        return self.clock

    def memberships(self) -> Iterator[tuple[str, dict[str, datetime]]]:
        return iter([(person, dict(since)) for person, since in self.state.people.items()])

    def merged(self) -> dict[str, str]:
        return dict(self.state.into)

    def is_filled(self) -> bool:
        return self.filled

    def set_filled(self, *, token: int) -> None:
        self.filled = self.filled or token == self.token

    def note(self, status: Any, *, token: int) -> None:
        self.said = dict(status)

    def apply(self, update: Any, *, token: int, expected: str, position: str) -> None:
        assert (token, expected) == (self.token, self.at), "stale"
        if self.apply_count == self.die_before:
            self.die_before = None
            raise Died
        self.state.apply(update)
        self.at, self.clock, self.apply_count = position, update.as_of, self.apply_count + 1
        if self.apply_count == self.die_after:
            self.die_after = None
            raise Died
