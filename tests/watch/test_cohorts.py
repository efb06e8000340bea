"""Who came back and how far people got."""

from datetime import date

import pytest

from segue.watch.cohorts import cohorts, funnel, funnel_by_day


@pytest.fixture
def con(warehouse):
    with warehouse.write("test") as con:
        con.execute("create schema kpis")
        yield con


def fill_cohorts(con, rows):
    con.execute(
        "create table kpis.retention_cohorts (period varchar, cohort_date date, age bigint, person_count bigint,"
        " returned_count bigint, is_complete boolean)"
    )
    con.executemany("insert into kpis.retention_cohorts values (?, ?, ?, ?, ?, ?)", rows)


def test_an_age_that_has_just_begun_and_that_nobody_has_reached_is_not_over(con):
    today = date(2026, 3, 3)
    fill_cohorts(
        con,
        [
            ("day", date(2026, 3, 1), 0, 4, 4, True),
            ("day", date(2026, 3, 1), 2, 4, 1, False),
            ("day", date(2026, 3, 2), 0, 5, 5, True),
            ("day", today, 0, 6, 6, False),
        ],
    )
    newest, yesterday, before = cohorts(con, "day")
    assert newest.cells == ((1.0, False), None, None)
    assert yesterday.cells == ((1.0, True), (0.0, False), None), "today, nobody of them is back yet"
    assert before.cells == ((1.0, True), (0.0, True), (0.25, False)), "yesterday is over, and nobody came"


def test_a_day_on_which_nobody_at_all_was_active_is_over_once_the_next_has_begun(con):
    day = date(2026, 3, 1)
    fill_cohorts(con, [("day", day, 0, 4, 4, True), ("day", day, 2, 4, 1, False)])
    [cohort] = cohorts(con, "day")
    assert cohort.cells == ((1.0, True), (0.0, True), (0.25, False))


def test_a_week_is_over_when_it_is_for_whoever_came_last(con):
    monday = date(2026, 2, 9)
    fill_cohorts(
        con,
        [
            ("week", monday, 0, 4, 4, True),
            ("week", date(2026, 2, 16), 0, 5, 5, False),
            ("week", date(2026, 2, 16), 1, 5, 1, False),
        ],
    )
    _, older = cohorts(con, "week")
    assert older.cells == ((1.0, True), (0.0, False))


def test_the_last_whole_days_of_the_funnel_are_as_many_as_were_asked_for(con):
    con.execute(
        "create table kpis.funnel as select date '2026-02-01' + d::int as date, 0 as position, 'Active' as step,"
        " 10 as person_count, d < 27 as is_complete from range(28) r(d)"
    )
    assert funnel(con, days=14) == [("Active", 140)]
    assert [day for day, *_ in funnel_by_day(con, days=2)] == [date(2026, 2, 27), date(2026, 2, 26)]
