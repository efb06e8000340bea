"""What a decision about people would change further on: the models run twice on the events of those concerned."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from segue.identifiers import ID_COLUMNS
from segue.identity.decisions import Plan, read_decisions, stitcher
from segue.models import Evaluator, Project
from segue.warehouse import Connection

_KPIS = "daily"


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Differences, as of one time."""

    memberships: tuple[tuple[str, str, str], ...]  # person, segment, change: leaves or enters
    kpis: tuple[tuple[str, str, date, float, float], ...]  # kpi, slice, day, change of numerator and of denominator


def impact(con: Connection, project: Project, plan: Plan, *, as_of: datetime) -> Impact:
    """Evaluate the segments and the KPIs of the people of these components, as they are and as they would be.

    KPIs are sums over people or their sessions, so the change of numerator and denominator is that of the whole.
    """
    decisions = read_decisions(con)
    would_be = [*decisions, *plan.rows(by="", note="", as_of=as_of)]
    names = [m.name for m in project.segments]
    targets = [*names, *([_KPIS] if _KPIS in project.by_name else [])]
    keys = pa.table({"kind": [k for k, _ in plan.keys], "value": [v for _, v in plan.keys]})
    con.register("keys_now", keys)
    con.execute("create or replace temp table keys_concerned as from keys_now")
    con.unregister("keys_now")
    concerned = " or ".join(
        f"{column} in (select value from keys_concerned where kind = '{kind}')" for column, kind in ID_COLUMNS.items()
    )
    events = (
        f"select * from raw.events where message_id in (select message_id from staging.stg_events where {concerned})"
    )
    answers = []
    for rows in (decisions, would_be):
        with Evaluator(
            project, con, until=as_of, stitch=stitcher(project.rules, rows), targets=targets, events=events
        ) as evaluator:
            found = evaluator.at(as_of)
            members = {
                (person, name)
                for name in names
                if name in found.built
                for (person,) in found.con.execute(f"select person_id from {project.by_name[name].quoted}").fetchall()
            }
            answers.append((members, _kpis(found.con) if _KPIS in found.built else {}))
    (members, kpis), (members_then, kpis_then) = answers
    changes = [(p, s, "leaves") for p, s in members - members_then]
    changes += [(p, s, "enters") for p, s in members_then - members]
    nothing = (0.0, 0.0)
    deltas: list[tuple[str, str, date, float, float]] = []
    for key in sorted(kpis.keys() | kpis_then.keys()):
        was, then = kpis.get(key, nothing), kpis_then.get(key, nothing)
        deltas.append((*key, round(then[0] - was[0], 6), round(then[1] - was[1], 6)))
    return Impact(
        memberships=tuple(sorted(changes)),
        kpis=tuple((k, s, d, n, m) for k, s, d, n, m in deltas if n or m),
    )


def _kpis(con: Connection) -> Mapping[tuple[str, str, date], tuple[float, float]]:
    rows = con.execute(
        "select kpi, coalesce(slice, ''), date, coalesce(numerator, 0)::double, coalesce(denominator, 0)::double"
        f" from kpis.{_KPIS}"
    ).fetchall()
    return {(kpi, part, day): (numerator, denominator) for kpi, part, day, numerator, denominator in rows}
