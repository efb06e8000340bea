"""The history of memberships: a ledger of transitions, of which memberships are the fold.

An evaluation says who was in a segment as of a time. `record` splices it in between the evaluations before and after
it, so the tables depend on which evaluations there are, never on the order in which they were made.
"""

from collections.abc import Sequence
from datetime import datetime

from segue.clock import to_warehouse
from segue.segments.definitions import Segment
from segue.segments.ledger import OWN_CHANGE, RecordReport, SegmentShare, ensure_tables
from segue.warehouse import Connection, row_count


def record(
    con: Connection,
    *,
    as_of: datetime,
    segments: Sequence[Segment],
    members: str,
    merges: str | None = None,
    active_count: int | None = None,
    recorded_at: datetime | None = None,
) -> RecordReport:
    """Splice an evaluation at any time into the history. To be called inside a transaction.

    Recording the same evaluation again writes nothing; evaluations may be recorded in any order. In an exclusive
    group a person stays in the segment with the lowest priority number (then by name); a segment of the group that
    was not evaluated keeps its people.

    Args:
        con: a connection on which the warehouse is the default catalog.
        as_of: the time evaluated.
        segments: those that were evaluated; all others are left as they were.
        members: SQL of a relation on `con` with person_id and segment, one row or more per member.
        merges: SQL of a relation with from_person_id and into_person_id: every id that had become another one by
            `as_of`. Who leaves or comes because of that is `merged`, not `exited` or `entered`.
        active_count: people seen in the last `share_days` before `as_of`, for the shares.
        recorded_at: when this is written. None: each row says the time it tells of, as if it had been written then.
    """
    moment = to_warehouse(as_of)
    written = to_warehouse(recorded_at) if recorded_at is not None else None
    ensure_tables(con)
    _stage_evaluated(con, segments, moment, members)
    if merges is not None:
        _learn_merges(con, merges, moment)
    _stage_wanted(con, moment)
    removed, added = _replace_transitions(con, written)
    if removed or added:
        _fold(con)
    counts = dict(con.execute("select segment, count(*) from evaluated_members group by segment").fetchall())
    _note_evaluations(con, moment, written, active_count)
    changes = dict(con.execute("select change, count(*) from new_transitions group by change").fetchall())
    return RecordReport(
        as_of=as_of,
        entered_count=changes.get("entered", 0),
        exited_count=changes.get("exited", 0),
        merged_count=changes.get("merged", 0),
        removed_count=removed,
        shares=tuple(
            SegmentShare(
                segment=s.name, member_count=counts.get(s.name, 0), active_count=active_count, min_share=s.min_share
            )
            for s in sorted(segments, key=lambda s: s.name)
        ),
    )


def _stage_evaluated(con: Connection, segments: Sequence[Segment], moment: datetime, members: str) -> None:
    """Temp tables `evaluated` (one row per segment) and `evaluated_members` (exclusive groups resolved)."""
    con.execute(
        "create or replace temp table evaluated (segment varchar, definition_hash varchar, exclusive_group varchar,"
        " priority bigint, is_held boolean)"
    )
    if segments:
        con.executemany(
            "insert into evaluated values ($1, $2, $3, $4, false)",
            [[s.name, s.definition_hash, s.exclusive_group, s.priority] for s in segments],
        )
    # A segment of the same group that could not be evaluated now: its people stay, and nobody else gets them.
    con.execute(
        """
        insert into evaluated
        select segment, arg_max(definition_hash, as_of), arg_max(exclusive_group, as_of), null, true
        from segments.evaluations
        where as_of <= $1 and segment not in (select segment from evaluated)
        group by segment
        having arg_max(exclusive_group, as_of) in (select exclusive_group from evaluated)
        """,
        [moment],
    )
    con.execute(
        f"""
        create or replace temp table evaluated_members as
        with
        claims as (
            select distinct m.person_id, m.segment
            from ({members}) m
            where m.person_id is not null
            union
            select m.person_id, m.segment
            from segments.memberships m
            join evaluated e on e.segment = m.segment and e.is_held
            where m.entered_at <= $1 and (m.exited_at is null or m.exited_at > $1)
        ),
        ranked as (
            select c.person_id, c.segment,
                e.exclusive_group is null or row_number() over (
                    partition by c.person_id, e.exclusive_group order by e.is_held desc, e.priority, c.segment
                ) = 1 as is_kept
            from claims c
            join evaluated e on e.segment = c.segment
        )
        select person_id, segment from ranked where is_kept
        """,
        [moment],
    )


def _learn_merges(con: Connection, merges: str, moment: datetime) -> None:
    con.execute(
        f"""
        create or replace temp table learned_merges as
        select distinct m.from_person_id, m.into_person_id
        from ({merges}) m
        where m.from_person_id <> m.into_person_id and not exists (
            select 1 from segments.merged_people k
            where k.from_person_id = m.from_person_id and k.into_person_id = m.into_person_id and k.known_at <= $1
        )
        """,
        [moment],
    )
    if row_count(con, "learned_merges"):
        con.execute(
            "delete from segments.merged_people where (from_person_id, into_person_id) in (from learned_merges)"
        )
        con.execute("insert into segments.merged_people select *, $1::timestamp from learned_merges", [moment])


def _stage_wanted(con: Connection, moment: datetime) -> None:
    """Temp table `wanted_transitions`: what must be in the ledger at `as_of` and at each segment's next evaluation."""
    con.execute(
        """
        create or replace temp table steps as
        select e.segment, $1::timestamp as at_time, true as is_first,
            (
                select arg_max(p.definition_hash, p.as_of) from segments.evaluations p
                where p.segment = e.segment and p.as_of < $1
            ) as hash_before,
            e.definition_hash as hash_after
        from evaluated e
        union all
        select e.segment, min(n.as_of), false, any_value(e.definition_hash), arg_min(n.definition_hash, n.as_of)
        from evaluated e
        join segments.evaluations n on n.segment = e.segment and n.as_of > $1
        group by e.segment
        """,
        [moment],
    )
    con.execute(
        """
        create or replace temp table sides as
        -- Just before this evaluation, and at it.
        select s.segment, s.at_time, m.person_id, true as is_before, false as is_after
        from steps s
        join segments.memberships m on m.segment = s.segment
        where s.is_first and m.entered_at < s.at_time and (m.exited_at is null or m.exited_at >= s.at_time)
        union all
        select s.segment, s.at_time, m.person_id, false, true
        from steps s
        join evaluated_members m on m.segment = s.segment
        where s.is_first
        union all
        -- At this evaluation, and at the next one.
        select s.segment, s.at_time, m.person_id, true, false
        from steps s
        join evaluated_members m on m.segment = s.segment
        where not s.is_first
        union all
        select s.segment, s.at_time, m.person_id, false, true
        from steps s
        join segments.memberships m on m.segment = s.segment
        where not s.is_first and m.entered_at <= s.at_time and (m.exited_at is null or m.exited_at > s.at_time)
        """
    )
    con.execute(
        """
        create or replace temp table differences as
        select segment, at_time, person_id, bool_or(is_after) as is_member
        from sides
        group by segment, at_time, person_id
        having bool_or(is_before) <> bool_or(is_after)
        """
    )
    # Whoever an id has become by each time, through any number of merges.
    con.execute(
        """
        create or replace temp table survivors as
        with recursive
        known as (
            select t.at_time, m.from_person_id, m.into_person_id
            from (select distinct at_time from steps) t
            join segments.merged_people m on m.known_at <= t.at_time
        ),
        paths as (
            select at_time, from_person_id, into_person_id from known
            union
            select p.at_time, p.from_person_id, k.into_person_id
            from paths p
            join known k on k.at_time = p.at_time and k.from_person_id = p.into_person_id
        )
        select at_time, from_person_id, min(into_person_id) as into_person_id
        from paths p
        where not exists (
            select 1 from known k where k.at_time = p.at_time and k.from_person_id = p.into_person_id
        )
        group by at_time, from_person_id
        """
    )
    con.execute(
        f"""
        create or replace temp table wanted_transitions as
        with
        handed_over as (
            select d.segment, d.at_time, s.into_person_id, min(d.person_id) as from_person_id
            from differences d
            join survivors s on s.at_time = d.at_time and s.from_person_id = d.person_id
            where not d.is_member
            group by d.segment, d.at_time, s.into_person_id
        ),
        changes as (
            select d.segment, d.at_time, d.person_id, d.is_member,
                case
                    when not d.is_member and s.into_person_id is not null then 'merged'
                    when d.is_member and h.from_person_id is not null then 'merged'
                    when d.is_member then 'entered'
                    else 'exited'
                end as change,
                case
                    when not d.is_member and s.into_person_id is not null then 'merged into ' || s.into_person_id
                    when d.is_member and h.from_person_id is not null then 'merged from ' || h.from_person_id
                    when t.hash_after = '' then 'definition removed'
                    when t.hash_before is null then 'first evaluation'
                    when t.hash_before <> t.hash_after then 'definition changed'
                    else '{OWN_CHANGE}'
                end as cause
            from differences d
            join steps t on t.segment = d.segment and t.at_time = d.at_time
            left join survivors s on s.at_time = d.at_time and s.from_person_id = d.person_id
            left join handed_over h
                on h.segment = d.segment and h.at_time = d.at_time and h.into_person_id = d.person_id
        )
        select
            left(sha256(concat_ws('|', segment, person_id, strftime(at_time, '%Y-%m-%dT%H:%M:%S.%f'), change)), 32)
                as transition_id,
            person_id, segment, change, is_member, at_time as effective_at, cause
        from changes
        """
    )


def _replace_transitions(con: Connection, written: datetime | None) -> tuple[int, int]:
    con.execute(
        """
        create or replace temp table old_transitions as
        select t.transition_id, t.person_id, t.segment
        from segments.transitions t
        join steps s on s.segment = t.segment and s.at_time = t.effective_at
        where (t.transition_id, t.cause) not in (select (transition_id, cause) from wanted_transitions)
        """
    )
    con.execute(
        """
        create or replace temp table new_transitions as
        select w.transition_id, w.person_id, w.segment, w.change, w.is_member, w.effective_at,
            coalesce($1::timestamp, w.effective_at) as recorded_at, w.cause
        from wanted_transitions w
        where not exists (
            select 1 from segments.transitions t
            where t.segment = w.segment and t.effective_at = w.effective_at
                and t.transition_id = w.transition_id and t.cause = w.cause
        )
        """,
        [written],
    )
    removed, added = row_count(con, "old_transitions"), row_count(con, "new_transitions")
    if removed:
        con.execute(
            "delete from segments.transitions where transition_id in (select transition_id from old_transitions)"
        )
    if added:
        con.execute("insert into segments.transitions by name from new_transitions")
    return removed, added


def _fold(con: Connection) -> None:
    """Make the memberships of everyone whose transitions changed anew."""
    con.execute(
        """
        create or replace temp table touched as
        select distinct person_id, segment
        from (select person_id, segment from old_transitions union all select person_id, segment from new_transitions)
        """
    )
    con.execute(
        """
        create or replace temp table new_memberships as
        select person_id, segment, effective_at as entered_at, next_at as exited_at
        from (
            select t.person_id, t.segment, t.is_member, t.effective_at,
                lead(t.effective_at) over (partition by t.person_id, t.segment order by t.effective_at) as next_at
            from segments.transitions t
            join touched using (person_id, segment)
        )
        where is_member
        """
    )
    stale = con.execute("select count(*) from segments.memberships join touched using (person_id, segment)").fetchone()
    if stale and stale[0]:
        con.execute("delete from segments.memberships where (person_id, segment) in (from touched)")
    if row_count(con, "new_memberships"):
        con.execute("insert into segments.memberships by name from new_memberships")


def _note_evaluations(con: Connection, moment: datetime, written: datetime | None, active_count: int | None) -> None:
    con.execute(
        """
        create or replace temp table new_evaluations as
        with wanted as (
            select e.segment, $1::timestamp as as_of, count(m.person_id) as member_count, $2::bigint as active_count,
                e.definition_hash, e.exclusive_group, e.is_held
            from evaluated e
            left join evaluated_members m on m.segment = e.segment
            group by all
        )
        select *, coalesce($3::timestamp, as_of) as recorded_at
        from (
            from wanted
            except
            select segment, as_of, member_count, active_count, definition_hash, exclusive_group, is_held
            from segments.evaluations where as_of = $1
        )
        """,
        [moment, active_count, written],
    )
    # A proper evaluation of the same time outranks a held one.
    con.execute(
        """
        delete from new_evaluations n
        where n.is_held and exists (
            select 1 from segments.evaluations e where e.segment = n.segment and e.as_of = n.as_of and not e.is_held
        )
        """
    )
    if row_count(con, "new_evaluations"):
        con.execute(
            "delete from segments.evaluations where (segment, as_of) in (select segment, as_of from new_evaluations)"
        )
        con.execute("insert into segments.evaluations by name from new_evaluations")
