"""Who came back and how far people got, as tables for a page or a picture."""

from datetime import date

from segue.warehouse import Connection, has_table


def cohorts(con: Connection, which: str) -> list[tuple[date, int, int, int, bool]]:
    """cohort, age, people, returned, complete; the last cohorts of weeks or days."""
    if not has_table(con, "kpis", "retention_cohorts"):
        return []
    return con.execute(
        """
        select cohort_date, age, person_count, returned_count, is_complete from kpis.retention_cohorts
        where period = $1 and age <= $2
        and cohort_date > (select max(cohort_date) from kpis.retention_cohorts where period = $1) - $3::int
        order by cohort_date desc, age
        """,
        [which, 12 if which == "week" else 14, 7 * 13 if which == "week" else 21],
    ).fetchall()


def funnel(con: Connection, *, days: int) -> list[tuple[str, int]]:
    """Steps and people-days that got so far, over the last whole days."""
    if not has_table(con, "kpis", "funnel"):
        return []
    return con.execute(
        """
        select step, sum(person_count)::bigint from kpis.funnel
        where is_complete and date > (select max(date) from kpis.funnel) - $1::int
        group by position, step order by position
        """,
        [days],
    ).fetchall()


def funnel_by_day(con: Connection, *, days: int) -> list[tuple[date, str, int]]:
    """Date, step and people who got so far, of the last whole days, the latest first."""
    if not has_table(con, "kpis", "funnel"):
        return []
    return con.execute(
        """
        select date, step, person_count::bigint from kpis.funnel
        where is_complete and date > (select max(date) from kpis.funnel) - $1::int
        order by date desc, position
        """,
        [days],
    ).fetchall()
