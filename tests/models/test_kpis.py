"""Which days of KPIs are stale after a build."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.models import empty_lake, stale_since
from segue.settings import PROJECT_ROOT
from segue.warehouse import Connection

PROJECT = PROJECT_ROOT / "dbt_project"


@pytest.fixture
def con() -> Iterator[Connection]:
    lake = empty_lake()
    lake.execute("create schema intermediate; create schema marts")
    lake.execute("create table intermediate.int_touched_people (person_id varchar, rebuild_from timestamp)")
    yield lake
    lake.close()


def touch(con: Connection, person: str, moment: str) -> None:
    con.execute("insert into intermediate.int_touched_people values ($1, $2)", [person, moment])


def visit(con: Connection, person: str, started_at: str, ended_at: str) -> None:
    columns = "person_id varchar, started_at timestamp, ended_at timestamp"
    con.execute(f"create table if not exists marts.sessions ({columns})")
    con.execute("insert into marts.sessions values ($1, $2, $3)", [person, started_at, ended_at])


def test_what_happens_after_midnight_in_a_visit_from_before_changes_the_day_before(con: Connection) -> None:
    touch(con, "p", "2026-02-11 00:16:00")
    visit(con, "p", "2026-02-09 08:00:00", "2026-02-09 08:01:00")
    visit(con, "p", "2026-02-10 23:50:00", "2026-02-11 00:05:00")
    visit(con, "another", "2026-02-10 20:00:00", "2026-02-11 00:10:00")
    assert stale_since(con, PROJECT) == datetime(2026, 2, 10, 23, 50, tzinfo=UTC)


def test_a_visit_of_days_is_stale_since_it_began(con: Connection) -> None:
    touch(con, "p", "2026-02-11 12:00:00")
    visit(con, "p", "2026-02-07 23:50:00", "2026-02-11 11:45:00")
    assert stale_since(con, PROJECT) == datetime(2026, 2, 7, 23, 50, tzinfo=UTC)


def test_a_visit_that_was_over_is_left_alone(con: Connection) -> None:
    touch(con, "p", "2026-02-11 00:16:00.000001")
    visit(con, "p", "2026-02-10 23:40:00", "2026-02-10 23:46:00")
    assert stale_since(con, PROJECT) == datetime(2026, 2, 11, 0, 16, 0, 1, tzinfo=UTC)


def test_the_gap_is_the_one_that_the_project_says(con: Connection, tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("vars: {session_gap_minutes: 31}")
    touch(con, "p", "2026-02-11 00:16:00.000001")
    visit(con, "p", "2026-02-10 23:40:00", "2026-02-10 23:46:00")
    assert stale_since(con, tmp_path) == datetime(2026, 2, 10, 23, 40, tzinfo=UTC)


def test_the_first_build_is_stale_since_the_first_event_and_nobody_is_never(con: Connection) -> None:
    assert stale_since(con, PROJECT) is None
    touch(con, "p", "2026-02-11 00:16:00")
    assert stale_since(con, PROJECT) == datetime(2026, 2, 11, 0, 16, tzinfo=UTC)
