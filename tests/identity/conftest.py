"""A lake in memory for each test."""

from collections.abc import Iterator

import pytest

from segue.models.check import empty_lake
from segue.warehouse import Connection


@pytest.fixture
def con() -> Iterator[Connection]:
    connection = empty_lake()
    yield connection
    connection.close()
