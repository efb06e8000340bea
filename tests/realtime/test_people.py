"""Who is who in the engine, batch by batch, is what the rules say of everything that has come: link by link."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.identifiers import Rules, TypeRule
from segue.identity.graph import person_id_of
from segue.realtime.people import People
from tests.identity.identity_world import Key, Message, at, naive, plainly, staged
from tests.identity.test_graph import messages

RULES = [
    Rules(),
    Rules(largest_person=5, shared_device_users=3, device_wait=timedelta(0)),
    Rules(types={**Rules().types, "anonymous_id": TypeRule(priority=2, max_per_person=1, window_days=1)}),
]


def learn(people: People, stream: list[Message]) -> set[int]:
    identifiers, links = staged(stream)
    return people.learn(identifiers.to_pylist(), links.to_pylist())


def who_is_who(people: People) -> dict[Key, str]:
    return {
        key: person for root in people.roots() for person, keys in people.identifiers_of(root).items() for key in keys
    }


def expected(stream: list[Message], rules: Rules, moment: Any) -> dict[Key, str]:
    identifiers, links = staged(stream)
    rows = links.to_pylist()
    firsts = {(r["identifier_type"], r["identifier_value"]): r["first_seen_at"] for r in identifiers.to_pylist()}
    # An alias may mean a user_id, once there is one.
    for row in list(rows):
        meant = ("user_id", row["left_value"])
        is_alias = row["rule"] == "alias" and row["left_type"] == "anonymous_id"
        if is_alias and meant in firsts and meant != (row["right_type"], row["right_value"]):
            rows.append(row | {"left_type": "user_id", "first_seen_at": max(row["first_seen_at"], firsts[meant])})
    people, *_ = plainly(identifiers, type(links).from_pylist(rows, links.schema), rules=rules, as_of=moment)
    return {key: person_id_of(*namer) for key, namer in people.items()}


@given(messages(users=("u1", "u2", "a1")), st.sampled_from(RULES), st.lists(st.integers(0, 15), max_size=6), st.data())
@settings(max_examples=200, deadline=None)
def test_batch_by_batch_equals_everything_link_by_link(
    stream: list[Message], rules: Rules, cuts: list[int], data: st.DataObject
) -> None:
    # In any order of arrival, each received when its batch comes.
    order = data.draw(st.permutations(range(len(stream))))
    happened = [m.received - m.late for m in stream]
    bounds = sorted({0, *(c for c in cuts if c < len(stream)), len(stream)})
    people, known, ids = People(rules), [], set()
    for number, (low, high) in enumerate(pairwise(bounds)):
        clock = 20 + number
        batch = [replace(stream[n], received=clock, late=clock - happened[n]) for n in order[low:high]]
        known += batch
        moment = at(clock)
        people.resolve(people.due(moment), moment)
        people.resolve(learn(people, batch), moment)
        found = who_is_who(people)
        assert found == expected(known, rules, moment)
        ids |= set(found.values())
        # Every id that was ever given out leads to somebody who is there.
        assert {people.survivor(i) or i for i in ids} == set(found.values())
    end = at(20 + len(bounds) + 4)
    people.resolve(people.due(end), end)
    assert who_is_who(people) == expected(known, rules, end)


def decision(kind: str, left: Key, right: Key, rule: str, minute: int) -> dict[str, Any]:
    ends = {"left_type": left[0], "left_value": left[1], "right_type": right[0], "right_value": right[1]}
    return {"kind": kind, "decided_at": naive(minute), "rule": rule, **ends}


def test_a_split_link_joins_nobody_however_often_it_is_seen_again() -> None:
    people = People(Rules())
    people.resolve(learn(people, [Message(1, anonymous="a"), Message(2, anonymous="a", user="u")]), at(2))
    assert len(set(who_is_who(people).values())) == 1
    cut = [decision("split", ("anonymous_id", "a"), ("user_id", "u"), "same_message", 3)]
    people.resolve(people.decide(cut), at(3))
    assert who_is_who(people) == {k: person_id_of(*k) for k in (("anonymous_id", "a"), ("user_id", "u"))}
    people.resolve(learn(people, [Message(4, anonymous="a", user="u"), Message(4, user="u", late=4)]), at(4))
    assert len(set(who_is_who(people).values())) == 2


def test_a_merge_by_hand_passes_every_guard_until_it_is_split_again() -> None:
    people = People(Rules())
    people.resolve(learn(people, [Message(1, user="u1"), Message(2, user="u2")]), at(2))
    ends = (("user_id", "u1"), ("user_id", "u2"), "merge")
    decisions = [decision("merge", *ends, 3)]
    people.resolve(people.decide(decisions), at(3))
    assert set(who_is_who(people).values()) == {person_id_of("user_id", "u1")}
    decisions.append(decision("split", *ends, 4))
    people.resolve(people.decide(decisions), at(4))
    assert len(set(who_is_who(people).values())) == 2
    decisions.append(decision("merge", *ends, 5))
    people.resolve(people.decide(decisions), at(5))
    assert len(set(who_is_who(people).values())) == 1


def test_a_new_browser_on_a_device_of_very_many_is_judged_by_itself() -> None:
    people = People(Rules(largest_person=50, device_wait=timedelta(0)))
    crowd = [Message(1, anonymous=f"a{n}", device="kiosk") for n in range(3000)]
    people.resolve(learn(people, crowd), at(1))
    judged = 0
    inner = people._walker.judge

    def count(*args: Any, **options: Any) -> Any:
        nonlocal judged
        judged += 1
        return inner(*args, **options)

    people._walker.judge = count  # type: ignore[method-assign]
    people.resolve(learn(people, [Message(2, anonymous="one more", device="kiosk")]), at(2))
    assert judged == 1
    assert who_is_who(people)["anonymous_id", "one more"] == person_id_of("anonymous_id", "one more")
