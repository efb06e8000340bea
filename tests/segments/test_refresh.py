"""The dbt build, the evaluation in memory and the backfill tell one story."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.clock import end_of_day, to_warehouse
from segue.errors import BadInputError, DefinitionError
from segue.models import BrokenModel, Evaluator, Project, dbt_environment, evaluate
from segue.segments import backfill, backfill_missing, preview, refresh_memberships, sizes
from segue.segments.gaps import missing_days
from segue.settings import Settings, child_environment
from segue.warehouse import Connection, Warehouse, patience

Stitch = Callable[[Connection, datetime], None]
Put = Callable[[Connection, Any], None]

TABLES = ("evaluations", "transitions", "memberships", "merged_people")


def history(warehouse: Warehouse, *, with_recorded_at: bool = True) -> list[list[tuple[Any, ...]]]:
    found = []
    with warehouse.read() as con:
        for table in TABLES:
            hidden = "" if with_recorded_at or table not in ("evaluations", "transitions") else " exclude (recorded_at)"
            found.append(con.execute(f"select *{hidden} from segments.{table} order by all").fetchall())
    return found


def last_days(as_of: datetime, count: int) -> list[date]:
    return [(as_of - timedelta(days=n + 1)).date() for n in reversed(range(count))]


def build_in_memory(warehouse: Warehouse, project: Project, as_of: datetime, stitch: Stitch) -> None:
    """What `dbt build` leaves behind, without dbt: the tables as of a time, in the warehouse."""
    with warehouse.read() as source:
        evaluation = evaluate(project, source, as_of=as_of, stitch=stitch)
    with warehouse.write("build", as_of=as_of) as con:
        stitch(con, as_of)
        for model in project.models:
            if model.name in evaluation.built:
                con.execute(f"create schema if not exists {model.schema}")
                con.register("built", evaluation.con.execute(f"from {model.quoted}").to_arrow_table())
                con.execute(f"create or replace table {model.quoted} as from built")
    evaluation.con.close()


@pytest.fixture
def loaded(warehouse: Warehouse, put_events: Put, stream: Any) -> Warehouse:
    with warehouse.write("load") as con:
        put_events(con, stream)
    return warehouse


def test_a_dbt_build_and_an_evaluation_in_memory_agree(
    settings: Settings, loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, stream: Any
) -> None:
    as_of = stream[400][1]  # in the middle of things
    with loaded.write("stitch") as con:
        stitch_aliases(con, as_of)
        # dbt reads what the warehouse holds, so as of a time it must hold nothing later.
        con.execute("delete from raw.events where received_at > $1", [to_warehouse(as_of)])
    extra = dbt_environment(settings, as_of=as_of) | {
        "DBT_PROJECT_DIR": str(tiny_project.project_dir),
        "DBT_PROFILES_DIR": str(tiny_project.project_dir),
    }
    built = subprocess.run(
        [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "build"],
        env=child_environment(extra),
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout
    with loaded.write("memberships") as con:
        report = refresh_memberships(con, tiny_project, as_of=as_of)
    assert report.entered_count > 20
    assert all(share.active_count for share in report.shares)
    before = history(loaded)

    with loaded.read() as source:
        evaluation = evaluate(tiny_project, source, as_of=as_of, stitch=stitch_aliases)
        for model in tiny_project.models:
            ours = evaluation.con.execute(f"select * from {model.quoted} order by all").fetchall()
            theirs = source.execute(f"select * from {model.quoted} order by all").fetchall()
            assert ours == theirs, model.name
            assert ours, model.name

    # A rerun writes nothing: not a row, not even a version of the warehouse.
    with loaded.read() as con:
        versions = con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchone()
    with loaded.write("memberships") as con:
        again = refresh_memberships(con, tiny_project, as_of=as_of, recorded_at=as_of + timedelta(hours=1))
    assert (again.added_count, again.removed_count) == (0, 0)
    assert history(loaded) == before
    with loaded.read() as con:
        assert con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchone() == versions


def test_an_evaluator_gives_for_every_time_what_an_evaluation_of_its_own_gives(
    loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, as_of: datetime
) -> None:
    names = [s.quoted for s in tiny_project.segments]
    with loaded.read() as source, Evaluator(tiny_project, source, until=as_of, stitch=stitch_aliases) as past:
        for day in (3, 17, 9, 20):
            moment = as_of - timedelta(days=20 - day)
            one = evaluate(tiny_project, source, as_of=moment, stitch=stitch_aliases)
            many = past.at(moment)
            assert one.failed == many.failed == {}
            for name in names:
                query = f"select * from {name} order by all"
                assert one.con.execute(query).fetchall() == many.con.execute(query).fetchall()
            one.con.close()


def test_a_preview_is_what_the_sql_says_of_what_was_known_then_and_writes_nothing(
    loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, as_of: datetime
) -> None:
    then = as_of - timedelta(days=9)
    with loaded.read() as source:
        evaluation = evaluate(tiny_project, source, as_of=then, stitch=stitch_aliases)
        wanted = evaluation.con.execute("from segments.power_users order by person_id").fetchall()
        snapshots = source.execute("from ducklake_snapshots('lake')").fetchall()
    columns, rows = preview(loaded, tiny_project, "power_users", as_of=then, stitcher=stitch_aliases)
    assert (columns, rows) == (["person_id", "reason"], wanted)
    assert len(rows) > 3
    first = preview(loaded, tiny_project, "power_users", as_of=then, stitcher=stitch_aliases, limit=3)
    assert first == (columns, wanted[:3])
    with loaded.read() as con:
        assert con.execute("from ducklake_snapshots('lake')").fetchall() == snapshots


def test_a_preview_of_what_does_not_work_says_why(loaded: Warehouse, tiny_project: Project, as_of: datetime) -> None:
    with pytest.raises(BadInputError, match="did you mean power_users"):
        preview(loaded, tiny_project, "power_user", as_of=as_of)
    lost = BrokenModel(name="lost", path="models/segments/lost.sql", reason="lost.sql, line 2: no.", fix="mend it")
    with pytest.raises(DefinitionError, match=r"lost.sql, line 2"):
        preview(loaded, replace(tiny_project, broken=(lost,)), "lost", as_of=as_of)


def test_a_model_that_does_not_end_is_stopped_once_and_the_others_are_evaluated(
    loaded: Warehouse,
    tiny_project: Project,
    stitch_aliases: Stitch,
    as_of: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endless, *others = (s.name for s in tiny_project.segments)
    sql = "select 'p' as person_id from range(1000000000000) as r(n) where hash(n) = 0"
    models = tuple(replace(m, compiled_sql=sql) if m.name == endless else m for m in tiny_project.models)
    project = replace(tiny_project, models=models)
    with (
        loaded.read() as source,
        Evaluator(project, source, until=as_of, stitch=stitch_aliases, model_seconds=3) as past,
    ):
        first = past.at(as_of - timedelta(days=1))
        assert "did not end within 3 s" in first.failed[endless]
        assert first.built.issuperset(others)
        tried = []
        module = sys.modules[Evaluator.__module__]
        monkeypatch.setattr(module, "patience", lambda con, seconds: tried.append(1) or patience(con, seconds))
        again = past.at(as_of)
        assert again.failed == first.failed
        assert len(tried) == len(again.built - {"stg_events"}), "it is not waited for again"


def test_restricting_the_events_to_some_people_gives_their_share_of_the_answer(
    loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, as_of: datetime
) -> None:
    touched = ("u05", "u07", "u12")
    query = f"select * from raw.events where user_id in {touched}"
    with (
        loaded.read() as source,
        Evaluator(tiny_project, source, until=as_of, stitch=stitch_aliases) as everyone,
        Evaluator(tiny_project, source, until=as_of, stitch=stitch_aliases, events=query) as some,
    ):
        for segment in tiny_project.segments:
            whole = everyone.at(as_of).con.execute(f"select person_id from {segment.quoted}").fetchall()
            part = some.at(as_of).con.execute(f"select person_id from {segment.quoted}").fetchall()
            assert sorted(part) == sorted(p for p in whole if p[0] in touched)


@pytest.mark.parametrize(("said", "count"), [("", 4), ("share_days: 7", 2), ("share_days: 31", 5)])
def test_shares_are_of_the_people_seen_in_the_days_that_the_project_says(
    warehouse: Warehouse, tiny_project: Project, as_of: datetime, tmp_path: Path, said: str, count: int
) -> None:
    (tmp_path / "dbt_project.yml").write_text(f"vars: {{{said}}}")
    with warehouse.write("build") as con:
        con.execute("create schema marts; create schema segments")
        con.execute("create table marts.person_features (person_id varchar, last_seen_at timestamp)")
        con.execute(f"create table {tiny_project.segments[0].quoted} (person_id varchar)")
        for days in (0, 6, 7, 29, 30):
            seen = to_warehouse(as_of - timedelta(days=days))
            con.execute("insert into marts.person_features values ($1, $2)", [f"p{days}", seen])
        (share,) = refresh_memberships(con, replace(tiny_project, project_dir=tmp_path), as_of=as_of).shares
    assert share.active_count == count


def test_days_that_cannot_be_counted_are_named(
    warehouse: Warehouse, tiny_project: Project, as_of: datetime, tmp_path: Path
) -> None:
    (tmp_path / "dbt_project.yml").write_text("vars: {share_days: a month}")
    with warehouse.write("build") as con:
        con.execute(
            "create schema marts; create table marts.person_features (person_id varchar, last_seen_at timestamp)"
        )
        with pytest.raises(DefinitionError, match=r"vars.share_days is 'a month'"):
            refresh_memberships(con, replace(tiny_project, project_dir=tmp_path), as_of=as_of)


def test_a_backfill_gives_the_same_as_having_refreshed_each_day_in_any_order(
    tmp_path: Any,
    loaded: Warehouse,
    tiny_project: Project,
    stitch_aliases: Stitch,
    put_events: Put,
    stream: Any,
    as_of: datetime,
) -> None:
    days = last_days(as_of, 6)
    for day in days:
        build_in_memory(loaded, tiny_project, end_of_day(day), stitch_aliases)
        with loaded.write("memberships") as con:
            refresh_memberships(con, tiny_project, as_of=end_of_day(day))
    wanted = history(loaded)
    assert any(row[3] == "merged" for row in wanted[1]), "the stream must have a merge in these days"

    other = Warehouse(Settings(home=tmp_path / "other", _env_file=None))  # type: ignore[call-arg]
    with other.write("load") as con:
        put_events(con, stream)
    # In parts, out of order, one twice: as interrupted backfills do.
    for part in (days[3:5], days[:2], days[1:4], days[5:], days[:1]):
        backfill(other, tiny_project, part, stitcher=stitch_aliases)
    assert history(other) == wanted

    # And on top of the refreshes it adds nothing.
    reports = backfill(loaded, tiny_project, days, stitcher=stitch_aliases, recorded_at=as_of + timedelta(days=9))
    assert sum(r.added_count + r.removed_count for r in reports) == 0
    assert history(loaded) == wanted


def test_a_backfill_of_one_segment_brings_the_rest_of_its_group_with_it(
    loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, as_of: datetime
) -> None:
    day = last_days(as_of, 1)
    backfill(loaded, tiny_project, day, stitcher=stitch_aliases, segments=["present"])
    with loaded.read() as con:
        alone = {s.segment: s.member_count for s in sizes(con, as_of)}
    backfill(loaded, tiny_project, day, stitcher=stitch_aliases)
    with loaded.read() as con:
        both = {s.segment: s.member_count for s in sizes(con, as_of)}
    assert set(alone) == {"present", "power_users"}
    assert alone == {name: count for name, count in both.items() if name != "absent"}


def test_what_is_missing_of_days_is_filled_in_and_nothing_else(
    loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, as_of: datetime
) -> None:
    names = [s.name for s in tiny_project.segments]
    first, second, third = last_days(as_of, 3)
    backfill(loaded, tiny_project, [first, third], stitcher=stitch_aliases, segments=["absent"])
    with loaded.read() as con:
        missing = missing_days(con, names, as_of=as_of, history_days=3)
    groups = frozenset({"present", "power_users"})
    assert missing == {first: groups, second: groups | {"absent"}, third: groups}
    reports = backfill_missing(loaded, tiny_project, missing, stitcher=stitch_aliases)
    assert {(r.as_of.date() - timedelta(days=1), len(r.shares)) for r in reports} == {
        (first, 2),
        (second, 3),
        (third, 2),
    }
    with loaded.read() as con:
        assert missing_days(con, names, as_of=as_of, history_days=3) == {}


def test_a_backfill_says_how_far_it_is_and_what_failed(
    loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, as_of: datetime
) -> None:
    wrong = replace(
        tiny_project,
        models=tuple(
            replace(m, compiled_sql="select error('on purpose') as person_id") if m.name == "absent" else m
            for m in tiny_project.models
        ),
    )
    seen: list[datetime] = []
    reports = backfill(
        loaded, wrong, last_days(as_of, 2), stitcher=stitch_aliases, progress=lambda report: seen.append(report.as_of)
    )
    assert seen == [as_of - timedelta(days=1), as_of]
    assert [name for name, _ in reports[0].left_out] == ["absent"]
    assert "on purpose" in reports[0].left_out[0][1]
    with loaded.read() as con:
        assert {s.segment for s in sizes(con, as_of)} == {"power_users", "present"}


def test_a_segment_that_cannot_be_built_is_left_as_it_was_and_one_that_is_gone_closes(
    loaded: Warehouse, tiny_project: Project, stitch_aliases: Stitch, as_of: datetime
) -> None:
    build_in_memory(loaded, tiny_project, as_of, stitch_aliases)
    with loaded.write("memberships") as con:
        refresh_memberships(con, tiny_project, as_of=as_of)
        before = {s.segment: s.member_count for s in sizes(con, as_of)}
    without = tuple(m for m in tiny_project.models if m.name not in ("absent", "present"))
    broken = BrokenModel(name="present", path="p.sql", reason="p.sql: it is broken.", fix="mend it")
    later = as_of + timedelta(hours=1)
    with loaded.write("memberships") as con:
        report = refresh_memberships(
            con,
            replace(tiny_project, models=without, broken=(broken,)),
            as_of=later,
            failed={"power_users": "the disk was full"},
        )
        after = {s.segment: s.member_count for s in sizes(con, later)}
        gone = con.execute(
            "select distinct change, cause from segments.transitions where effective_at = $1", [to_warehouse(later)]
        )
        assert gone.fetchall() == [("exited", "definition removed")]
    assert dict(report.left_out) == {"power_users": "the disk was full", "present": "p.sql: it is broken."}
    assert after == {name: count for name, count in before.items() if name != "absent"}
    assert before["absent"] > 0
