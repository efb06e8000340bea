"""One simulated history, made once and only read."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pytest

from segue.events.simulator import SimulationReport, simulate

UNTIL = datetime(2026, 3, 1, tzinfo=UTC)

_IDS = ("messageId", "type", "event", "name", "userId", "anonymousId", "previousId", "groupId")
_TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
_OBJECTS = ("properties", "traits", "context")


@dataclass(frozen=True)
class History:
    """Tables: `lines`, every line of every file; `messages`, the distinct accepted ones; `true_…`, the truth."""

    report: SimulationReport
    con: duckdb.DuckDBPyConnection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.con.execute(query).fetchall()

    def one(self, query: str) -> Any:
        (row,) = self.rows(query)
        return row[0]


def read_lines(path: Path) -> list[bytes]:
    with gzip.open(path) as file:
        return file.read().splitlines()


def parse(line: bytes) -> dict[str, Any] | None:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def read_history(report: SimulationReport) -> History:
    rows = []
    for path in sorted(report.events.iterdir()):
        for number, line in enumerate(read_lines(path), start=1):
            message = parse(line) or {}
            row = {"file": path.name, "line": number, "is_json": bool(message), "text": line.decode()}
            row |= {name: message.get(name) for name in (*_IDS, *_TIMES)}
            rows.append(row | {name: orjson.dumps(message.get(name)).decode() for name in _OBJECTS})
    con = duckdb.connect(":memory:", config={"threads": 1})
    con.execute("set TimeZone = 'UTC'")
    con.register("arrow_lines", pa.Table.from_pylist(rows))
    times = ", ".join(f"{name}::timestamp as {name}" for name in _TIMES)
    objects = ", ".join(f"{name}::json as {name}" for name in _OBJECTS)
    con.execute(f"create table lines as select * replace ({times}, {objects}) from arrow_lines")
    for name in ("people", "identifiers", "disturbed_days", "messages"):
        con.execute(f"create table true_{name} as from read_parquet('{report.truth / name}.parquet')")
    con.execute(
        """
        create table messages as
        select distinct on (messageId) *
        from lines
        where messageId not in (select message_id from true_messages where kind = 'contract_breaking')
        order by messageId, file, line
        """
    )
    return History(report=report, con=con)


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """400 people, 60 days: small enough for a few seconds, large enough for every planted thing."""
    folder = tmp_path_factory.mktemp("simulate")
    return read_history(simulate(folder / "history", people=400, days=60, seed=11, until=UNTIL))


@pytest.fixture
def read() -> Callable[[SimulationReport], History]:
    """Reads what a simulation made."""
    return read_history


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., SimulationReport]:
    """A small simulation into a folder of its own."""

    def run_it(name: str = "out", **options: Any) -> SimulationReport:
        chosen = {"people": 60, "days": 20, "seed": 3, "until": UNTIL} | options
        return simulate(tmp_path / name, **chosen)

    return run_it
