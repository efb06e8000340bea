"""Questions to the history, as of any time."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from segue.clock import from_warehouse, to_warehouse
from segue.errors import BadInputError
from segue.warehouse import Connection, has_table


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSize:
    """A segment as of a time."""

    segment: str
    member_count: int
    active_count: int | None  # people seen in the last share_days before the evaluation
    evaluated_at: datetime  # the clock of the newest evaluation by then, aware UTC
    is_held: bool  # that evaluation could not be made, and carried the one before on

    @property
    def share(self) -> float | None:
        """Members per active person; None when nobody is known to be active."""
        return self.member_count / self.active_count if self.active_count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person in a segment."""

    person_id: str
    entered_at: datetime  # aware UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTransition:
    """A transition as the history of a person tells it."""

    effective_at: datetime  # aware UTC
    segment: str
    change: str  # entered, exited, merged
    is_member: bool  # afterwards
    person_id: str  # the id at that time; another one when it was merged since
    cause: str
    recorded_at: datetime  # aware UTC


def sizes(con: Connection, as_of: datetime) -> tuple[SegmentSize, ...]:
    """Every segment evaluated by `as_of`, by name; none when there is no history yet."""
    if not _has_history(con):
        return ()
    rows = con.execute(
        """
        with
        evaluated as (
            select segment, max(as_of) as evaluated_at, arg_max_null(active_count, as_of) as active_count,
                arg_max(is_held, as_of) as is_held, arg_max(definition_hash, as_of) as definition_hash
            from segments.evaluations
            where as_of <= $1
            group by segment
        ),
        current as (
            select segment, count(*) as member_count
            from segments.memberships
            where entered_at <= $1 and (exited_at is null or exited_at > $1)
            group by segment
        )
        select e.segment, coalesce(c.member_count, 0), e.active_count, e.evaluated_at, e.is_held
        from evaluated e
        left join current c using (segment)
        where e.definition_hash <> ''
        order by e.segment
        """,
        [to_warehouse(as_of)],
    ).fetchall()
    return tuple(
        SegmentSize(
            segment=segment,
            member_count=member_count,
            active_count=active_count,
            evaluated_at=from_warehouse(evaluated_at),
            is_held=is_held,
        )
        for segment, member_count, active_count, evaluated_at, is_held in rows
    )


def members(con: Connection, name: str, as_of: datetime, *, limit: int | None = None) -> tuple[Member, ...]:
    """Who is in a segment as of a time, by person_id.

    Raises:
        BadInputError: when no segment of this name was ever evaluated; names the closest ones.
    """
    require_segment(con, name)
    rows = con.execute(
        """
        select person_id, entered_at
        from segments.memberships
        where segment = $1 and entered_at <= $2 and (exited_at is null or exited_at > $2)
        order by person_id
        limit $3
        """,
        [name, to_warehouse(as_of), limit],
    ).fetchall()
    return tuple(Member(person_id=person_id, entered_at=from_warehouse(entered_at)) for person_id, entered_at in rows)


def person_history(con: Connection, person_id: str) -> tuple[PastTransition, ...]:
    """Every transition of a person and of the ids that were merged into it, oldest first.

    Raises:
        BadInputError: when the id has no history.
    """
    rows = (
        con.execute(
            """
            with recursive ids as (
                select $1 as person_id
                union
                select m.from_person_id from segments.merged_people m join ids on ids.person_id = m.into_person_id
            )
            select effective_at, segment, change, is_member, person_id, cause, recorded_at
            from segments.transitions
            where person_id in (from ids)
            order by effective_at, segment, is_member, person_id
            """,
            [person_id],
        ).fetchall()
        if _has_history(con)
        else []
    )
    if not rows:
        raise BadInputError(
            f"{person_id!r} was never in a segment",
            fix='`segue sql "select distinct person_id from segments.transitions"`',
        )
    return tuple(
        PastTransition(
            effective_at=from_warehouse(effective_at),
            segment=segment,
            change=change,
            is_member=is_member,
            person_id=person,
            cause=cause,
            recorded_at=from_warehouse(recorded_at),
        )
        for effective_at, segment, change, is_member, person, cause, recorded_at in rows
    )


def require_segment(con: Connection, name: str) -> None:
    """Pass when the segment has a history.

    Raises:
        BadInputError: naming the closest segments there are, or saying that it was never evaluated.
    """
    known = (
        [row[0] for row in con.execute("select distinct segment from segments.evaluations order by 1").fetchall()]
        if _has_history(con)
        else []
    )
    if name in known:
        return
    fix = None
    if has_table(con, "segments", name):
        fix = "its table is there, but nobody's membership has been worked out yet: `segue refresh`, or wait a minute "
        fix += "when Segue runs"
    elif not known:
        fix = "no segment has been evaluated yet: `segue refresh`"
    raise no_segment(name, known, fix=fix)


def no_segment(name: str, known: Collection[str], *, fix: str | None = None) -> BadInputError:
    """The error of a name that no segment has; the fix, unless one is given, names the closest of those known."""
    if fix is None:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        fix = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(known)}"
    return BadInputError(f"no segment is called {name!r}", fix=fix)


def _has_history(con: Connection) -> bool:
    return has_table(con, "segments", "evaluations", "transitions", "memberships", "merged_people")
