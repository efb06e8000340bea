"""Parity: the shipped dbt project, built by dbt as of a time, says what the evaluation in memory says of that time."""

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from segue.clock import to_warehouse
from segue.events.tables import ensure_tables
from segue.identity import stitch
from segue.models import Evaluator, Project, dbt_environment, prepare
from segue.segments import definitions, refresh_memberships
from segue.settings import Settings, child_environment
from segue.warehouse import Connection, Warehouse


def _stitch(con: Connection, as_of: datetime) -> None:
    stitch(con, as_of=as_of)


@pytest.fixture
def shop(warehouse: Warehouse, shop_messages: Callable[..., pa.Table], as_of: datetime) -> Warehouse:
    """A warehouse with forty days of events."""
    with warehouse.write("load") as con:
        ensure_tables(con)
        con.register("batch", shop_messages(people=60, days=40, end=as_of))
        con.execute("insert into raw.events by name from batch")
    return warehouse


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project in `dbt_project`."""
    return prepare(Settings(home=tmp_path_factory.mktemp("shipped"), _env_file=None))  # type: ignore[call-arg]


def test_dbt_and_the_evaluation_in_memory_agree_on_every_segment_of_the_shipped_project(
    settings: Settings, shop: Warehouse, as_of: datetime, shipped: Project
) -> None:
    project = shipped
    assert project.broken == ()
    then = as_of - timedelta(days=7, hours=5)
    upstream = project.upstream([s.name for s in project.segments])

    with shop.read() as source:
        past = Evaluator(project, source, until=as_of, stitch=_stitch)
    # Other times first, so that what is left over from one would show in the next.
    for days in (30, 0, 12):
        earlier = past.at(as_of - timedelta(days=days))
        assert earlier.failed == {}
    ours = past.at(then)
    assert ours.failed == {}

    # dbt gets the identities and nothing else from us. Later events are there: the models must not count them.
    with shop.write("identity") as con:
        for table in ("identifiers", "merges", "refused"):
            con.register("made", ours.con.execute(f"from identity.{table}").to_arrow_table())
            con.execute("create schema if not exists identity")
            con.execute(f"create table identity.{table} as from made")
    extra = dbt_environment(settings, as_of=then) | {
        "DBT_PROJECT_DIR": str(project.project_dir),
        "DBT_PROFILES_DIR": str(project.project_dir),
    }
    selected = [model.name for model in upstream]
    built = subprocess.run(
        [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "run", "--select", *selected],
        env=child_environment(extra),
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout

    with shop.write("memberships") as con:
        for segment in project.segments:
            query = f"select person_id, reason from {segment.quoted} order by all"
            assert con.execute(query).fetchall() == ours.con.execute(query).fetchall(), segment.name
        features = "select * from marts.person_features order by person_id"
        assert con.execute(features).fetchall() == ours.con.execute(features).fetchall()
        sizes = {s.segment: s.member_count for s in refresh_memberships(con, project, as_of=then).shares}
        current = con.execute("select count(distinct person_id) from segments.memberships").fetchone()
        late = con.execute("select count(*) from raw.events where received_at > $1", [to_warehouse(then)]).fetchone()
    by_rule = {name: count for name, count in sizes.items() if not name.startswith("churn_risk_")}  # no model here
    assert sum(count > 0 for count in by_rule.values()) >= len(by_rule) - 1, sizes
    assert current is not None
    assert current[0] > 30
    assert late is not None
    assert late[0] > 100
    past.close()


def test_the_shipped_segments_have_usable_meta_and_sound_groups(shipped: Project) -> None:
    known = definitions(shipped)
    assert known.errors == {}
    for segment in known.segments:
        assert segment.description, segment.name
        assert segment.owner, segment.name
    for group in {s.exclusive_group for s in known.segments} - {None}:
        priorities = [s.priority for s in known.segments if s.exclusive_group == group]
        assert len(priorities) == len(set(priorities)), group
