"""One installation with a small history, refreshed once; every test of the graph reads from it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from segue import alerts
from segue.events.simulator import simulate
from segue.settings import Settings
from segue.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[2]
DAYS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A home with a history, and the time it was refreshed as of."""

    home: Path
    as_of: datetime
    variables: dict[str, str]

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(Settings(home=self.home, _env_file=None))  # type: ignore[call-arg]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.warehouse.read() as con:
            return con.execute(query).fetchall()

    def run(self, module: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """`python -m orchestration.MODULE` on this installation."""
        return subprocess.run(
            [sys.executable, "-m", f"orchestration.{module}", *arguments],
            env={**os.environ, **self.variables, **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def snapshot(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything that must not change when nothing has happened."""
        tables = (
            *("raw.events", "raw.loads", "identity.identifiers", "identity.merges", "marts.sessions"),
            *("segments.power_users", "segments.transitions", "segments.memberships", "segments.evaluations"),
            *("kpis.daily", "watch.anomalies"),
        )
        found = {table: self.rows(f"select * from {table} order by all") for table in tables}
        found["alerts"] = self.alerts()
        return found

    def alerts(self) -> list[tuple[object, ...]]:
        """Kind, subject, channel and status of every alert."""
        with self.warehouse.write("make sure of the table") as con:
            alerts.ensure_tables(con)
        return self.rows("select kind, subject_id, channel, status from alerts.announcements order by all")


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A home whose landing zone holds a history; its variables are in force for all of these tests."""
    home = tmp_path_factory.mktemp("installation")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    report = simulate(home / "history", people=40, days=DAYS, seed=7, until=today)
    report.events.rename(home / "landing")
    variables = {
        "SEGUE_HOME": str(home),
        "SEGUE_DBT_PROJECT": str(ROOT / "dbt_project"),
        "SEGUE_HISTORY_START": (today - timedelta(days=DAYS)).date().isoformat(),
        "SEGUE_HISTORY_DAYS": str(DAYS),
        "DAGSTER_HOME": str(home / "dagster"),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield Installation(home=home, as_of=today, variables=variables)


@pytest.fixture(scope="package")
def refreshed(installation: Installation) -> Installation:
    """The same after `segue refresh`."""
    done = installation.run("refresh", "--as-of", installation.as_of.isoformat())
    assert done.returncode == 0, done.stderr
    return installation


@pytest.fixture(scope="package")
def defs(installation: Installation) -> dg.Definitions:
    """The graph, loaded in this process with the variables of the installation."""
    from orchestration.definitions import defs as loaded

    return loaded


@pytest.fixture
def instance(refreshed: Installation) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of the installation."""
    with dg.DagsterInstance.get() as found:
        yield found


@pytest.fixture
def script(installation: Installation) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs Python text in a process of its own, on the installation."""

    def run(text: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", text, *arguments],
            env={**os.environ, **installation.variables, **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
