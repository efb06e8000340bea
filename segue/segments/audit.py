"""Does the history hold what it promises? Each question answers with the offenders, as sentences."""

from collections.abc import Sequence

from segue.segments.definitions import Segment
from segue.warehouse import Connection

#: Offenders that are named; the rest is counted.
_NAMED = 5


def fold_errors(con: Connection) -> list[str]:
    """Stays in `segments.memberships` that the transitions do not tell of, and the other way round."""
    return _sentences(
        con.execute(
            """
            with
            steps as (
                select person_id, segment, is_member, effective_at,
                    lead(effective_at) over (partition by person_id, segment order by effective_at) as next_at
                from segments.transitions
            ),
            folded as (
                select person_id, segment, effective_at as entered_at, next_at as exited_at from steps where is_member
            ),
            kept as (select person_id, segment, entered_at, exited_at from segments.memberships)
            select person_id || ' in ' || segment || ': a stay without its transitions'
            from (from kept except all from folded)
            union all
            select person_id || ' in ' || segment || ': transitions without their stay'
            from (from folded except all from kept)
            order by all
            """
        ).fetchall()
    )


def exclusive_group_errors(con: Connection, segments: Sequence[Segment]) -> list[str]:
    """People who are in two segments of one exclusive group now."""
    grouped = [(s.name, s.exclusive_group) for s in segments if s.exclusive_group is not None]
    if not grouped:
        return []
    names, groups = [name for name, _ in grouped], [group for _, group in grouped]
    return _sentences(
        con.execute(
            """
            with groups as (select unnest($1::varchar[]) as segment, unnest($2::varchar[]) as exclusive_group)
            select m.person_id || ' is in ' || string_agg(m.segment, ' and ' order by m.segment)
                || ' of the group ' || g.exclusive_group
            from segments.memberships m
            join groups g on g.segment = m.segment
            where m.exited_at is null
            group by m.person_id, g.exclusive_group
            having count(*) > 1
            order by all
            """,
            [names, groups],
        ).fetchall()
    )


def _sentences(rows: Sequence[tuple[str]]) -> list[str]:
    named = [text for (text,) in rows[:_NAMED]]
    return named if len(rows) <= _NAMED else [*named, f"and {len(rows) - _NAMED:,} more"]
