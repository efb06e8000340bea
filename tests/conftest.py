"""Fixtures every room shares."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadFileScheduling

from segue.settings import Settings
from segue.warehouse import Warehouse
from tests.chromium import launch

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class _Rooms(LoadFileScheduling):
    """One process runs a whole file, so that its fixtures are made once; and the whole room that shares a home."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "orchestration" if "/orchestration/" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return _Rooms(config, log)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No power is cut in a test: only the tests of what is synced, and when, look at it. Programs we start do sync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: None)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an installation of its own; nothing of the developer's `.env` or home leaks in."""
    return Settings(home=tmp_path / "home", _env_file=None)  # type: ignore[call-arg]


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings)


@pytest.fixture
def as_of() -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()
