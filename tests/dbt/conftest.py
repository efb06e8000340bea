"""A warehouse of its own, a stand-in for identity, and dbt as a program: what the tests of the dbt project share."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from segue.clock import to_warehouse
from segue.models.kpis import kpi_models
from segue.models.tables import TABLES
from segue.settings import PROJECT_ROOT, Settings
from segue.warehouse import Connection, Warehouse

#: When the small shop of `built` is looked at: in the middle of its last day.
AS_OF = datetime(2026, 1, 9, 12, tzinfo=UTC)

RAW = (
    "message_id varchar, type varchar, event varchar, name varchar, user_id varchar, anonymous_id varchar, "
    "previous_id varchar, group_id varchar, timestamp timestamp, original_timestamp timestamp, sent_at timestamp, "
    "received_at timestamp, properties json, traits json, context json, source varchar, load_id bigint"
)
IDENTIFIERS = (
    "identifier_type varchar, identifier_value varchar, person_id varchar, first_seen_at timestamp, "
    "last_seen_at timestamp, assigned_at timestamp"
)
MEMBERSHIPS = "person_id varchar, segment varchar, entered_at timestamp, exited_at timestamp"
EVALUATIONS = (
    "segment varchar, as_of timestamp, member_count bigint, active_count bigint, definition_hash varchar, "
    "recorded_at timestamp"
)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One row of raw.events; what is left out is null."""

    message_id: str
    timestamp: datetime
    received_at: datetime
    load_id: int
    type: str = "track"
    event: str | None = None
    name: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a dbt process ended."""

    code: int
    output: str
    results: tuple[Mapping[str, Any], ...]

    def statuses(self, kind: str) -> dict[str, str]:
        """Name → status of what was run, of one kind: model, test, unit_test."""
        return {
            r["unique_id"].split(".", 2)[2]: r["status"] for r in self.results if r["unique_id"].split(".")[0] == kind
        }


class Lab:
    """One warehouse and one dbt project.

    Args:
        home: of the installation.
        project: the dbt project's folder.
        target: where dbt keeps what it parsed; sharing it saves parsing again.
    """

    message_type = Message

    def __init__(self, home: Path, project: Path, target: Path) -> None:
        self.settings = Settings(home=home, dbt_project=project, _env_file=None)  # type: ignore[call-arg]
        self.warehouse = Warehouse(self.settings)
        self.project = project
        self.target = target
        with self.warehouse.write("set up") as con:
            for name, columns in (
                ("raw.events", RAW),
                ("identity.identifiers", IDENTIFIERS),
                ("segments.memberships", MEMBERSHIPS),
                ("segments.evaluations", EVALUATIONS),
                ("propensity.published", ", ".join(f"{n} {k}" for n, k in TABLES["propensity.published"].items())),
            ):
                con.execute(f"create schema if not exists {name.split('.')[0]}")
                con.execute(f"create table if not exists {name} ({columns})")

    def load(self, messages: Iterable[Message]) -> None:
        """Append to raw.events."""
        rows = [
            [
                m.message_id, m.type, m.event, m.name, m.user_id, m.anonymous_id, m.previous_id, None,
                m.timestamp, m.timestamp, m.timestamp, m.received_at,
                json.dumps(m.properties), json.dumps(m.traits), json.dumps(m.context), "test", m.load_id,
            ]
            for m in messages
        ]  # fmt: skip
        with self.warehouse.write("load") as con:
            con.execute("create temp table arriving as from raw.events limit 0")
            con.executemany(f"insert into temp.arriving values ({', '.join(['?'] * 17)})", rows)
            con.execute("insert into raw.events from temp.arriving")

    def stitch(self, as_of: datetime, *, refused: Collection[str] = (), alone: Collection[str] = ()) -> None:
        """Write identity.identifiers. Accounts that are `refused` belong to nobody; those `alone` link nothing."""
        with self.warehouse.write("identity") as con:
            stitch(con, to_warehouse(as_of), refused, alone)

    def dbt(
        self,
        *arguments: str,
        as_of: datetime,
        window: tuple[datetime, datetime] | None = None,
        check: bool = True,
    ) -> Outcome:
        """Run dbt as a program."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT),
            "SEGUE_HOME": str(self.settings.home),
            "SEGUE_AS_OF": as_of.isoformat(),
            "SEGUE_DBT_CATALOG": self.settings.catalog_uri,
            "SEGUE_DBT_DATA": self.settings.data_uri,
            "DBT_TARGET_PATH": str(self.target),
            "DBT_LOG_PATH": str(self.target),
            "DBT_PROJECT_DIR": str(self.project),
            "DBT_PROFILES_DIR": str(self.project),
            "SEGUE_KPIS": " ".join(kpi_models(self.project)),
        }
        if window:
            environment["SEGUE_WINDOW_START"], environment["SEGUE_WINDOW_END"] = (day.isoformat() for day in window)
        program = str(Path(sys.executable).with_name("dbt"))
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
        results = self.target / "run_results.json"
        outcome = Outcome(
            code=done.returncode,
            output=done.stdout + done.stderr,
            results=tuple(json.loads(results.read_text())["results"]) if results.exists() else (),
        )
        if check:
            assert outcome.code == 0, outcome.output
        return outcome

    def build(self, *arguments: str, as_of: datetime, **options: Any) -> Outcome:
        """`dbt build` without the unit tests, which say nothing about the data."""
        return self.dbt("build", "--exclude-resource-type", "unit_test", *arguments, as_of=as_of, **options)

    def run(self, *arguments: str, as_of: datetime, **options: Any) -> Outcome:
        """`dbt run`: the models and nothing else."""
        return self.dbt("run", *arguments, as_of=as_of, **options)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query answers."""
        with self.warehouse.read() as con:
            return con.execute(query).fetchall()

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every relation that dbt makes, sorted; without those that hold the last run only."""
        with self.warehouse.read() as con:
            names = con.execute(
                """
                select table_schema || '.' || table_name from information_schema.tables
                where table_schema in ('staging', 'intermediate', 'marts', 'segments', 'kpis')
                and table_catalog = current_database()
                """
            ).fetchall()
            skipped = {
                "intermediate.int_touched_people",
                "intermediate.rebuild_queue",
                "segments.memberships",
                "segments.evaluations",
            }
            return {
                name: con.execute(f"from {name} order by all").fetchall() for (name,) in names if name not in skipped
            }


def stitch(con: Connection, as_of: datetime, refused: Collection[str], alone: Collection[str]) -> None:
    """Identity, as simply as can be: connected identifiers are one person, who keeps the oldest id."""
    messages = con.execute(
        """
        select timestamp, received_at, user_id, anonymous_id, context->>'$.device.id', previous_id
        from raw.events
        where received_at <= $1
        """,
        [as_of],
    ).fetchall()
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while parents[node] != node:
            node = parents[node]
        return node

    seen: dict[tuple[str, str], tuple[datetime, datetime, datetime]] = {}  # first, last, first received
    for happened, received_at, user_id, anonymous_id, device_id, previous_id in messages:
        occurred_at = min(happened, received_at)
        found = [("user_id", user_id), ("anonymous_id", anonymous_id), ("device_id", device_id)]
        nodes = [
            (kind, value) for kind, value in [*found, ("anonymous_id", previous_id)] if value not in (None, *refused)
        ]
        for node in nodes:
            parents.setdefault(node, node)
            first, last, heard = seen.get(node, (occurred_at, occurred_at, received_at))
            seen[node] = (min(first, occurred_at), max(last, occurred_at), min(heard, received_at))
        linking = [node for node in nodes if node[1] not in alone]
        for left, right in pairwise(linking):
            parents[root(left)] = root(right)
    components: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for node in parents:
        components.setdefault(root(node), []).append(node)
    before = {
        (kind, value): (person, assigned_at)
        for kind, value, person, assigned_at in con.execute(
            "select identifier_type, identifier_value, person_id, assigned_at from identity.identifiers"
        ).fetchall()
    }
    rows = []
    for members in components.values():
        # The id of a person is made from the identifier that was heard of first, so it never changes by growing.
        oldest = min(members, key=lambda node: (seen[node][2], node))
        person = f"p-{oldest[0]}-{oldest[1]}"
        for node in members:
            known = before.get(node)
            assigned_at = known[1] if known and known[0] == person else as_of
            rows.append([*node, person, *seen[node][:2], assigned_at])
    con.execute("delete from identity.identifiers")
    con.execute("create or replace temp table arriving as from identity.identifiers limit 0")
    con.executemany("insert into temp.arriving values (?, ?, ?, ?, ?, ?)", rows)
    con.execute("insert into identity.identifiers from temp.arriving")


@pytest.fixture(scope="session")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target folder that all labs on the unchanged project share."""
    return tmp_path_factory.mktemp("target")


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory: pytest.TempPathFactory, parsed: Path) -> Callable[[], Lab]:
    """A fresh installation on the shipped dbt project."""

    def make() -> Lab:
        return Lab(tmp_path_factory.mktemp("home"), PROJECT_ROOT / "dbt_project", parsed)

    return make


@pytest.fixture(scope="session")
def make_edited_lab(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Lab]:
    """A copy of an installation and of the dbt project, to be edited."""

    def make(home: Path) -> Lab:
        folder = tmp_path_factory.mktemp("edited")
        ignored = shutil.ignore_patterns("target", "logs")
        shutil.copytree(PROJECT_ROOT / "dbt_project", folder / "project", ignore=ignored)
        return Lab(home, folder / "project", folder / "target")

    return make


@pytest.fixture(scope="session")
def built(make_lab: Callable[[], Lab]) -> tuple[Lab, Outcome]:
    """A small shop, built once with everything there is: models, data tests, unit tests."""
    lab = make_lab()
    start = datetime(2026, 1, 1, 9)
    messages = []
    for day in range(9):
        for person in range(1 + day % 3):
            at = start + timedelta(days=day, hours=person)
            common: dict[str, Any] = {"anonymous_id": f"a{person}", "load_id": day + 1}
            steps: list[dict[str, Any]] = [
                {"type": "page", "name": "Home", "context": {"library": {"name": "analytics.js"}}},
                {"event": "Signed In", "user_id": f"u{person}"},
                {
                    "event": "Order Completed",
                    "user_id": f"u{person}",
                    "properties": {"revenue": 10, "category": "hats"},
                },
            ]
            for minute, step in enumerate(steps):
                moment = at + timedelta(minutes=minute)
                id_ = f"m{day}-{person}-{minute}"
                messages.append(Message(message_id=id_, timestamp=moment, received_at=moment, **common, **step))
    lab.load(messages)
    with lab.warehouse.write("history") as con:
        con.execute(
            "insert into segments.memberships values"
            " ('p-anonymous_id-a0', 'power_users', timestamp '2026-01-03', null),"
            " ('p-anonymous_id-a1', 'power_users', timestamp '2026-01-04', timestamp '2026-01-06')"
        )
        con.execute(
            "insert into segments.evaluations"
            " select 'power_users', timestamp '2026-01-02' + day * interval 1 day, 1, 2, 'x', timestamp '2026-01-09'"
            " from range(8) as days(day)"
        )
    lab.stitch(AS_OF)
    return lab, lab.dbt("build", as_of=AS_OF)
