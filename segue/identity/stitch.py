"""Stitching: from the staged identifiers and links to the tables of the schema `identity`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segue.clock import from_warehouse, to_warehouse
from segue.identity.graph import Resolution, resolve, short_hash
from segue.warehouse import Connection

_TABLES = {
    "identifiers": "identifier_type varchar, identifier_value varchar, person_id varchar, first_seen_at timestamp, "
    "last_seen_at timestamp, assigned_at timestamp",
    "merges": "merge_id varchar, merged_at timestamp, from_person_id varchar, into_person_id varchar, rule varchar, "
    "evidence varchar, recorded_at timestamp",
    "refused": "left_type varchar, left_value varchar, right_type varchar, right_value varchar, rule varchar, "
    "reason varchar, refused_at timestamp",
}

# A link is proof that both its ends exist, even if staging lists only one of them.
_IDENTIFIERS = """
with mentions as (
    select identifier_type, identifier_value, first_seen_at, last_seen_at, first_received_at
    from staging.stg_identifiers
    union all
    select left_type, left_value, first_seen_at, last_seen_at, first_received_at from links_now
    union all
    select right_type, right_value, first_seen_at, last_seen_at, first_received_at from links_now
)
select identifier_type, identifier_value, min(first_seen_at) as first_seen_at, max(last_seen_at) as last_seen_at,
    min(first_received_at) as first_received_at
from mentions
where first_received_at <= $1::timestamp and identifier_type is not null and identifier_value is not null
group by all
"""

# An alias may replace an anonymous id or a user_id, and the message does not say which: staging calls it an
# anonymous id. Once there is a user_id of that value, it is meant as well.
_LINKS = """
with staged as (
    select left_type, left_value, right_type, right_value, rule, first_seen_at, last_seen_at, first_received_at,
        first_message_id
    from staging.stg_links
    where first_received_at <= $1::timestamp
        and left_type is not null and left_value is not null and right_type is not null and right_value is not null
)
from staged
union all by name
select staged.* replace (
    'user_id' as left_type, greatest(staged.first_received_at, known.first_received_at) as first_received_at
)
from staged
join staging.stg_identifiers known
    on known.identifier_type = 'user_id' and known.identifier_value = staged.left_value
where staged.rule = 'alias' and staged.left_type = 'anonymous_id' and known.first_received_at <= $1::timestamp
"""

_NEWS = """
select n.identifier_type, n.identifier_value, n.person_id, n.first_seen_at, n.last_seen_at,
    case when o.person_id = n.person_id then least(o.assigned_at, $1::timestamp) else $1::timestamp end as assigned_at,
    o.person_id is not null as is_known
from identifiers_now n
left join identity.identifiers o using (identifier_type, identifier_value)
where o.person_id is distinct from n.person_id or o.first_seen_at is distinct from n.first_seen_at
    or o.last_seen_at is distinct from n.last_seen_at or o.assigned_at > $1::timestamp
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchReport:
    """What one stitching found and wrote."""

    as_of: datetime
    person_count: int
    identifier_count: int
    link_count: int
    largest: int  # identifiers of the person with most of them
    new_person_count: int  # ids that were not published before
    merge_count: int  # written now
    refused_count: int  # links refused for the first time
    written_count: int  # rows of identity.identifiers that are new or differ
    removed_count: int  # identifiers that are not staged any more
    is_rebuilt: bool  # as of a time before the last run, so without its memory


def ensure_tables(con: Connection) -> None:
    """Create the schema `identity` and its tables where they are missing."""
    con.execute("create schema if not exists identity")
    for table, columns in _TABLES.items():
        con.execute(f"create table if not exists identity.{table} ({columns})")


def stitch(con: Connection, *, as_of: datetime) -> StitchReport:
    """Join linked identifiers into people, as of what had been received by `as_of`; write what changed.

    To be called inside a transaction. Everything is resolved again from all links, since that takes seconds, but only
    rows that differ are written: an identifier whose person or whose times changed. So a day costs what happened on
    it. The ids published before are kept, unless `as_of` is before the last run: then nothing of that later run may
    show, and the state is rebuilt without it (equal to what a run at that time gave, as long as messages were loaded
    in the order in which they were received).

    Args:
        con: a connection on which the warehouse is the default catalog, with staging.stg_identifiers and
            staging.stg_links.
        as_of: aware; rows with a later first_received_at do not count.
    """
    ensure_tables(con)
    moment = to_warehouse(as_of)
    links = con.execute(_LINKS, [moment]).to_arrow_table()
    con.register("links_now", links)
    identifiers = con.execute(_IDENTIFIERS, [moment]).to_arrow_table()
    con.unregister("links_now")
    last = _last_run(con)
    is_rebuilt = last is not None and last > as_of
    published = "select identifier_type, identifier_value, person_id from identity.identifiers"
    previous = con.execute(published).to_arrow_table()
    found = resolve(identifiers, links, None if is_rebuilt else previous, as_of=as_of)

    merge_count = _write_log(con, "merges", _merges(found, links, moment), moment, key="merge_id", replace=is_rebuilt)
    refused_count = _write_log(con, "refused", _refused(found, links, moment), moment, key=_LINK, replace=is_rebuilt)
    written, removed = _write_identifiers(con, identifiers.append_column("person_id", found.person_ids), moment)
    sizes = pc.value_counts(found.person_ids)
    is_old = pc.is_in(sizes.field("values"), value_set=pc.unique(previous["person_id"]))
    return StitchReport(
        as_of=as_of,
        person_count=len(sizes),
        identifier_count=identifiers.num_rows,
        link_count=links.num_rows,
        largest=pc.max(sizes.field("counts")).as_py() or 0,
        new_person_count=len(sizes) - (pc.sum(is_old).as_py() or 0),
        merge_count=merge_count,
        refused_count=refused_count,
        written_count=written,
        removed_count=removed,
        is_rebuilt=is_rebuilt,
    )


_LINK = "left_type, left_value, right_type, right_value, rule"


def _last_run(con: Connection) -> datetime | None:
    """The latest run that left a trace. A run that changed nothing is as good as never."""
    row = con.execute(
        """
        select greatest(
            (select max(assigned_at) from identity.identifiers),
            (select max(recorded_at) from identity.merges),
            (select max(refused_at) from identity.refused)
        )
        """
    ).fetchone()
    return None if row is None or row[0] is None else from_warehouse(row[0])


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
            "rule": link["rule"],
            "evidence": evidence,
            "recorded_at": _constant(moment, link.num_rows),
        }
    )


def _refused(found: Resolution, links: pa.Table, moment: datetime) -> pa.Table:
    link = links.take(pa.array(found.refused))
    columns = {name: link[name] for name in _LINK.split(", ")}
    reason = pa.array(found.reasons, pa.string())
    return pa.table({**columns, "reason": reason, "refused_at": _constant(moment, link.num_rows)})


def _constant(moment: datetime, count: int) -> pa.Array:
    return pa.array([moment] * count, pa.timestamp("us"))


def _write_log(con: Connection, table: str, rows: pa.Table, moment: datetime, *, key: str, replace: bool) -> int:
    """Append the rows whose key is not there yet; with `replace`, drop those not found again or written later."""
    con.register("log_now", rows)
    if replace:
        written_at = {"merges": "recorded_at", "refused": "refused_at"}[table]
        stale = f"{written_at} > $1::timestamp or ({key}) not in (select ({key}) from log_now)"
        if _scalar(con, f"select count(*) from identity.{table} where {stale}", [moment]):
            con.execute(f"delete from identity.{table} where {stale}", [moment])
    known = f"select ({key}) from identity.{table}"
    con.execute(f"create or replace temp table log_new as from log_now where ({key}) not in ({known})")
    con.unregister("log_now")
    count = _scalar(con, "select count(*) from log_new")
    if count:
        con.execute(f"insert into identity.{table} by name from log_new")
    con.execute("drop table log_new")
    return count


def _write_identifiers(con: Connection, now: pa.Table, moment: datetime) -> tuple[int, int]:
    con.register("identifiers_now", now)
    con.execute(f"create or replace temp table identifiers_news as {_NEWS}", [moment])
    key = "(identifier_type, identifier_value)"
    removed = _scalar(
        con, f"select count(*) from identity.identifiers where {key} not in (select {key} from identifiers_now)"
    )
    written = _scalar(con, "select count(*) from identifiers_news")
    if removed:
        con.execute(f"delete from identity.identifiers where {key} not in (select {key} from identifiers_now)")
    if _scalar(con, "select count(*) from identifiers_news where is_known"):
        con.execute(
            f"delete from identity.identifiers where {key} in (select {key} from identifiers_news where is_known)"
        )
    if written:
        con.execute("insert into identity.identifiers by name select * exclude (is_known) from identifiers_news")
    con.unregister("identifiers_now")
    con.execute("drop table identifiers_news")
    return written, removed


def _scalar(con: Connection, query: str, parameters: list[Any] | None = None) -> int:
    row = con.execute(query, parameters or []).fetchone()
    assert row is not None
    return int(row[0])
