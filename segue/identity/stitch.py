"""Stitching: from the staged identifiers and links to the tables of the schema `identity`."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from segue.clock import from_warehouse, to_warehouse
from segue.identifiers import Rules
from segue.identity.graph import Resolution, resolve, short_hash
from segue.identity.scope import IN_SCOPE, count_staged, take_all, take_news
from segue.identity.tables import ensure_tables, replace_rows
from segue.warehouse import Connection, has_table, scalar

#: What this module and `scope` make of the same rows; raise it when that changes, so that everything is made anew.
_FORM = "2"

_LINK = "left_type, left_value, right_type, right_value, rule"

_SIZES = "create or replace temp table {} as select person_id, count(*) as n from {} group by person_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchReport:
    """What one stitching found and wrote."""

    as_of: datetime
    person_count: int
    identifier_count: int
    judged_count: int  # links that were judged now
    largest: int  # identifiers of the person with most of them
    new_person_count: int  # ids that were not published before
    merge_count: int  # written now
    refused_count: int  # links refused for the first time, or for another reason
    alias_count: int  # ids that lead to another one from now on
    written_count: int  # rows of identity.identifiers that are new or differ
    removed_count: int  # identifiers that are not staged any more
    is_rebuilt: bool  # everything was judged, not only what is new


class _State(NamedTuple):
    """The one row of `identity.state`: how far staging had been read, and what there was."""

    as_of: datetime
    load_id: int | None
    received_at: datetime | None
    definition: str
    person_count: int
    largest: int


def stitch(con: Connection, *, as_of: datetime, rules: Rules | None = None, is_full: bool = False) -> StitchReport:
    """Join linked identifiers into people, as of what had been received by `as_of`; write what changed.

    To be called inside a transaction. Only components with something new are judged, unless the rules or the staging
    models have changed, rows have gone from staging, or `as_of` is before the last run. Either way the result is that
    of judging everything.

    Args:
        con: a connection on which the warehouse is the default catalog, with staging.stg_identifiers and
            staging.stg_links.
        as_of: aware; rows with a later first_received_at do not count.
        rules: None: the shipped ones.
        is_full: judge everything.
    """
    rules = rules or Rules()
    ensure_tables(con)
    moment = to_warehouse(as_of)
    definition = _definition(con, rules)
    last = _last(con)
    report = None
    if not (is_full or last is None or last.as_of > moment or last.definition != definition):
        report = _stitch(con, as_of, rules, last)
        if report.identifier_count != count_staged(con, moment=moment):
            report = None  # some have gone
    report = report or _stitch(con, as_of, rules, None)
    _remember(con, report, definition, last)
    return report


def stitched_as_of(con: Connection) -> datetime | None:
    """The clock with which people were last worked out, as every refresh does, aware UTC; None when never."""
    last = _last(con) if has_table(con, "identity", "state") else None
    return None if last is None else from_warehouse(last.as_of)


def _stitch(con: Connection, as_of: datetime, rules: Rules, last: _State | None) -> StitchReport:
    """Judge what is new since the last state; everything, without one."""
    moment = to_warehouse(as_of)
    is_rebuilt = last is None
    if last is None:
        identifiers, links = take_all(con, moment=moment)
    else:
        identifiers, links = take_news(
            con,
            moment=moment,
            last_moment=last.as_of,
            last_load_id=last.load_id,
            last_received_at=last.received_at,
            device_wait=rules.device_wait,
        )
    found = resolve(identifiers, links, rules=rules, as_of=as_of)
    con.execute(_SIZES.format("people_before", "identifiers_before"))
    written, removed = _write_identifiers(con, identifiers, found, moment, is_rebuilt=is_rebuilt)
    con.execute(_SIZES.format("people_found", "identifiers_found"))
    scope = "true" if is_rebuilt else IN_SCOPE
    con.register("merges_found", _merges(found, links, moment))
    merge_count, _ = replace_rows(con, "merges", "merges_found", key="merge_id", scope=scope, keeps="recorded_at")
    refused_count = _write_refused(con, _refused(found, links, moment), moment, scope)
    alias_count = _write_aliases(con, moment)
    con.unregister("merges_found")
    person_count, largest, new_people = _count_people(con, last)
    return StitchReport(
        as_of=as_of,
        person_count=person_count,
        identifier_count=scalar(con, "select count(*) from identity.identifiers"),
        judged_count=links.num_rows,
        largest=largest,
        new_person_count=new_people,
        merge_count=merge_count,
        refused_count=refused_count,
        alias_count=alias_count,
        written_count=written,
        removed_count=removed,
        is_rebuilt=is_rebuilt,
    )


def _write_identifiers(
    con: Connection, identifiers: pa.Table, found: Resolution, moment: datetime, *, is_rebuilt: bool
) -> tuple[int, int]:
    """Rows written, identifiers removed."""
    resolved = identifiers.append_column("person_id", found.person_ids).append_column(
        "component_id", found.component_ids
    )
    con.register("resolved_now", resolved)
    con.execute(
        """
        create or replace temp table identifiers_found as
        select identifier_type, identifier_value, person_id, first_seen_at, last_seen_at,
            case when known_person_id = person_id then least(assigned_at, $1::timestamp) else $1::timestamp end
                as assigned_at,
            component_id, known_row, known_person_id,
            not coalesce(is_as_seen and known_person_id = person_id and known_component_id = component_id, false)
                as is_written
        from resolved_now
        """,
        [moment],
    )
    con.unregister("resolved_now")
    written = scalar(con, "select count(*) from identifiers_found where is_written")
    removed = 0
    if is_rebuilt:
        gone = "select known_row from identifiers_before anti join identifiers_found using (known_row)"
        removed = scalar(con, f"select count(*) from ({gone})")
        if removed:
            con.execute(f"delete from identity.identifiers where rowid in ({gone})")
    if written:
        con.execute(
            "delete from identity.identifiers where rowid in"
            " (select known_row from identifiers_found where is_written and known_row is not null)"
        )
        con.execute(
            "insert into identity.identifiers by name"
            " select * exclude (known_row, known_person_id, is_written) from identifiers_found where is_written"
        )
    return written, removed


def _count_people(con: Connection, last: _State | None) -> tuple[int, int, int]:
    """People, identifiers of the one with most, people with an id that is new; without counting all of them again."""
    row = con.execute(
        """
        select (select count(*) from people_found), (select max(n) from people_found),
            (select count(*) from people_found anti join people_before using (person_id)),
            (select count(*) from people_before), (select max(n) from people_before)
        """
    ).fetchone()
    assert row is not None
    count, largest, new, count_before, largest_before = (value or 0 for value in row)
    if last is None:
        return count, largest, new
    if largest < last.largest and largest_before < last.largest:
        largest = last.largest
    elif largest < last.largest:
        # Whoever had most is among these, and has become smaller.
        largest = scalar(con, "select max(n) from (select count(*) as n from identity.identifiers group by person_id)")
    return last.person_count - count_before + count, largest, new


def _merges(found: Resolution, links: pa.Table, moment: datetime) -> pa.Table:
    link = links.take(pa.array(found.merged_by))
    pairs = zip(found.merged_from.to_pylist(), found.merged_into.to_pylist(), strict=True)
    message = pc.fill_null(link["first_message_id"], "unknown")
    evidence = pc.binary_join_element_wise(
        link["left_type"], " ", link["left_value"], " and ", link["right_type"], " ", link["right_value"],
        " in message ", message, "",
    )  # fmt: skip
    return pa.table(
        {
            "merge_id": pa.array(["m_" + short_hash(*pair) for pair in pairs], pa.string()),
            "merged_at": link["first_seen_at"],
            "from_person_id": found.merged_from,
            "into_person_id": found.merged_into,
            **{name: link[name] for name in _LINK.split(", ")},
            "evidence": evidence,
            "recorded_at": _constant(moment, link.num_rows),
        }
    )


def _refused(found: Resolution, links: pa.Table, moment: datetime) -> pa.Table:
    link = links.take(pa.array(found.refused))
    return pa.table(
        {
            **{name: link[name] for name in _LINK.split(", ")},
            "reason": pa.array(found.reasons, pa.string()),
            "detail": pa.array(found.details, pa.string()),
            "seen_at": link["first_seen_at"],
            "link_count": link["link_count"],
            "refused_at": _constant(moment, link.num_rows),
        }
    )


def _write_refused(con: Connection, refused: pa.Table, moment: datetime, scope: str) -> int:
    """Links, then values that staging would not take: those have no other side."""
    con.register("links_refused", refused)
    count, _ = replace_rows(
        con, "refused", "links_refused", key=_LINK, scope=f"right_type <> '' and {scope}", keeps="refused_at"
    )
    con.unregister("links_refused")
    con.execute(
        """
        create or replace temp table values_refused as
        select identifier_type as left_type, identifier_value as left_value, '' as right_type, '' as right_value,
            'value' as rule, refused_reason as reason, '' as detail, first_seen_at as seen_at, 1::bigint as link_count,
            $1::timestamp as refused_at
        from staging.stg_identifiers
        where refused_reason is not null and first_received_at <= $1::timestamp
        """,
        [moment],
    )
    more, _ = replace_rows(con, "refused", "values_refused", key=_LINK, scope="right_type = ''", keeps="refused_at")
    return count + more


def _write_aliases(con: Connection, moment: datetime) -> int:
    """Every id that was published, or went in a merge, and is nobody's now, leads to whoever has its identifier."""
    con.execute(
        """
        create or replace temp table alias_candidates as
        select person_id as alias_id from people_before
        union
        select from_person_id from merges_found
        union
        select alias_id from identity.aliases semi join people_before using (person_id)
        """
    )
    # An id is made from an identifier in the component of the person that went, or that it led to.
    con.execute(
        """
        create or replace temp table aliases_found as
        with gone as (
            from alias_candidates anti join (select person_id as alias_id from people_found) using (alias_id)
        ),
        whose as (
            select component_id from identifiers_found where known_person_id in (
                from gone union all select person_id from identity.aliases semi join gone using (alias_id)
            )
            union
            select f.component_id
            from identifiers_found f
            semi join merges_found m on f.identifier_type = m.left_type and f.identifier_value = m.left_value
        ),
        own as (
            select 'p_' || left(sha256(identifier_type || chr(31) || identifier_value), 16) as alias_id, person_id
            from identifiers_found
            semi join whose using (component_id)
        )
        select alias_id, person_id, $1::timestamp as known_at
        from own
        semi join gone using (alias_id)
        """,
        [moment],
    )
    count, _ = replace_rows(
        con,
        "aliases",
        "aliases_found",
        key="alias_id",
        scope="alias_id in (select alias_id from alias_candidates)",
        keeps="known_at",
    )
    return count


def _definition(con: Connection, rules: Rules) -> str:
    """What decides who is who, besides the events."""
    parts = [_FORM, repr(rules)]
    if has_table(con, "intermediate", "definitions"):
        rows = con.execute(
            "select model, definition from intermediate.definitions"
            " where model in ('stg_identifiers', 'stg_links') order by all"
        ).fetchall()
        parts += map(repr, rows)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _last(con: Connection) -> _State | None:
    row = con.execute(f"select {', '.join(_State._fields)} from identity.state").fetchone()
    return None if row is None else _State(*row)


def _remember(con: Connection, report: StitchReport, definition: str, last: _State | None) -> None:
    columns = {row[0] for row in con.execute("describe staging.stg_identifiers").fetchall()}
    mark = (None, None)
    if {"last_load_id", "last_received_at"} <= columns:
        row = con.execute("select max(last_load_id), max(last_received_at) from staging.stg_identifiers").fetchone()
        assert row is not None
        mark = row
    now = _State(to_warehouse(report.as_of), *mark, definition, report.person_count, report.largest)
    if now != last:
        con.execute("delete from identity.state")
        con.execute("insert into identity.state values ($1, $2, $3, $4, $5, $6)", list(now))


def _constant(moment: datetime, count: int) -> pa.Array:
    return pa.array([moment] * count, pa.timestamp("us"))
