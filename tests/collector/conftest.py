"""A running installation for the room: Valkey, a collector in a process of its own, a write key."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import msgspec
import pytest

from segue.clock import system_time
from segue.keys import create_key
from segue.log import open_log
from segue.log.stream import StreamLog
from segue.settings import Settings
from segue.valkey import connect, running
from tests.processes import start, stop


@dataclass(frozen=True)
class Installation:
    settings: Settings
    url: str
    key: str
    process: "subprocess.Popen[str]"

    @property
    def log(self) -> StreamLog:
        return open_log(self.settings)

    def lines(self) -> list[bytes]:
        """Every line in the log."""
        text = b"".join(e.payload for e in self.log.read("", limit_bytes=1 << 30, wait_seconds=0))
        return text.splitlines()

    def messages(self) -> list[dict]:
        return [msgspec.json.decode(line) for line in self.lines()]


def start_collector(settings: Settings) -> tuple["subprocess.Popen[str]", str]:
    """The command, when it listens, and its address."""
    return start(settings, "collector", says="collector")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    settings = Settings(home=tmp_path_factory.mktemp("collector"), _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        key = create_key(settings, "web", as_of=system_time())
        process, url = start_collector(settings)
        try:
            yield Installation(settings, url, key, process)
        finally:
            stop(process)


@pytest.fixture
def collector(served: Installation) -> Installation:
    """The room's collector over an empty log."""
    connect(served.settings).flushall()
    return served


@pytest.fixture
def client(collector: Installation) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=collector.url, auth=(collector.key, ""), timeout=20) as found:
        yield found
