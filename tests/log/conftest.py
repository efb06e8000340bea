"""One server for the room; an empty log for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.log import Log, open_log
from segue.settings import Settings
from segue.valkey import connect, running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home: Path = tmp_path_factory.mktemp("log")
    settings = Settings(home=home, _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        yield settings


@pytest.fixture
def log(served: Settings) -> Log:
    connect(served).flushall()
    return open_log(served)
