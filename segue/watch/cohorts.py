"""Who came back and how far people got, as tables for a page or a picture."""

from dataclasses import dataclass
from datetime import date, timedelta

from segue.warehouse import Connection, has_table

#: The share that came back, and whether that age is over for everybody; None where nothing can be known yet.
Cell = tuple[float, bool] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The people who were new on one day, or in one week."""

    first_date: date
    person_count: int
    cells: tuple[Cell, ...]  # by age in days or weeks, as many in every cohort


def cohorts(con: Connection, which: str) -> list[Cohort]:
    """The last cohorts of weeks or days, the latest first; empty before the first.

    An age at which nobody was active has no row in the warehouse. Its share is 0, finally so once it is over.

    Args:
        which: day or week.
    """
    if not has_table(con, "kpis", "retention_cohorts"):
        return []
    rows = con.execute(
        """
        select cohort_date, age, person_count, returned_count, is_complete from kpis.retention_cohorts
        where period = $1 and age <= $2
        and cohort_date > (select max(cohort_date) from kpis.retention_cohorts where period = $1) - $3::int
        order by cohort_date desc, age
        """,
        [which, 12 if which == "week" else 14, 7 * 13 if which == "week" else 21],
    ).fetchall()
    if not rows:
        return []
    step = timedelta(days=7 if which == "week" else 1)
    # Whoever was new on the last day of a week reaches an age six days after the first.
    lasts = step + timedelta(days=6 if which == "week" else 0)
    known: dict[tuple[date, int], Cell] = {(d, age): (back / people, over) for d, age, people, back, over in rows}
    newest = max(d + age * step for d, age in known)
    # A time that has come, for sure: that of the last visit, or of the last age that is over.
    reached = max([newest, *(d + age * step + lasts for d, age, *_, over in rows if over)])

    def cell(first: date, age: int) -> Cell:
        begins = first + age * step
        return known.get((first, age), (0.0, begins + lasts <= reached)) if begins <= newest else None

    ages = range(max(age for _, age in known) + 1)
    return [
        Cohort(first_date=first, person_count=people, cells=tuple(cell(first, age) for age in ages))
        for first, people in {first: people for first, _, people, *_ in rows}.items()
    ]


def funnel(con: Connection, *, days: int) -> list[tuple[str, int]]:
    """Steps and people-days that got so far, over the last whole days."""
    if not has_table(con, "kpis", "funnel"):
        return []
    return con.execute(
        """
        with whole as (select * from kpis.funnel where is_complete)
        select step, sum(person_count)::bigint from whole
        where date > (select max(date) from whole) - $1::int
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
        with whole as (select * from kpis.funnel where is_complete)
        select date, step, person_count::bigint from whole
        where date > (select max(date) from whole) - $1::int
        order by date desc, position
        """,
        [days],
    ).fetchall()
