"""A collector killed around its one write: what it acknowledged is in the log. One that answers first is caught."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from segue.clock import system_time
from segue.collector import serve
from segue.keys import create_key
from segue.log import open_log
from segue.log.stream import StreamLog
from segue.settings import Settings
from segue.valkey import connect, running
from tests.mortal import in_a_process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, str]]:
    settings = Settings(home=tmp_path_factory.mktemp("collector_faults"), _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        yield settings, create_key(settings, "web", as_of=system_time())


def collect(home: Path, place: str, told: Any) -> None:
    """A collector's process that dies at a place."""
    real = StreamLog.append

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def append(self: StreamLog, payloads: Sequence[bytes]) -> None:
        if place == "before the append":
            die()
        if place == "answered first":
            asyncio.get_running_loop().call_later(0.3, die)
            return
        await real(self, payloads)
        if place == "after the append":
            die()

    StreamLog.append = append  # type: ignore[method-assign]
    serve(Settings(home=home, _env_file=None), port=0, told=told.send)  # type: ignore[call-arg]


def send(settings: Settings, key: str, place: str, message_id: str) -> bool:
    """To a collector that dies there. Whether the message was acknowledged."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = in_a_process(collect, settings.home, place, there)
    assert here.poll(60)
    url = here.recv().split()[-1]
    body = {"userId": "u1", "event": "Signed In", "messageId": message_id}
    try:
        answer = httpx.post(f"{url}/v1/track", json=body, auth=(key, ""), timeout=20)
        if place:
            process.join(20)
    except httpx.TransportError:
        process.join(20)
        return False
    finally:
        process.kill()
        process.join()
    return answer.status_code == 200


def logged(settings: Settings) -> set[str]:
    text = b"".join(e.payload for e in open_log(settings).read("", limit_bytes=1 << 30, wait_seconds=0))
    return {msgspec.json.decode(line)["messageId"] for line in text.splitlines()}


@pytest.mark.parametrize(("place", "is_there"), [("before the append", False), ("after the append", True)])
def test_what_a_collector_acknowledges_is_in_the_log(server: tuple[Settings, str], place: str, is_there: bool) -> None:
    settings, key = server
    connect(settings).flushall()
    assert not send(settings, key, place, "m1"), "nobody knows, so the client sends again"
    assert ("m1" in logged(settings)) == is_there
    assert send(settings, key, "", "m1")
    assert logged(settings) == {"m1"}


def test_a_collector_that_answers_first_is_caught(server: tuple[Settings, str]) -> None:
    settings, key = server
    connect(settings).flushall()
    acknowledged = {"m1"} if send(settings, key, "answered first", "m1") else set()
    assert acknowledged - logged(settings) == {"m1"}
