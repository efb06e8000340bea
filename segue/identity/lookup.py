"""Looking one person up, by any of their identifiers or by an id they used to have."""

from dataclasses import dataclass
from datetime import datetime

from segue.clock import from_warehouse
from segue.errors import BadInputError
from segue.identifiers import TYPES, Normaliser
from segue.warehouse import Connection, has_table

#: Of what nobody is known as, an error repeats so many characters.
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierRow:
    """One identifier of a person. Times are aware UTC."""

    identifier_type: str
    identifier_value: str  # e-mail addresses as keyed hash
    first_seen_at: datetime
    last_seen_at: datetime
    assigned_at: datetime  # as_of of the run which gave it this person


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRow:
    """One id that went into another. Times are aware UTC."""

    merged_at: datetime  # event time of the link
    from_person_id: str
    into_person_id: str
    rule: str
    left_type: str
    left_value: str
    right_type: str
    right_value: str
    evidence: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """One link that was not followed. Times are aware UTC."""

    left_type: str
    left_value: str
    right_type: str
    right_value: str
    rule: str
    reason: str  # code; REASONS says it in a sentence
    detail: str
    seen_at: datetime  # event time of the link
    refused_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What is known of one person."""

    person_id: str
    asked_for: str
    identifiers: tuple[IdentifierRow, ...]  # oldest first
    merges: tuple[MergeRow, ...]  # of all ids that ended in this person, in the order of what happened
    refused: tuple[RefusedRow, ...]  # links of these identifiers to somebody else


def lookup(con: Connection, identifier: str, normaliser: Normaliser | None = None) -> Person:
    """The person behind an id or identifier.

    Args:
        con: a connection on which the warehouse is the default catalog. Only read.
        identifier: a person_id, also one that was merged away; or the value of any identifier; or `type:value` when
            the value alone is ambiguous.
        normaliser: with it, an e-mail address may be given in clear, and a telephone number in any form.

    Raises:
        BadInputError: when nobody or more than one person is found.
    """
    ids = _by_identifier(con, identifier, normaliser) or _by_person_id(con, identifier)
    if not ids:
        shown = repr(identifier if len(identifier) <= _LONGEST_SHOWN else identifier[:_LONGEST_SHOWN] + "…")
        raise BadInputError(
            f"nobody is known as {shown}",
            fix="give a person_id, a user_id, an anonymous_id, a device_id or an e-mail address; "
            "`segue identity list` shows people",
        )
    if len(ids) > 1:
        choices = ", ".join(f"{kind}:{identifier}" for kind in sorted(set(ids.values())))
        raise BadInputError(f"{identifier!r} belongs to {len(ids)} people", fix=f"say which: {choices}")
    (person_id,) = ids
    return _person(con, person_id, identifier)


def people(con: Connection, *, limit: int) -> list[tuple[str, int, str, int, datetime, datetime]]:
    """person_id, number of identifiers, user_ids, number of ids merged into it, first and last event (naive UTC).

    Those with most identifiers first. Empty when nothing was stitched yet.
    """
    if not has_table(con, "identity", "identifiers"):
        return []
    return con.execute(
        """
        with recursive gone as (
            select into_person_id as person_id, from_person_id from identity.merges
            union
            select m.into_person_id, gone.from_person_id
            from gone join identity.merges m on m.from_person_id = gone.person_id
        ),
        merges as (select person_id, count(distinct from_person_id) as merge_count from gone group by all)
        select i.person_id, count(*) as identifier_count,
            coalesce(string_agg(identifier_value, ', ' order by first_seen_at, identifier_value)
                filter (where identifier_type = 'user_id'), '') as user_ids,
            coalesce(any_value(merge_count), 0) as merge_count, min(first_seen_at), max(last_seen_at)
        from identity.identifiers i left join merges using (person_id)
        group by i.person_id
        order by identifier_count desc, i.person_id
        limit $1
        """,
        [limit],
    ).fetchall()


def _by_identifier(con: Connection, identifier: str, normaliser: Normaliser | None) -> dict[str, str]:
    """person_id → identifier type."""
    if not has_table(con, "identity", "identifiers"):
        return {}
    rows = con.execute(
        "select person_id, identifier_type from identity.identifiers where identifier_value = $1", [identifier]
    ).fetchall()
    kind, colon, value = identifier.partition(":")
    pairs = [(kind, value)] if colon else []
    if normaliser is not None:
        given = value if colon and kind in TYPES else identifier
        if "@" in given:
            pairs.append(("email", normaliser.email(given)))
        elif (phone := normaliser.phone(given, "")) is not None:
            pairs.append(("phone", phone))
    for kind, value in pairs:
        rows += con.execute(
            "select person_id, identifier_type from identity.identifiers"
            " where identifier_type = $1 and identifier_value = $2",
            [kind, value],
        ).fetchall()
    return dict(rows)


def _by_person_id(con: Connection, identifier: str) -> dict[str, str]:
    """The id itself, or the one that it has become."""
    if not has_table(con, "identity", "identifiers", "aliases"):
        return {}
    row = con.execute(
        "select person_id from identity.identifiers where person_id = $1"
        " union all select person_id from identity.aliases where alias_id = $1 limit 1",
        [identifier],
    ).fetchone()
    return {} if row is None else {row[0]: "person_id"}


def _person(con: Connection, person_id: str, asked_for: str) -> Person:
    identifiers = con.execute(
        """
        select identifier_type, identifier_value, first_seen_at, last_seen_at, assigned_at
        from identity.identifiers where person_id = $1
        order by first_seen_at, identifier_type, identifier_value
        """,
        [person_id],
    ).fetchall()
    merges = con.execute(
        """
        with recursive gone as (
            select $1 as person_id
            union
            select m.from_person_id from identity.merges m join gone on m.into_person_id = gone.person_id
        )
        select merged_at, from_person_id, into_person_id, rule, left_type, left_value, right_type, right_value,
            evidence, recorded_at
        from identity.merges where into_person_id in (select person_id from gone)
        order by merged_at, merge_id
        """,
        [person_id],
    ).fetchall()
    refused = con.execute(
        """
        with own as (select identifier_type, identifier_value from identity.identifiers where person_id = $1)
        select left_type, left_value, right_type, right_value, rule, reason, detail, seen_at, refused_at
        from identity.refused
        where (left_type, left_value) in (select (identifier_type, identifier_value) from own)
            or (right_type, right_value) in (select (identifier_type, identifier_value) from own)
        order by refused_at, left_type, left_value, right_type, right_value, rule
        """,
        [person_id],
    ).fetchall()
    return Person(
        person_id=person_id,
        asked_for=asked_for,
        identifiers=tuple(
            IdentifierRow(
                identifier_type=kind,
                identifier_value=value,
                first_seen_at=from_warehouse(first),
                last_seen_at=from_warehouse(last),
                assigned_at=from_warehouse(assigned),
            )
            for kind, value, first, last, assigned in identifiers
        ),
        merges=tuple(
            MergeRow(
                merged_at=from_warehouse(at),
                from_person_id=gone,
                into_person_id=stayed,
                rule=rule,
                left_type=left_type,
                left_value=left_value,
                right_type=right_type,
                right_value=right_value,
                evidence=evidence,
                recorded_at=from_warehouse(recorded),
            )
            for at, gone, stayed, rule, left_type, left_value, right_type, right_value, evidence, recorded in merges
        ),
        refused=tuple(
            RefusedRow(
                left_type=left_type,
                left_value=left_value,
                right_type=right_type,
                right_value=right_value,
                rule=rule,
                reason=reason,
                detail=detail,
                seen_at=from_warehouse(seen),
                refused_at=from_warehouse(at),
            )
            for left_type, left_value, right_type, right_value, rule, reason, detail, seen, at in refused
        ),
    )
