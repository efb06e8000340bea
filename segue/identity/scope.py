"""The scope of a stitching: which identifiers and links are judged, always whole components of them."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pyarrow as pa

from segue.clock import to_warehouse
from segue.warehouse import Connection, scalar

_IDENTIFIER = "identifier_type, identifier_value"

# `identifiers_now` holds the identifiers to resolve: whole components, with everything that is linked to them.
_KNOWN = "first_received_at <= $1::timestamp and refused_reason is null and identifier_value is not null"

_IDENTIFIERS = f"""
create or replace temp table identifiers_now as
select {_IDENTIFIER}, first_seen_at, last_seen_at from staging.stg_identifiers where {_KNOWN}
"""

# Of what was not heard of since the last run, the table says the same as staging, and costs no search.
_IDENTIFIERS_IN_SCOPE = f"""
create or replace temp table identifiers_now as
select {_IDENTIFIER}, first_seen_at, last_seen_at from heard_now
union all
select {_IDENTIFIER}, first_seen_at, last_seen_at from identifiers_before anti join heard_now using ({_IDENTIFIER})
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

#: Condition on links, by their left end, to be in the scope that was taken last.
IN_SCOPE = f"(left_type, left_value) in (select {_IDENTIFIER} from identifiers_now)"

# What was heard of since the last run ($2 load, $3 received, $4 as_of).
_HEARD = f"""
create or replace temp table heard_now as
select {_IDENTIFIER}, first_seen_at, last_seen_at
from staging.stg_identifiers
where {_KNOWN} and (last_load_id > $2 or last_received_at > $3::timestamp or first_received_at > $4::timestamp)
"""

# What may be judged otherwise: that, and the ends of links that were heard of, decided, or had to wait.
_DIRTY = """
create or replace temp table dirty_now as
with linked as (
    select left_type, left_value, right_type, right_value, rule from staging.stg_links
    where first_received_at <= $1::timestamp and (
        last_load_id > $2 or last_received_at > $3::timestamp or first_received_at > $4::timestamp
        or (rule = 'device' and first_seen_at + $5::interval > $4::timestamp)
    )
    union all
    -- An alias of a value that has become a user_id.
    select left_type, left_value, right_type, right_value, rule from staging.stg_links
    where first_received_at <= $1::timestamp and rule = 'alias'
        and left_value in (select identifier_value from heard_now where identifier_type = 'user_id')
    union all
    select left_type, left_value, right_type, right_value, rule from identity.decisions
    where decided_at > $4::timestamp and decided_at <= $1::timestamp
),
ends as (
    select identifier_type, identifier_value from heard_now
    union all select left_type, left_value from linked
    union all select right_type, right_value from linked
    union all select 'user_id', left_value from linked where rule = 'alias'
)
select distinct identifier_type, identifier_value from ends
"""

# What the table says of the components to judge, with the place of each row.
_BEFORE = f"""
create or replace temp table identifiers_before as
select rowid as known_row, * from identity.identifiers where component_id in (
    select component_id from identity.identifiers semi join dirty_now using ({_IDENTIFIER})
)
"""

_ALL_BEFORE = """
create or replace temp table identifiers_before as select rowid as known_row, * from identity.identifiers
"""


def take_all(con: Connection, *, moment: datetime) -> tuple[pa.Table, pa.Table]:
    """Every staged identifier and link, as `resolve` takes them.

    Beside each identifier stands what `identity.identifiers` says of it: known_row, known_person_id,
    known_component_id, assigned_at, and is_as_seen, whether its times are the same; all null where it is new. The
    temporary table `identifiers_before` keeps the rows of that table in scope, gone ones too, with their known_row.

    Args:
        moment: naive UTC; rows with a later first_received_at do not count.
    """
    con.execute(_ALL_BEFORE)
    con.execute(_IDENTIFIERS, [moment])
    con.execute(_LINKS.format(scope=""), [moment])
    return _taken(con)


def take_news(
    con: Connection,
    *,
    moment: datetime,
    last_moment: datetime,
    last_load_id: int | None,
    last_received_at: datetime | None,
    device_wait: timedelta,
) -> tuple[pa.Table, pa.Table]:
    """As `take_all`, of the components that may be judged otherwise than last time.

    Args:
        moment: naive UTC; rows with a later first_received_at do not count.
        last_moment: the one of the last stitching, naive UTC.
        last_load_id: the newest load in staging then; None: loads have no ids there.
        last_received_at: when the newest message in staging then was received, naive UTC; None likewise.
        device_wait: for how long links of the rule `device` wait before they are judged.
    """
    mark = [moment, last_load_id, last_received_at, last_moment]
    con.execute(_HEARD, mark)
    con.execute(_DIRTY, [*mark, device_wait])
    con.execute(_BEFORE)
    con.execute(_IDENTIFIERS_IN_SCOPE)
    con.execute(_LINKS.format(scope=f"and {IN_SCOPE}"), [moment])
    return _taken(con)


def count_staged(con: Connection, *, moment: datetime) -> int:
    """How many identifiers `take_all` would take."""
    return int(scalar(con, f"select count(*) from staging.stg_identifiers where {_KNOWN}", [moment]))


def component(con: Connection, keys: Iterable[tuple[str, str]], *, as_of: datetime) -> tuple[pa.Table, pa.Table]:
    """Identifiers and links of the components of some identifiers, as `resolve` takes them. Only temporary tables."""
    con.execute("create or replace temp table dirty_now (identifier_type varchar, identifier_value varchar)")
    con.executemany("insert into dirty_now values ($1, $2)", [list(key) for key in keys])
    con.execute(_BEFORE)
    moment = to_warehouse(as_of)
    scope = "(select identifier_type, identifier_value from identifiers_before union from dirty_now)"
    con.execute(f"{_IDENTIFIERS} and ({_IDENTIFIER}) in (select {_IDENTIFIER} from {scope})", [moment])
    con.execute(_LINKS.format(scope=f"and {IN_SCOPE}"), [moment])
    names = ("identifiers_now", "links_now")
    identifiers, links = (con.execute(f"from {name} order by all").to_arrow_table() for name in names)
    return identifiers, links


def _taken(con: Connection) -> tuple[pa.Table, pa.Table]:
    identifiers = con.execute(
        f"""
        select n.*, o.known_row, o.person_id as known_person_id, o.component_id as known_component_id, o.assigned_at,
            o.first_seen_at = n.first_seen_at and o.last_seen_at = n.last_seen_at as is_as_seen
        from identifiers_now n left join identifiers_before o using ({_IDENTIFIER})
        """
    ).to_arrow_table()
    return identifiers, con.execute("from links_now").to_arrow_table()
