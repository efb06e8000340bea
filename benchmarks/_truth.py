"""Who is in which segment as of a time, from the events alone: the models run for everyone, identity from nothing."""

from datetime import datetime

from segue.identity import stitch
from segue.models import Evaluator, Project
from segue.models.check import empty_lake
from segue.segments import definitions, ensure_tables, record
from segue.warehouse import Connection


def evaluator(project: Project, source: Connection, *, until: datetime) -> Evaluator:
    """For `members_at`; `source` holds `raw.events`."""
    return Evaluator(project, source, until=until, stitch=_stitch)


def members_at(project: Project, everyone: Evaluator, as_of: datetime) -> dict[str, tuple[str, ...]]:
    """person_id → segments, of everybody who is in one."""
    found = everyone.at(as_of)
    segments = definitions(project).segments
    union = " union all ".join(f"select person_id, '{s.name}' as segment from segments.\"{s.name}\"" for s in segments)
    ledger = empty_lake()
    ensure_tables(ledger)
    ledger.register("members_now", found.con.execute(union).to_arrow_table())
    record(ledger, as_of=as_of, segments=segments, members="from members_now")
    rows = ledger.execute(
        "select person_id, list(segment order by segment) from segments.memberships group by 1"
    ).fetchall()
    ledger.close()
    return {person: tuple(names) for person, names in rows}


def _stitch(con: Connection, as_of: datetime) -> object:
    return stitch(con, as_of=as_of)
