"""The tables: only differences are written, a rerun writes nothing, the past can be had again."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import BadInputError
from segue.identifiers import Normaliser
from segue.identity import StitchReport, ensure_tables, lookup, stitch
from segue.identity.graph import person_id_of
from segue.models.check import empty_lake
from segue.warehouse import Connection, Warehouse
from tests.identity.identity_world import Message, at, naive, stage

WORLD = [
    Message(1, anonymous="laptop", user="ann", email="e-ann"),
    Message(2, anonymous="phone"),
    Message(3, anonymous="phone", user="ann"),
    Message(4, anonymous="laptop", user="bob"),
    Message(5, user="bob", device="d-bob"),
    Message(6, user="bobby"),
    Message(7, user="bobby", previous="bob"),
]


def run(con: Connection, messages: list[Message], minute: int) -> StitchReport:
    stage(con, messages, until=minute)
    return stitch(con, as_of=at(minute))


def state(con: Connection) -> list[list[tuple]]:
    return [
        con.execute(f"from identity.{t} order by all").fetchall()
        for t in ("identifiers", "merges", "refused", "aliases")
    ]


def ids(con: Connection) -> dict[str, str]:
    return dict(con.execute("select identifier_value, person_id from identity.identifiers").fetchall())


def ids_of_all(con: Connection) -> list[str]:
    return [person for (person,) in con.execute("select person_id from identity.identifiers").fetchall()]


def test_the_report_counts_what_is_there_and_what_is_new(con: Connection) -> None:
    first = run(con, WORLD, 2)
    assert (first.person_count, first.new_person_count, first.merge_count, first.refused_count) == (2, 2, 0, 0)
    assert (first.identifier_count, first.largest, first.written_count) == (4, 3, 4)
    second = run(con, WORLD, 5)
    assert (second.person_count, second.new_person_count, second.merge_count, second.refused_count) == (2, 1, 1, 1)
    assert not second.is_rebuilt


def test_a_merge_is_written_with_its_time_rule_and_evidence(con: Connection) -> None:
    run(con, WORLD, 2)
    run(con, WORLD, 5)
    gone, stayed = person_id_of("anonymous_id", "phone"), person_id_of("anonymous_id", "laptop")
    (merge,) = con.execute(
        "select merged_at, from_person_id, into_person_id, rule, evidence, recorded_at from identity.merges"
    ).fetchall()
    assert merge == (
        naive(3),
        gone,
        stayed,
        "same_message",
        "anonymous_id phone and user_id ann in message m2",
        naive(5),
    )


def test_a_refused_link_is_written_with_the_reason(con: Connection) -> None:
    run(con, WORLD, 5)
    (refused,) = con.execute("from identity.refused").fetchall()
    ends = ("anonymous_id", "laptop", "user_id", "bob", "same_message")
    assert refused == (*ends, "limit", "user_id: more than 1", naive(4), 1, naive(5))


def test_an_alias_of_a_user_id_joins_the_two_accounts(con: Connection) -> None:
    run(con, WORLD, 6)
    assert ids(con)["bob"] != ids(con)["bobby"]
    run(con, WORLD, 7)
    assert ids(con)["bob"] == ids(con)["bobby"] == person_id_of("user_id", "bob")


def test_an_alias_means_a_user_id_only_once_that_is_known(con: Connection) -> None:
    stage(con, [Message(1, user="bobby", previous="bob"), Message(5, user="bob")])
    stitch(con, as_of=at(3))
    kinds = "select identifier_type, identifier_value from identity.identifiers order by all"
    assert con.execute(kinds).fetchall() == [("anonymous_id", "bob"), ("user_id", "bobby")]
    stitch(con, as_of=at(5))
    assert len(set(ids(con).values())) == 1
    assert con.execute("select count(*) from identity.merges").fetchall() == [(0,)]  # bob is no person before that


def test_a_rerun_writes_nothing(warehouse: Warehouse) -> None:
    with warehouse.write("stage") as con:
        stage(con, WORLD)
    with warehouse.write("identity") as con:
        stitch(con, as_of=at(7))
    with warehouse.read() as con:
        before = state(con), con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchone()
    with warehouse.write("identity") as con:
        report = stitch(con, as_of=at(7))
    with warehouse.read() as con:
        assert (state(con), con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchone()) == before
    assert (report.written_count, report.removed_count, report.merge_count, report.new_person_count) == (0, 0, 0, 0)
    assert report.refused_count == 0


def test_only_what_changed_is_written(con: Connection) -> None:
    run(con, WORLD, 2)
    report = run(con, [*WORLD[:2], Message(8, anonymous="phone")], 8)
    assert report.written_count == 1
    assigned = dict(con.execute("select identifier_value, assigned_at from identity.identifiers").fetchall())
    assert set(assigned.values()) == {naive(2)}
    (last,) = con.execute("select last_seen_at from identity.identifiers where identifier_value = 'phone'").fetchall()
    assert last == (naive(8),)


def test_assigned_at_changes_only_with_the_person(con: Connection) -> None:
    run(con, WORLD, 2)
    run(con, WORLD, 3)
    assigned = dict(con.execute("select identifier_value, assigned_at from identity.identifiers").fetchall())
    assert assigned == {"laptop": naive(2), "ann": naive(2), "e-ann": naive(2), "phone": naive(3)}


def test_what_is_received_later_does_not_count(con: Connection) -> None:
    stage(con, WORLD)
    stitch(con, as_of=at(2))
    assert set(ids(con)) == {"laptop", "ann", "e-ann", "phone"}
    assert con.execute("select count(*) from identity.merges").fetchall() == [(0,)]


def test_an_identifier_that_is_gone_from_staging_is_gone(con: Connection) -> None:
    run(con, WORLD, 5)
    stayed = ids(con)["ann"]
    report = run(con, [Message(3, anonymous="phone", user="ann")], 9)
    assert report.removed_count == 4
    assert report.is_rebuilt
    assert set(ids(con)) == {"ann", "phone"}
    assert stayed not in ids(con).values()  # the identifier that the id was made from is gone


def test_going_back_in_time_forgets_what_came_later(con: Connection) -> None:
    run(con, WORLD, 2)
    then = state(con)
    run(con, WORLD, 7)
    report = run(con, WORLD, 2)
    assert report.is_rebuilt
    assert state(con) == then


message = st.builds(
    Message,
    st.integers(0, 12),
    user=st.sampled_from([None, "u1", "u2"]),
    anonymous=st.sampled_from([None, "a1", "a2", "a3"]),
    device=st.sampled_from([None, "d1", "d2"]),
    previous=st.sampled_from([None, None, None, "a1", "u1"]),
    late=st.integers(0, 4),
)


@given(st.lists(message, min_size=1, max_size=12), st.lists(st.integers(0, 12), min_size=1, max_size=4, unique=True))
@settings(max_examples=25, deadline=None)
def test_each_day_in_turn_or_all_at_once_give_the_same_people_and_merges(
    messages: list[Message], days: list[int]
) -> None:
    answers = []
    for minutes in ([*sorted(days), 20], [20]):
        con = empty_lake()
        for number, minute in enumerate(minutes):
            report = run(con, messages, minute)
            assert report.is_rebuilt == (number == 0)
            people = Counter(ids_of_all(con))
            assert (report.person_count, report.largest) == (len(people), max(people.values(), default=0))
        tables = ("identifiers", "merges", "refused")
        times = (
            "first_seen_at",
            "last_seen_at",
            "assigned_at",
            "merged_at",
            "recorded_at",
            "refused_at",
            "evidence",
            "reason",
        )
        columns = f"columns(c -> c not in {times})"
        answers.append([con.execute(f"select {columns} from identity.{t} order by all").fetchall() for t in tables])
        con.close()
    assert answers[0] == answers[1]


def test_old_ids_lead_to_the_survivor_through_several_merges(con: Connection) -> None:
    stream = [Message(1, anonymous="a1"), Message(2, anonymous="a2"), Message(3, anonymous="a3")]
    stream += [Message(4, anonymous="a3", email="e"), Message(5, anonymous="a2", email="e")]
    stream += [Message(6, anonymous="a1", email="e")]
    for minute in range(1, 7):
        run(con, stream, minute)
    first, second, third = (person_id_of("anonymous_id", a) for a in ("a1", "a2", "a3"))
    person = lookup(con, third)
    assert person.person_id == first
    assert [(m.from_person_id, m.into_person_id) for m in person.merges] == [(third, second), (second, first)]
    assert (
        lookup(con, second).person_id
        == lookup(con, "a3").person_id
        == lookup(con, "anonymous_id:a2").person_id
        == first
    )


def test_a_person_shows_identifiers_and_refused_links(con: Connection) -> None:
    run(con, WORLD, 5)
    person = lookup(con, "bob")
    assert [(i.identifier_type, i.identifier_value) for i in person.identifiers] == [
        ("user_id", "bob"),
        ("device_id", "d-bob"),
    ]
    assert [(r.left_value, r.right_value) for r in person.refused] == [("laptop", "bob")]
    assert person.identifiers[0].first_seen_at == at(4)


def test_an_address_in_clear_finds_its_hash(con: Connection) -> None:

    normaliser = Normaliser(b"a key of these tests")
    run(con, [Message(1, user="ann", email=normaliser.email("ann@example.com"))], 1)
    assert lookup(con, " Ann@Example.com", normaliser).person_id == ids(con)["ann"]


def test_an_unknown_id_says_what_can_be_given(con: Connection) -> None:
    for prepare in (lambda: None, lambda: ensure_tables(con)):
        prepare()
        with pytest.raises(BadInputError, match="nobody is known as 'p_nobody'"):
            lookup(con, "p_nobody")


def test_a_value_that_two_people_have_must_be_told_apart(con: Connection) -> None:
    run(con, [Message(1, user="7"), Message(2, anonymous="7")], 2)
    with pytest.raises(BadInputError, match="anonymous_id:7, user_id:7"):
        lookup(con, "7")
    assert lookup(con, "user_id:7").person_id == person_id_of("user_id", "7")
