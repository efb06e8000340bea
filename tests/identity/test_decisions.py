"""Splits and merges by hand: looked at first, then done, remembered, told, and undone by another decision."""

import pytest

from segue.errors import BadInputError
from segue.identity import carry_out, explain, plan_merge, plan_split, read_decisions
from segue.identity.graph import person_id_of
from segue.warehouse import Connection
from tests.identity.identity_world import Message, at
from tests.identity.test_stitch import ids, run, state

FRIENDS = [
    Message(1, anonymous="laptop", user="ann"),
    Message(2, anonymous="phone"),
    Message(3, anonymous="phone", user="ann"),
    Message(4, user="bob", device="tablet"),
]


@pytest.fixture
def con(con: Connection) -> Connection:
    run(con, FRIENDS, 4)
    return con


def test_a_plan_changes_nothing(con: Connection) -> None:
    before = state(con)
    plan = plan_split(con, "ann", as_of=at(5))
    assert [str(e) for e in plan.edges] == ["anonymous_id:phone same_message user_id:ann"]
    assert set(plan.before) == {person_id_of("anonymous_id", "laptop")}
    assert set(plan.after) == {person_id_of("anonymous_id", "laptop"), person_id_of("anonymous_id", "phone")}
    assert state(con) == before
    assert read_decisions(con) == []


def test_a_split_undoes_the_last_merge_and_the_same_edge_never_joins_again(con: Connection) -> None:
    plan = plan_split(con, "ann", as_of=at(5))
    report = carry_out(con, plan, by="me", note="two people", as_of=at(5))
    assert report.written_count == 1
    assert ids(con)["phone"] == person_id_of("anonymous_id", "phone") != ids(con)["ann"]
    (decision,) = read_decisions(con)
    assert (decision["decided_by"], decision["kind"], decision["note"]) == ("me", "split", "two people")
    run(con, [*FRIENDS, Message(6, anonymous="phone", user="ann")], 6)
    assert ids(con)["phone"] != ids(con)["ann"]
    refused = con.execute("select left_value, reason from identity.refused").fetchall()
    assert refused == [("phone", "split")]
    # From nothing it is the same: the decision is part of what is known.
    assert con.execute("select count(*) from identity.merges").fetchall() == [(0,)]


def test_a_split_by_an_edge_cuts_that_one(con: Connection) -> None:
    plan = plan_split(con, "ann", edges=["user_id:ann anonymous_id:laptop"], as_of=at(5))
    carry_out(con, plan, by="me", note="", as_of=at(5))
    assert ids(con)["laptop"] != ids(con)["ann"] == ids(con)["phone"]


def test_a_merge_by_hand_passes_the_guards_and_can_be_split_again(con: Connection) -> None:
    plan = plan_merge(con, "ann", "bob", as_of=at(5))
    carry_out(con, plan, by="me", note="", as_of=at(5))
    assert len(set(ids(con).values())) == 1
    (edge,) = read_decisions(con)
    text = f"{edge['left_type']}:{edge['left_value']} {edge['right_type']}:{edge['right_value']}"
    carry_out(con, plan_split(con, "bob", edges=[text], as_of=at(6)), by="me", note="", as_of=at(6))
    assert ids(con)["bob"] != ids(con)["ann"]


def test_a_path_says_which_links_join_two_identifiers(con: Connection) -> None:
    one, other, start, steps = explain(con, "laptop", "phone", as_of=at(5))
    assert one.person_id == other.person_id
    assert [start, *(step.at for step in steps)] == [
        ("anonymous_id", "laptop"),
        ("user_id", "ann"),
        ("anonymous_id", "phone"),
    ]
    assert [(step.message, step.refused) for step in steps] == [("m0", ""), ("m2", "")]
    *_, steps = explain(con, "laptop", "tablet", as_of=at(5))
    assert steps == ()


def test_refused_links_between_two_people_are_shown(con: Connection) -> None:
    run(con, [*FRIENDS, Message(5, anonymous="laptop", user="bob")], 5)
    one, other, _, steps = explain(con, "laptop", "bob", as_of=at(5))
    assert one.person_id != other.person_id
    assert [step.refused for step in steps] == ["limit"]


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda con: plan_split(con, "nobody", as_of=at(5)), "nobody is known as 'nobody'"),
        (lambda con: plan_split(con, "bob", as_of=at(5)), "was never merged"),
        (lambda con: plan_split(con, "ann", edges=["user_id:ann device_id:x"], as_of=at(5)), "has no link"),
        (lambda con: plan_merge(con, "ann", "phone", as_of=at(5)), "are one person already"),
        (lambda con: plan_merge(con, "ann", "nobody", as_of=at(5)), "nobody is known as 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_fix(con: Connection, work, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        work(con)


def test_a_split_that_others_links_outlast_is_refused(con: Connection) -> None:
    run(con, [*FRIENDS, Message(5, anonymous="phone", email="e"), Message(5, user="ann", email="e")], 5)
    with pytest.raises(BadInputError, match="stays one person"):
        plan_split(con, "ann", edges=["user_id:ann anonymous_id:phone"], as_of=at(6))
    # Without an edge everything between the two sides is cut.
    plan = plan_split(con, "ann", as_of=at(6))
    assert len(plan.edges) >= 2
    assert len(plan.after) == 2
