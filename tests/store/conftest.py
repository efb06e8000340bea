"""A store of its own for each test, on one server for the room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.settings import Settings
from segue.store import Store, open_store
from segue.valkey import connect, running


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home: Path = tmp_path_factory.mktemp("store")
    found = Settings(home=home, _env_file=None)  # type: ignore[call-arg]
    with running(found):
        yield found


@pytest.fixture
def store(settings: Settings) -> Store:
    connect(settings).flushall()
    return open_store(settings)
