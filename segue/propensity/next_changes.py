"""The next best guess at a change: into which segment people of another one go within some days."""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from segue.clock import to_warehouse
from segue.propensity.tables import ensure_tables
from segue.segments import OWN_CHANGE
from segue.warehouse import Connection

#: With fewer stays a probability is an anecdote.
FEWEST_STAYS = 20

_QUERY = """
-- Of the ledger, since memberships do not know why they begin: who is in a segment because it was defined or edited, or
-- because two ids became one, has gone nowhere.
with stays as (
    select person_id, segment, effective_at as entered_at
    from segments.transitions
    where change = 'entered' and cause = $4 and effective_at <= $1::timestamp
),
-- A stay says where it led within the horizon only when the horizon is over.
begun as (
    select person_id, segment, entered_at, strftime(date_trunc('month', entered_at), '%Y-%m') as cohort
    from stays
    where entered_at <= $1::timestamp - to_days($2::integer)
),
led as (
    select distinct b.person_id, b.segment, b.entered_at, b.cohort, n.segment as next_segment
    from begun b
    join stays n
        on n.person_id = b.person_id and n.segment <> b.segment
        and n.entered_at > b.entered_at and n.entered_at <= b.entered_at + to_days($2::integer)
),
totals as (
    select grouping(cohort) = 1 as is_all, cohort, segment, count(*) as stays
    from begun group by grouping sets ((cohort, segment), (segment))
),
changes as (
    select grouping(cohort) = 1 as is_all, cohort, segment, next_segment, count(*) as changed
    from led group by grouping sets ((cohort, segment, next_segment), (segment, next_segment))
)
select coalesce(c.cohort, 'all'), c.segment, c.next_segment, t.stays, c.changed
from changes c
join totals t on t.is_all = c.is_all and t.cohort is not distinct from c.cohort and t.segment = c.segment
where t.stays >= $3
order by c.is_all desc, c.cohort, c.segment, c.changed desc, c.next_segment
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextChange:
    """Of people who entered one segment, how many entered another within the horizon."""

    cohort: str  # month of entering, or `all`
    from_segment: str
    to_segment: str
    stay_count: int
    changed_count: int

    @property
    def probability(self) -> float:
        """Laplace's: never quite 0 or 1 from a handful of people."""
        return (self.changed_count + 1) / (self.stay_count + 2)


def next_changes(con: Connection, *, as_of: datetime, horizon_days: int = 14) -> tuple[NextChange, ...]:
    """How often each segment was followed by each other one, by month of entering and over all; also written.

    To be called inside a transaction. Only stays that began a whole horizon before `as_of` count, so that no cohort
    looks faithful because it is young; and only stays that people's own doing, or the time, began.
    """
    ensure_tables(con)
    try:
        rows = con.execute(_QUERY, [to_warehouse(as_of), horizon_days, FEWEST_STAYS, OWN_CHANGE]).fetchall()
    except duckdb.CatalogException:
        rows = []
    found = tuple(
        NextChange(cohort=c, from_segment=a, to_segment=b, stay_count=int(n), changed_count=int(k))
        for c, a, b, n, k in rows
    )
    con.execute("delete from propensity.next_changes")
    if found:
        con.executemany(
            "insert into propensity.next_changes values ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                [c.cohort, c.from_segment, c.to_segment, horizon_days, c.stay_count, c.changed_count,
                 round(c.probability, 6), to_warehouse(as_of)]
                for c in found
            ],
        )  # fmt: skip
    return found


def matrix(found: tuple[NextChange, ...]) -> tuple[list[str], list[list[float | None]]]:
    """Segments, and the probability from each (row) to each (column), over all cohorts; None where nothing is known."""
    overall = {(c.from_segment, c.to_segment): c.probability for c in found if c.cohort == "all"}
    names = sorted({name for pair in overall for name in pair})
    return names, [[overall.get((a, b)) for b in names] for a in names]
