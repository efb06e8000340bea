"""What lies inside a slice whose KPI moved.

`kpis.daily` divides everybody by one dimension at a time, so it cannot say which part of iOS it was. Here the analysts'
own KPI SQL runs once more, on the sessions of that slice alone and on the days that are compared alone: what it calls
everybody is then iOS, and what it calls `channel=email` is the e-mail part of iOS. So a KPI is still written once, and
no crossed slice is kept for the days on which nothing happened.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from segue.models import Model, Project, empty_lake, run_chain
from segue.models.project import quote
from segue.warehouse import Connection, insert_rows
from segue.watch.drivers import compared_days, explain
from segue.watch.tables import COLUMNS, SEVERITIES, Anomaly, anomalies, ensure_tables

#: Slices that one detection looks into, the most severe first: an outage of everything moves them all alike.
_MOST_SLICES = 12
_SESSIONS = "sessions"
_COLUMNS = COLUMNS["inside"]
#: Who was in the segment when the session began, as `activity` has it.
_MEMBERS = """
    exists (
        select 1 from segments.memberships
        where memberships.person_id = everyones.person_id and memberships.segment = $1
        and everyones.started_at >= memberships.entered_at
        and (memberships.exited_at is null or everyones.started_at < memberships.exited_at)
    )
"""

_Row = tuple[str, str, date, float, float | None, float | None]


def look_inside(con: Connection, project: Project, *, as_of: datetime, since: date) -> int:
    """Keep in `watch.inside` what `explain` needs for the anomalies of slices.

    `watch.inside` has a row per anomaly, part and compared UTC day: `anomaly_id`, `slice` (`all` is the slice of the
    anomaly, `channel=email` the part of it), `date`, and `value`, `numerator`, `denominator` as in `kpis.daily`.
    Anomalies whose rows still show the change that the slice shows are left as they are, so a rerun writes nothing. A
    KPI that is made of more than sessions and memberships (retention) is passed over: fewer sessions would not make it
    that of the slice.

    Args:
        con: a connection inside a write transaction, after `detect`.
        as_of: aware UTC, that of the detection.
        since: anomalies that ended before this day keep what they have.

    Returns:
        How many anomalies got rows.
    """
    ensure_tables(con)
    models = _of_sessions(project)
    kpis = [m for m in models if _is_kpi(m)]
    chosen = [a for a in _chosen(con, since) if not explain(con, a).is_divided] if kpis else []
    if not chosen:
        return 0
    before = {a.anomaly_id: _kept(con, a) for a in chosen}
    with _loaded(con, project, models, [day for a in chosen for day in compared_days(a)]) as lake:
        rows: list[_Row] = []
        for slice_ in sorted({a.slice for a in chosen}):
            if not _restrict(lake, project, slice_):
                continue
            failed = run_chain(lake, models, as_of=as_of)
            built = [m for m in kpis if m.name not in failed]
            rows += [row for a in chosen if a.slice == slice_ for row in _read(lake, built, a)]
    now = {a.anomaly_id: sorted(row for row in rows if row[0] == a.anomaly_id) for a in chosen}
    changed = [ident for ident, found in now.items() if found and found != before[ident]]
    if changed:
        con.execute(
            "delete from watch.inside where list_contains($1::varchar[], anomaly_id)"
            " or anomaly_id not in (select anomaly_id from watch.anomalies)",
            [changed],
        )
        insert_rows(con, "watch.inside", _COLUMNS, [row for ident in changed for row in now[ident]])
    return len(changed)


def _of_sessions(project: Project) -> list[Model]:
    """The models between the sessions and the KPIs that are made of sessions and segments alone, upstream first."""
    found: dict[str, Model] = {}
    for model in project.upstream(m.name for m in project.models if _is_kpi(m)):
        reads = set(model.depends_on)
        if reads and reads <= {_SESSIONS, *found} and all(s.startswith("segments.") for s in model.sources):
            found[model.name] = model
    return list(found.values())


def _is_kpi(model: Model) -> bool:
    return "kpi" in (model.meta.get("segue") or {})


def _chosen(con: Connection, since: date) -> list[Anomaly]:
    found = [a for a in anomalies(con) if a.slice != "all" and a.last_date >= since]
    found.sort(key=lambda a: (SEVERITIES.index(a.severity), a.last_date, a.score), reverse=True)
    slices = list(dict.fromkeys(a.slice for a in found))[:_MOST_SLICES]
    return [a for a in found if a.slice in slices]


def _loaded(con: Connection, project: Project, models: Sequence[Model], days: Sequence[date]) -> Connection:
    """A database in memory with everybody's sessions of these days, and what else the models read."""
    lake = empty_lake()
    first, end = min(days), max(days) + timedelta(days=1)
    sessions = project.by_name[_SESSIONS].quoted
    on_these_days = (
        "ended_at >= $1 and started_at < $2 and (list_contains($3::date[], started_at::date)"
        " or started_at::date < ended_at::date)"
    )
    _copy(con, lake, f"select * from {sessions} where {on_these_days}", [first, end, days], "memory.main.everyones")
    for relation in sorted({s for m in models for s in m.sources}):
        still_there = " where exited_at is null or exited_at >= $1" if relation == "segments.memberships" else ""
        schema, _, table = relation.partition(".")
        lake.execute(f"create schema if not exists {quote(schema)}")
        name = f"{quote(schema)}.{quote(table)}"
        _copy(con, lake, f"select * from {name}{still_there}", [first] if still_there else [], name)
    return lake


def _copy(con: Connection, lake: Connection, query: str, values: Sequence[object], name: str) -> None:
    lake.register("arriving", con.execute(query, list(values)).to_arrow_reader(100_000))
    lake.execute(f"create table {name} as select * from arriving")
    lake.unregister("arriving")


def _restrict(lake: Connection, project: Project, slice_: str) -> bool:
    """Let the sessions be those of a slice; False when it is none of sessions."""
    dimension, _, value = slice_.partition("=")
    columns = {row[0] for row in lake.execute("describe memory.main.everyones").fetchall()}
    if dimension != "segment" and dimension not in columns:
        return False
    condition = _MEMBERS if dimension == "segment" else f"cast({quote(dimension)} as varchar) = $1"
    sessions = project.by_name[_SESSIONS]
    lake.execute(f"create schema if not exists {quote(sessions.schema)}")
    lake.execute(
        f"create or replace table {sessions.quoted} as select * from memory.main.everyones where {condition}", [value]
    )
    return True


def _read(lake: Connection, kpis: Iterable[Model], anomaly: Anomaly) -> list[_Row]:
    every = " union all ".join(f"select * from {m.quoted}" for m in kpis)
    return lake.execute(
        f"""
        select $1, slice, date, value::double, numerator::double, denominator::double from ({every})
        where kpi = $2 and list_contains($3::date[], date) and value is not null
        """,
        [anomaly.anomaly_id, anomaly.kpi, compared_days(anomaly)],
    ).fetchall()


def _kept(con: Connection, anomaly: Anomaly) -> list[_Row]:
    rows = con.execute(
        f"select {', '.join(_COLUMNS)} from watch.inside where anomaly_id = $1", [anomaly.anomaly_id]
    ).fetchall()
    return sorted(rows)
