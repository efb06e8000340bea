"""Stitching: from the staged identifiers and links to the tables of the schema `identity`."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from segue.clock import to_warehouse
from segue.identifiers import Rules
from segue.identity.graph import Resolution, resolve, short_hash
from segue.identity.tables import ensure_tables, replace_rows, scalar
from segue.warehouse import Connection, has_table

#: What this module makes of the same rows; raise it when that changes, so that everything is made anew.
_FORM = "2"

_LINK = "left_type, left_value, right_type, right_value, rule"

# `scope_now` holds the identifiers to resolve: whole components, with everything that is linked to them.
_IDENTIFIERS = """
create or replace temp table identifiers_now as
select identifier_type, identifier_value, first_seen_at, last_seen_at
from staging.stg_identifiers
where first_received_at <= $1::timestamp and identifier_type is not null and identifier_value is not null
    and refused_reason is null {scope}
"""

# An alias may replace an anonymous id or a user_id, and the message does not say which: staging calls it an
# anonymous id. Once there is a user_id of that value, it is meant as well.
_LINKS = """
create or replace temp table links_now as
with staged as (
    select left_type, left_value, right_type, right_value, rule, first_seen_at, link_count, first_message_id
    from staging.stg_links
    where first_received_at <= $1::timestamp {scope}
),
meant as (
    select staged.* replace ('user_id' as left_type, greatest(staged.first_seen_at, known.first_seen_at)
        as first_seen_at)
    from staged
    join identifiers_now known on known.identifier_type = 'user_id' and known.identifier_value = staged.left_value
    where staged.rule = 'alias' and staged.left_type = 'anonymous_id'
        and not (staged.right_type = 'user_id' and staged.right_value = staged.left_value)
),
decided as (
    select *, row_number() over (
        partition by left_type, left_value, right_type, right_value, rule order by decided_at desc, decision_id desc
    ) = 1 as is_latest
    from identity.decisions
    where decided_at <= $1::timestamp
),
by_hand as (
    select left_type, left_value, right_type, right_value, rule, decided_at as first_seen_at, 1::bigint as link_count,
        decision_id as first_message_id
    from decided
    where is_latest and kind = 'merge'
),
every as (from staged union all by name from meant union all by name from by_hand)
select every.*, decided.kind is not null as is_cut
from every
left join decided on decided.is_latest and decided.kind = 'split'
    and decided.left_type = every.left_type and decided.left_value = every.left_value
    and decided.right_type = every.right_type and decided.right_value = every.right_value
    and decided.rule = every.rule
semi join identifiers_now l on every.left_type = l.identifier_type and every.left_value = l.identifier_value
semi join identifiers_now r on every.right_type = r.identifier_type and every.right_value = r.identifier_value
"""

_IN_SCOPE = "and ({0}_type, {0}_value) in (from scope_now)"

# What may be judged otherwise than at the last run ($2 load, $3 received, $4 as_of): identifiers and links that were
# heard of since, decisions, links that had to wait, and those that are no identifiers any more.
_DIRTY = """
create or replace temp table dirty_now as
with heard as (
    select identifier_type, identifier_value from staging.stg_identifiers
    where (last_load_id > $2 or last_received_at > $3::timestamp or first_received_at > $4::timestamp)
        and first_received_at <= $1::timestamp and refused_reason is null
),
linked as (
    select left_type, left_value, right_type, right_value, rule from staging.stg_links
    where first_received_at <= $1::timestamp and (
        last_load_id > $2 or last_received_at > $3::timestamp or first_received_at > $4::timestamp
        or (rule = 'device' and first_seen_at + $5::interval > $4::timestamp)
        -- An alias of a value that has become a user_id.
        or (rule = 'alias' and left_value in (select identifier_value from heard where identifier_type = 'user_id'))
    )
    union all
    select left_type, left_value, right_type, right_value, rule from identity.decisions
    where decided_at > $4::timestamp and decided_at <= $1::timestamp
),
ends as (
    from heard
    union all select left_type, left_value from linked
    union all select right_type, right_value from linked
    union all select 'user_id', left_value from linked where rule = 'alias'
)
select distinct identifier_type, identifier_value from ends
"""

_BEFORE = """
create or replace temp table identifiers_before as
from identity.identifiers where component_id in (
    select i.component_id
    from identity.identifiers i
    join dirty_now d on d.identifier_type = i.identifier_type and d.identifier_value = i.identifier_value
)
"""

_SCOPE = """
create or replace temp table scope_now as
select identifier_type, identifier_value from identifiers_before
union
from dirty_now
"""


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
    last = con.execute("select as_of, load_id, received_at, definition from identity.state").fetchone()
    is_rebuilt = is_full or last is None or last[0] > moment or last[3] != definition
    report = None
    if not is_rebuilt:
        assert last is not None
        con.execute(_DIRTY, [moment, last[1], last[2], last[0], rules.device_wait])
        con.execute(_BEFORE)
        con.execute(_SCOPE)
        report = _stitch(con, as_of, rules, is_rebuilt=False)
        expected = scalar(
            con,
            "select count(*) from staging.stg_identifiers where first_received_at <= $1::timestamp"
            " and refused_reason is null and identifier_type is not null and identifier_value is not null",
            [moment],
        )
        is_rebuilt = expected != scalar(con, "select count(*) from identity.identifiers")
    if is_rebuilt:
        report = _stitch(con, as_of, rules, is_rebuilt=True)
    assert report is not None
    _remember(con, moment, definition, last)
    return report


def component(con: Connection, keys: Iterable[tuple[str, str]], *, as_of: datetime) -> tuple[pa.Table, pa.Table]:
    """Identifiers and links of the components of some identifiers, as `resolve` takes them. Only temporary tables."""
    con.execute("create or replace temp table dirty_now (identifier_type varchar, identifier_value varchar)")
    con.executemany("insert into dirty_now values ($1, $2)", [list(key) for key in keys])
    con.execute(_BEFORE)
    con.execute(_SCOPE)
    moment = to_warehouse(as_of)
    con.execute(_IDENTIFIERS.format(scope=_IN_SCOPE.format("identifier")), [moment])
    con.execute(_LINKS.format(scope=_IN_SCOPE.format("left")), [moment])
    names = ("identifiers_now", "links_now")
    identifiers, links = (con.execute(f"from {name} order by all").to_arrow_table() for name in names)
    return identifiers, links


def _stitch(con: Connection, as_of: datetime, rules: Rules, *, is_rebuilt: bool) -> StitchReport:
    moment = to_warehouse(as_of)
    in_scope = "" if is_rebuilt else _IN_SCOPE
    con.execute(_IDENTIFIERS.format(scope=in_scope.format("identifier")), [moment])
    con.execute(_LINKS.format(scope=in_scope.format("left")), [moment])
    identifiers = con.execute(
        "select identifier_type, identifier_value, first_seen_at from identifiers_now"
    ).to_arrow_table()
    links = con.execute("from links_now").to_arrow_table()
    found = resolve(identifiers, links, rules=rules, as_of=as_of)
    if is_rebuilt:
        con.execute("create or replace temp table identifiers_before as from identity.identifiers")
    con.execute("create or replace temp table people_before as select distinct person_id from identifiers_before")
    written, removed = _write_identifiers(con, identifiers, found, moment)
    merges, refused = _merges(found, links, moment), _refused(found, links, moment)
    left_scope = "true" if is_rebuilt else in_scope.format("left").removeprefix("and ")
    con.register("merges_found", merges)
    merge_count, _ = replace_rows(con, "merges", "merges_found", key="merge_id", scope=left_scope, keeps="recorded_at")
    refused_count = _write_refused(con, refused, moment, left_scope)
    alias_count = _write_aliases(con, moment)
    con.unregister("merges_found")
    people = con.execute(
        "select count(*), max(n) from (select count(*) as n from identity.identifiers group by person_id)"
    ).fetchone()
    assert people is not None
    new_people = scalar(
        con,
        "select count(distinct person_id) from identifiers_found where person_id not in (from people_before)",
    )
    return StitchReport(
        as_of=as_of,
        person_count=people[0],
        identifier_count=scalar(con, "select count(*) from identity.identifiers"),
        judged_count=links.num_rows,
        largest=people[1] or 0,
        new_person_count=new_people,
        merge_count=merge_count,
        refused_count=refused_count,
        alias_count=alias_count,
        written_count=written,
        removed_count=removed,
        is_rebuilt=is_rebuilt,
    )


def _write_identifiers(con: Connection, identifiers: pa.Table, found: Resolution, moment: datetime) -> tuple[int, int]:
    resolved = pa.table(
        {
            "identifier_type": identifiers["identifier_type"],
            "identifier_value": identifiers["identifier_value"],
            "person_id": found.person_ids,
            "component_id": found.component_ids,
        }
    )
    con.register("resolved_now", resolved)
    con.execute(
        """
        create or replace temp table identifiers_found as
        select n.identifier_type, n.identifier_value, r.person_id, n.first_seen_at, n.last_seen_at,
            case when o.person_id = r.person_id then least(o.assigned_at, $1::timestamp) else $1::timestamp end
                as assigned_at,
            r.component_id
        from identifiers_now n
        join resolved_now r on r.identifier_type = n.identifier_type and r.identifier_value = n.identifier_value
        left join identifiers_before o
            on o.identifier_type = n.identifier_type and o.identifier_value = n.identifier_value
        """,
        [moment],
    )
    con.unregister("resolved_now")
    key = "identifier_type, identifier_value"
    return replace_rows(con, "identifiers", "identifiers_found", key=key, before="identifiers_before", keeps="")


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
        select alias_id from identity.aliases where person_id in (select person_id from people_before)
        """
    )
    con.execute(
        """
        create or replace temp table aliases_found as
        with own as (
            select 'p_' || left(sha256(identifier_type || chr(31) || identifier_value), 16) as alias_id, person_id
            from identifiers_found
        )
        select distinct alias_id, person_id, $1::timestamp as known_at
        from own
        semi join alias_candidates using (alias_id)
        where alias_id <> person_id
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


def _remember(con: Connection, moment: datetime, definition: str, last: tuple[object, ...] | None) -> None:
    """How far staging had been read."""
    columns = {row[0] for row in con.execute("describe staging.stg_identifiers").fetchall()}
    mark = (None, None)
    if {"last_load_id", "last_received_at"} <= columns:
        row = con.execute("select max(last_load_id), max(last_received_at) from staging.stg_identifiers").fetchone()
        assert row is not None
        mark = row
    now = (moment, *mark, definition)
    if now != last:
        con.execute("delete from identity.state")
        con.execute("insert into identity.state values ($1, $2, $3, $4)", list(now))


def _constant(moment: datetime, count: int) -> pa.Array:
    return pa.array([moment] * count, pa.timestamp("us"))
