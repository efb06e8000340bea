"""What the tests of events share."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from segue.settings import Settings
from segue.warehouse import Connection, Warehouse

Message = Callable[..., dict[str, Any]]
Write = Callable[[str, Sequence[Any]], Path]
Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """No waiting for files to settle; the landing zone is there."""
    made = Settings(home=tmp_path / "home", settle_seconds=0, _env_file=None)  # type: ignore[call-arg]
    made.landing_zone.mkdir(parents=True)
    return made


@pytest.fixture
def message() -> Message:
    """A good message; keyword arguments replace fields, None leaves one out."""

    def make(number: int = 1, **fields: Any) -> dict[str, Any]:
        base = {
            "type": "track",
            "event": "Premium Feature Used",
            "messageId": f"m-{number}",
            "userId": f"user-{number % 5}",
            "originalTimestamp": "2026-02-01T10:00:00.000Z",
            "sentAt": "2026-02-01T10:00:01.000Z",
            "receivedAt": "2026-02-01T10:00:02.000Z",
            "timestamp": "2026-02-01T10:00:01.000Z",
            "properties": {"feature": "export"},
            "context": {"library": {"name": "test"}},
        }
        return {name: value for name, value in (base | fields).items() if value is not None}

    return make


@pytest.fixture
def write(settings: Settings) -> Write:
    """Write a file into the landing zone, one line for each message; text and bytes are written as they are."""

    def make(name: str, lines: Sequence[Any]) -> Path:
        path = settings.landing_zone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = [
            line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
            for line in lines
        ]
        path.write_bytes(b"".join(line + b"\n" for line in raw))
        return path

    return make


@pytest.fixture
def query(warehouse: Warehouse) -> Iterator[Query]:
    """Ask the warehouse; each question sees what is committed by then."""
    held: list[Connection] = []

    def ask(text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        if not held:
            held.append(warehouse.connect())
        return held[0].execute(text, list(parameters)).fetchall()

    yield ask
    for con in held:
        con.close()
