"""Fixtures every room shares."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.settings import Settings
from segue.warehouse import Warehouse


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
