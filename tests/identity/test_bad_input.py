"""What nobody should send, and somebody will: a clear answer, nothing lost, nobody else held up."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from segue.errors import BadInputError
from segue.identity import carry_out, lookup, plan_merge, plan_split, resolve, stitch
from segue.identity.graph import person_id_of
from segue.warehouse import Connection
from tests.identity.identity_world import Message, at, naive
from tests.identity.test_stitch import ids, run, state

ALIASES = [
    Message(1, user="u1", anonymous="a1"),
    Message(2, user="u2", account="u1"),
    Message(3, user="u3", account="u2"),
    Message(4, user="u1", account="u3"),
    Message(5, user="u2", account="u2"),
]


def test_a_hundred_thousand_browsers_on_one_device_hold_up_nobody() -> None:
    """All are judged, none is lost, the others are who they were; one person has no more than the rules allow."""
    count = 100_000
    browsers = [f"a{n}" for n in range(count)]
    seen = np.datetime64(naive(0), "us") + np.arange(count + 2) * np.timedelta64(1, "s")
    identifiers = pa.table(
        {
            "identifier_type": ["device_id", *["anonymous_id"] * count, "user_id"],
            "identifier_value": ["farm", *browsers, "ann"],
            "first_seen_at": pa.array(seen),
        }
    )
    links = pa.table(
        {
            "left_type": ["device_id"] * count + ["anonymous_id"],
            "left_value": ["farm"] * count + ["a-of-ann"],
            "right_type": ["anonymous_id"] * count + ["user_id"],
            "right_value": [*browsers, "ann"],
            "rule": ["device"] * count + ["same_message"],
            "first_seen_at": pa.array(seen[1:]),
        }
    )
    more = {"identifier_type": "anonymous_id", "identifier_value": "a-of-ann", "first_seen_at": naive(0)}
    identifiers = pa.concat_tables([identifiers, pa.Table.from_pylist([more], identifiers.schema)])
    found = resolve(identifiers, links)
    people = Counter(found.person_ids.to_pylist())
    assert sum(people.values()) == identifiers.num_rows
    assert len(found.refused) + max(people.values()) - 1 == count  # each browser was taken or refused
    assert set(found.reasons) <= {"limit", "too_large"}
    assert 2 < max(people.values()) <= 500
    assert people[person_id_of("anonymous_id", "a-of-ann")] == 2


def test_a_circle_of_aliases_and_an_alias_to_itself_make_one_person_each_day(con: Connection) -> None:
    for minute in range(1, 6):
        run(con, ALIASES, minute)
    assert set(ids(con).values()) == {person_id_of("anonymous_id", "a1")}
    assert con.execute("select count(*) from identity.refused").fetchone() == (0,)
    grown = state(con)
    # Looked up from anywhere, the answer is there: no alias leads back.
    for person, *_ in con.execute("select alias_id from identity.aliases union select 'u3'").fetchall():
        assert lookup(con, person).person_id == person_id_of("anonymous_id", "a1")
    stitch(con, as_of=at(5), is_full=True)
    assert ids(con) == {value: person for _, value, person, *_ in grown[0]}


@pytest.mark.parametrize(
    "who",
    ["p_0123456789abcdef", "user_id:nobody", "", "x" * 10_000_000, "'; drop table identity.identifiers --"],
    ids=["person", "typed", "empty", "ten megabytes", "SQL"],
)
def test_a_split_or_a_merge_of_an_unknown_id_changes_nothing_and_says_so(con: Connection, who: str) -> None:
    run(con, ALIASES, 5)
    before = state(con)
    for plan in (lambda: plan_split(con, who, as_of=at(6)), lambda: plan_merge(con, "u1", who, as_of=at(6))):
        with pytest.raises(BadInputError, match="nobody is known as") as caught:
            carry_out(con, plan(), by="me", note="", as_of=at(6))
        assert len(str(caught.value)) < 1000
    assert state(con) == before
    assert con.execute("select count(*) from identity.decisions").fetchone() == (0,)
