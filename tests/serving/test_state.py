"""What the API knows is looked up again and again, whatever goes wrong in one look."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from segue.errors import ValkeyError
from segue.log import Lag, LogStatus
from segue.serving import state
from segue.serving.state import State
from segue.settings import Settings

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOG = LogStatus(
    entries=0, bytes=0, ceiling_bytes=1, newest="", lags={"engine": Lag(entries=0, bytes=0, seconds=0.0)}
)  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [
        ValkeyError("away"),
        PermissionError(13, "Permission denied"),
        redis.ResponseError("WRONGTYPE"),
        redis.RedisError(),
    ],
)
def test_a_look_that_fails_is_told_and_followed_by_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    faults: list[Exception] = []

    class Reader:
        async def state(self) -> dict[str, Any]:
            if faults:
                raise faults.pop()
            return {"engine": {}, "as_of": NOON}

    async def story() -> list[bool]:
        seen = State(settings, Reader(), lambda: NOON)  # type: ignore[arg-type]
        monkeypatch.setattr(seen, "_standings", lambda: ())
        monkeypatch.setattr(seen._log, "status", lambda: LOG)
        is_up = []

        async def look_and_count(_seconds: float) -> None:
            is_up.append(seen.is_up)
            faults[:] = [fault] if len(is_up) == 1 else []
            if len(is_up) == 3:
                raise asyncio.CancelledError

        monkeypatch.setattr(state, "asyncio", _AsyncioWith(look_and_count))
        with pytest.raises(asyncio.CancelledError):
            await seen.follow_store()
        return is_up

    assert asyncio.run(story()) == [True, False, True]


class _AsyncioWith:
    """`asyncio`, whose sleep is another."""

    def __init__(self, sleep: Any) -> None:
        self.sleep, self.to_thread = sleep, asyncio.to_thread
