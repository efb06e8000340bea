"""From evaluated segments to history: of the tables dbt has just built, and of past days evaluated in memory."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from segue.clock import end_of_day, to_warehouse
from segue.models import Evaluation, Evaluator, Project, Stitch
from segue.models.check import empty_lake
from segue.models.project import quote
from segue.segments.definitions import Segment, definitions
from segue.segments.history import record
from segue.segments.ledger import TABLES, RecordReport, ensure_tables
from segue.variables import read_variables, wrong_variable
from segue.warehouse import Connection, Warehouse, relations

#: Evaluated members that are held in memory before they are written.
_MEMBERS_PER_WRITE = 3_000_000

#: Where the project does not say.
_SHARE_DAYS = 30

#: Which columns tell the rows of a table apart.
_KEYS = {
    "evaluations": ("segment", "as_of"),
    "transitions": ("transition_id",),
    "memberships": ("person_id", "segment", "entered_at"),
    "merged_people": ("from_person_id", "into_person_id"),
}

Progress = Callable[[RecordReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evaluated:
    """One evaluation, taken out of the database that made it."""

    as_of: datetime
    segments: tuple[Segment, ...]
    members: Any  # Arrow tables
    merges: Any
    active_count: int | None
    left_out: tuple[tuple[str, str], ...]


def refresh_memberships(
    con: Connection,
    project: Project,
    *,
    as_of: datetime,
    recorded_at: datetime | None = None,
    failed: Mapping[str, str] | None = None,
) -> RecordReport:
    """Record the segment tables that dbt has built as of `as_of`. To be called inside a transaction.

    A segment that is broken, has unusable meta, was never built or is named in `failed` is left as it was. A segment
    whose definition is gone closes: its members exit with the cause `definition removed`, and its table is dropped.

    Args:
        con: a connection on which the warehouse is the default catalog.
        project: as it was built.
        as_of: the clock of that build.
        recorded_at: when this is written; None: the rows say the time they tell of.
        failed: segment → reason, of segments whose build failed this time, so that their tables are old.
    """
    ensure_tables(con)
    tables = relations(con)
    known = definitions(project)
    left_out = [*((n, e.message) for n, e in known.errors.items()), *((b.name, b.reason) for b in project.broken)]
    usable: list[Segment] = []
    for segment in known.segments:
        if failed and segment.name in failed:
            left_out.append((segment.name, failed[segment.name]))
        elif segment.relation not in tables:
            left_out.append((segment.name, f"{segment.relation} has not been built yet"))
        else:
            usable.append(segment)
    gone = _gone(con, project, as_of)
    report = record(
        con,
        as_of=as_of,
        segments=[*usable, *gone],
        members=_members_of(usable),
        merges=_merges(tables, as_of),
        active_count=_active_count(con, tables, as_of, days=_share_days(project)),
        recorded_at=recorded_at,
    )
    names = {segment.name for segment in gone}
    _drop_tables(con, names)
    return replace(
        report, left_out=tuple(sorted(left_out)), shares=tuple(s for s in report.shares if s.segment not in names)
    )


def backfill(
    warehouse: Warehouse,
    project: Project,
    days: Iterable[date],
    *,
    recorded_at: datetime | None = None,
    progress: Progress | None = None,
    stitcher: Stitch | None = None,
    segments: Collection[str] | None = None,
) -> tuple[RecordReport, ...]:
    """Evaluate the end of each day in memory and record it: as if each day had been refreshed when it ended.

    Each day counts what had been received by its end. Days are written in batches, each in one transaction, so a
    backfill that was interrupted can be run again; what is there already is not written twice.

    Args:
        warehouse: is read while days are evaluated, and written, under its lock, for moments only.
        project: whose segments.
        days: UTC dates in any order.
        recorded_at: when this is written; None: the rows say the time they tell of, as a refresh each day does.
        progress: called with the report of each day once it is written.
        stitcher: makes the identity tables as of a time; None: `segue.identity`, by the project's rules.
        segments: names of the segments to fill in; None: all. The rest of their exclusive groups is filled in with
            them, since who is in one depends on the others.
    """
    from segue.identity import stitcher_of  # loads scipy

    wanted = sorted(set(days))
    if not wanted:
        return ()
    names = _whole_groups(definitions(project).segments, segments)
    share_days = _share_days(project)
    reports: list[RecordReport] = []
    batch: list[_Evaluated] = []
    with warehouse.read() as source:
        past = Evaluator(
            project,
            source,
            until=end_of_day(wanted[-1]),
            stitch=stitcher or stitcher_of(source, project.rules),
            targets=[*names, "person_features"],
            model_seconds=warehouse.settings.model_seconds,
        )
    with past:
        for day in wanted:
            batch.append(_take_out(past.at(end_of_day(day)), project, names, share_days))
            if sum(e.members.num_rows for e in batch) > _MEMBERS_PER_WRITE or day == wanted[-1]:
                written = _write(warehouse, batch, recorded_at)
                reports += written
                batch = []
                for report in written if progress else ():
                    assert progress is not None
                    progress(report)
    return tuple(reports)


def backfill_missing(
    warehouse: Warehouse,
    project: Project,
    missing: Mapping[date, frozenset[str]],
    *,
    stitcher: Stitch | None = None,
) -> tuple[RecordReport, ...]:
    """Fill in what `missing_days` has found; days that lack the same segments are evaluated together."""
    by_names: dict[frozenset[str], list[date]] = {}
    for day, names in missing.items():
        by_names.setdefault(names, []).append(day)
    return tuple(
        report
        for names, days in by_names.items()
        for report in backfill(warehouse, project, days, stitcher=stitcher, segments=names)
    )


def _whole_groups(segments: Sequence[Segment], names: Collection[str] | None) -> frozenset[str]:
    if names is None:
        return frozenset(s.name for s in segments)
    groups = {s.exclusive_group for s in segments if s.name in names and s.exclusive_group is not None}
    return frozenset(s.name for s in segments if s.name in names or s.exclusive_group in groups)


def _take_out(evaluation: Evaluation, project: Project, names: Collection[str], share_days: int) -> _Evaluated:
    con = evaluation.con
    segments = [s for s in definitions(project).segments if s.name in names]
    usable = tuple(s for s in segments if s.name in evaluation.built)
    tables = relations(con)
    merges = _merges(tables, evaluation.as_of)
    return _Evaluated(
        as_of=evaluation.as_of,
        segments=usable,
        members=con.execute(_members_of(usable)).to_arrow_table(),
        merges=con.execute(merges).to_arrow_table() if merges else None,
        active_count=_active_count(con, tables, evaluation.as_of, days=share_days),
        left_out=tuple((s.name, evaluation.failed[s.name]) for s in segments if s.name in evaluation.failed),
    )


def _write(warehouse: Warehouse, batch: Sequence[_Evaluated], recorded_at: datetime | None) -> list[RecordReport]:
    """Record a batch in one transaction: in memory first, then the difference, so that each table is written once."""
    reports: list[RecordReport] = []
    with warehouse.write("backfill of segments") as con:
        ensure_tables(con)
        with _copy_in_memory(con) as memory:
            for evaluated in batch:
                memory.register("evaluated_now", evaluated.members)
                if evaluated.merges is not None:
                    memory.register("merged_now", evaluated.merges)
                report = record(
                    memory,
                    as_of=evaluated.as_of,
                    segments=evaluated.segments,
                    members="select * from evaluated_now",
                    merges="select * from merged_now" if evaluated.merges is not None else None,
                    active_count=evaluated.active_count,
                    recorded_at=recorded_at,
                )
                reports.append(replace(report, left_out=evaluated.left_out))
            for table in TABLES:
                _write_difference(con, table, memory.execute(f"from segments.{table}").to_arrow_table())
    return reports


@contextmanager
def _copy_in_memory(con: Connection) -> Iterator[Connection]:
    memory = empty_lake()
    try:
        ensure_tables(memory)
        for table in TABLES:
            memory.register("arriving", con.execute(f"from segments.{table}").to_arrow_reader(100_000))
            memory.execute(f"insert into segments.{table} by name from arriving")
            memory.unregister("arriving")
        yield memory
    finally:
        memory.close()


def _write_difference(con: Connection, table: str, wanted: Any) -> None:
    keys = ", ".join(_KEYS[table])
    con.register("wanted_rows", wanted)
    con.execute(f"create or replace temp table gone as from segments.{table} except select * from wanted_rows")
    con.execute(f"create or replace temp table arrived as from wanted_rows except from segments.{table}")
    con.unregister("wanted_rows")
    for temporary, statement in (
        ("gone", f"delete from segments.{table} where ({keys}) in (select ({keys}) from gone)"),
        ("arrived", f"insert into segments.{table} by name from arrived"),
    ):
        row = con.execute(f"select count(*) from {temporary}").fetchone()
        if row and row[0]:
            con.execute(statement)


def _members_of(segments: Sequence[Segment]) -> str:
    if not segments:
        return "select null::varchar as person_id, null::varchar as segment where false"
    return " union all ".join(
        f"select person_id::varchar as person_id, '{s.name.replace(chr(39), chr(39) * 2)}' as segment "
        f"from {'.'.join(map(quote, s.relation.split('.', 1)))}"
        for s in segments
    )


def _merges(tables: Collection[str], as_of: datetime) -> str | None:
    if "identity.aliases" not in tables:
        return None
    return (
        "select alias_id as from_person_id, person_id as into_person_id from identity.aliases "
        f"where known_at <= timestamp '{to_warehouse(as_of).isoformat(sep=' ')}'"
    )


def _share_days(project: Project) -> int:
    days = read_variables(project.project_dir).get("share_days", _SHARE_DAYS)
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        raise wrong_variable("share_days", days, "a whole number from 1")
    return days


def _active_count(con: Connection, tables: Collection[str], as_of: datetime, *, days: int) -> int | None:
    """People seen in so many days before `as_of`; None when the project has no `marts.person_features`."""
    if "marts.person_features" not in tables:
        return None
    row = con.execute(
        "select count(distinct person_id) from marts.person_features"
        " where last_seen_at > $1::timestamp - to_days($2::int) and last_seen_at <= $1::timestamp",
        [to_warehouse(as_of), days],
    ).fetchone()
    return int(row[0]) if row else None


def _drop_tables(con: Connection, names: Collection[str]) -> None:
    """What dbt built of segments that are gone: nobody would ever bring it up to date again."""
    if not names:
        return
    rows = con.execute(
        "select table_name, table_type from information_schema.tables"
        " where table_catalog = current_database() and table_schema = 'segments'"
    ).fetchall()
    for name, kind in rows:
        if name in names and name not in TABLES:
            con.execute(f"drop {'view' if kind == 'VIEW' else 'table'} segments.{quote(name)}")


def _gone(con: Connection, project: Project, as_of: datetime) -> list[Segment]:
    """Segments of the history whose definition no longer exists, as empty ones; not those that are merely broken."""
    rows = con.execute(
        "select segment from segments.evaluations group by segment"
        " having max(as_of) <= $1 and arg_max(definition_hash, as_of) <> ''",
        [to_warehouse(as_of)],
    ).fetchall()
    present = {m.name for m in project.segments} | {b.name for b in project.broken}
    return [Segment(name=name) for (name,) in rows if name not in present]
