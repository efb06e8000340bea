"""The pure part: links become people, whatever the order and the day on which they are looked at."""

from collections import defaultdict
from dataclasses import replace
from itertools import permutations

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.identifiers import Rules, TypeRule
from segue.identity import Resolution, resolve
from segue.identity.graph import person_id_of
from tests.identity.identity_world import Key, Message, at, plainly, staged


def name(value: object) -> str:
    """A person id from the published id or the naming identifier."""
    return person_id_of(*value) if isinstance(value, tuple) else str(value)


def assigned(identifiers: pa.Table, found: Resolution) -> dict[Key, str]:
    keys = zip(identifiers["identifier_type"].to_pylist(), identifiers["identifier_value"].to_pylist(), strict=True)
    return dict(zip(keys, found.person_ids.to_pylist(), strict=True))


def merges_of(links: pa.Table, found: Resolution) -> list[tuple]:
    rows = links.take(pa.array(found.merged_by)).to_pylist()
    by = [(r["left_value"], r["right_value"], r["rule"]) for r in rows]
    return list(zip(found.merged_from.to_pylist(), found.merged_into.to_pylist(), by, strict=True))


def refused_of(links: pa.Table, found: Resolution) -> list[tuple]:
    rows = links.take(pa.array(found.refused)).to_pylist()
    return [(r["left_value"], r["right_value"], r["rule"], why) for r, why in zip(rows, found.reasons, strict=True)]


def run(messages: list[Message]) -> tuple[dict[Key, str], list[tuple], list[tuple]]:
    identifiers, links = staged(messages)
    found = resolve(identifiers, links)
    return assigned(identifiers, found), merges_of(links, found), refused_of(links, found)


#: Late enough that nothing waits any more.
LAST = 20

maybe = lambda *values: st.sampled_from([None, *values])  # noqa: E731


@st.composite
def messages(draw: st.DrawFn, *, users: tuple[str, ...] = ("u1", "u2", "u3"), alias: bool = True) -> list[Message]:
    """Messages with few values, so that they meet; some at the same instant, some late."""
    moments = draw(st.lists(st.integers(0, 12), min_size=1, max_size=16))
    found = []
    for moment in sorted(moments):
        user = draw(maybe(*users))
        found.append(
            Message(
                received=moment,
                user=user,
                anonymous=draw(maybe("a1", "a2", "a3", "a4")),
                device=draw(maybe("d1", "d2", "d3")),
                email=draw(maybe(None, "e1", "e2")),
                previous=draw(maybe(None, None, "a1", "a4")) if alias and user else None,
                account=draw(maybe(None, None, None, "u1", "u3")) if alias and user else None,
                late=draw(st.integers(0, 5)),
            )
        )
    return found


TIGHT = Rules(
    largest_person=6,
    types={**Rules().types, "anonymous_id": TypeRule(priority=7, max_per_person=1, window_days=None)},
)
#: 20 minutes are one of the stream's units: a window of a day is wider than the stream, so shift some far away.
WINDOWED = Rules(types={**Rules().types, "anonymous_id": TypeRule(priority=2, max_per_person=1, window_days=1)})


@given(messages(), st.sampled_from([None, TIGHT, WINDOWED]), st.sampled_from([1, 40]))
@settings(max_examples=300, deadline=None)
def test_the_fast_way_equals_link_by_link(stream: list[Message], rules: Rules | None, spread: int) -> None:
    stream = [replace(m, received=m.received * spread, late=m.late * spread) for m in stream]
    identifiers, links = staged(stream)
    for as_of in (None, at(LAST * spread), at(10 * spread)):
        found = resolve(identifiers, links, rules=rules, as_of=as_of)
        people, merges, refused = plainly(identifiers, links, rules=rules, as_of=as_of)
        assert assigned(identifiers, found) == {k: name(v) for k, v in people.items()}
        assert sorted(merges_of(links, found)) == sorted((name(a), name(b), link) for a, b, link in merges)
        assert sorted(refused_of(links, found)) == sorted(refused)


@given(messages(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_people_and_ids_do_not_depend_on_the_order_of_arrival(stream: list[Message], random) -> None:
    """The same events, received in any order and however late."""
    happened = [m.received - m.late for m in stream]
    order = random.sample(range(len(stream)), len(stream))
    shuffled = [replace(stream[n], received=60 + place, late=60 + place - happened[n]) for place, n in enumerate(order)]
    people, merges, refused = run(stream)
    people_then, merges_then, refused_then = run(shuffled)
    assert people_then == people
    assert sorted(merges_then) == sorted(merges)
    assert sorted(refused_then) == sorted(refused)


@given(messages(users=("u1",), alias=False))
@settings(max_examples=150, deadline=None)
def test_where_no_guard_speaks_people_are_the_connected_components(stream: list[Message]) -> None:
    people, _, refused = run(stream)
    graph = nx.Graph()
    for message in stream:
        graph.add_nodes_from(message.identifiers())
        graph.add_edges_from((a, b) for a, b, _ in message.links())
    by_person: dict[str, set[Key]] = defaultdict(set)
    for key, person in people.items():
        by_person[person].add(key)
    assert refused == []
    assert sorted(map(sorted, by_person.values())) == sorted(map(sorted, nx.connected_components(graph)))


@given(messages(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_means_nothing(stream: list[Message], random: object) -> None:
    identifiers, links = staged(stream)
    shuffled = [
        t.take(pa.array(np.random.default_rng(random.randint(0, 10**6)).permutation(t.num_rows)))  # type: ignore[attr-defined]
        for t in (identifiers, links)
    ]
    plain, other = resolve(identifiers, links), resolve(*shuffled)
    assert assigned(identifiers, plain) == assigned(shuffled[0], other)
    assert merges_of(links, plain) == merges_of(shuffled[1], other)
    assert refused_of(links, plain) == refused_of(shuffled[1], other)


@given(messages())
@settings(max_examples=150, deadline=None)
def test_where_nothing_is_late_an_id_goes_only_by_a_merge(stream: list[Message]) -> None:
    """Growing never renames: day by day, whoever has another id than before was merged.

    Two messages change what was believed before: an alias may mean a user_id of earlier, and a browser that was taken
    for its device's may sign in as somebody else.
    """
    stream = [replace(m, late=0, previous=None, device=m.device if m.user or not m.anonymous else None) for m in stream]
    people: dict[Key, str] = {}
    for day in sorted({m.received for m in stream}):
        identifiers, links = staged(m for m in stream if m.received <= day)
        found = resolve(identifiers, links, as_of=at(day))
        into = {a: b for a, b, _ in merges_of(links, found)}
        now = assigned(identifiers, found)
        for key, person in people.items():
            while person in into and person != now[key]:
                person = into[person]
            assert person == now[key]
        people = now


def test_a_person_is_named_after_the_identifier_that_was_known_first() -> None:
    people, merges, _ = run(
        [Message(1, anonymous="a"), Message(2, anonymous="a", user="u"), Message(3, user="u", device="d")]
    )
    assert set(people.values()) == {person_id_of("anonymous_id", "a")}
    assert merges == []  # one person who grew


def test_a_merge_keeps_the_person_who_was_known_first() -> None:
    people, merges, _ = run(
        [Message(1, anonymous="z", user="u"), Message(2, anonymous="a"), Message(3, anonymous="a", user="u")]
    )
    older, younger = person_id_of("anonymous_id", "z"), person_id_of("anonymous_id", "a")
    assert set(people.values()) == {older}
    assert merges == [(younger, older, ("a", "u", "same_message"))]


def test_identifiers_of_one_message_are_ordered_by_type_and_value() -> None:
    people, merges, _ = run([Message(1, anonymous="a", user="u", device="d")])
    assert set(people.values()) == {person_id_of("anonymous_id", "a")}
    assert merges == []


def test_merges_that_follow_each_other_lead_from_the_first_id_to_the_last() -> None:
    stream = [Message(1, anonymous="a1"), Message(2, anonymous="a2"), Message(3, anonymous="a3")]
    stream += [Message(4, anonymous="a3", email="e"), Message(5, anonymous="a2", email="e")]
    stream += [Message(6, anonymous="a1", email="e")]
    people, merges, _ = run(stream)
    first, second, third = (person_id_of("anonymous_id", a) for a in ("a1", "a2", "a3"))
    assert set(people.values()) == {first}
    assert [(a, b) for a, b, _ in merges] == [(third, second), (second, first)]


def test_who_signs_in_on_a_browser_is_believed_before_the_device() -> None:
    stream = [Message(1, user="ann", anonymous="a1", device="d"), Message(5, anonymous="a2", device="d")]
    soon = [*stream, Message(6, user="bob", anonymous="a2", device="d")]
    late = [*stream, Message(9, user="bob", anonymous="a2", device="d")]
    for after in (soon, late):
        people, _, refused = run(after)
        assert people["anonymous_id", "a2"] == people["user_id", "bob"] != people["user_id", "ann"]
        assert refused == [("d", "bob", "device", "limit"), ("d", "a2", "device", "shared_device")]
    people, *_ = run(stream)  # until somebody has signed in on the browser, the device speaks
    assert people["anonymous_id", "a2"] == people["user_id", "ann"]


def test_a_device_waits_for_an_hour_unless_it_is_new() -> None:
    identifiers, links = staged([Message(1, anonymous="a1", device="d"), Message(5, anonymous="a2", device="d")])
    before, after = (assigned(identifiers, resolve(identifiers, links, as_of=at(minute))) for minute in (7, 8))
    assert before["anonymous_id", "a1"] == before["device_id", "d"] != before["anonymous_id", "a2"]
    assert len(set(after.values())) == 1


def test_a_device_of_two_user_ids_joins_no_anonymous_id() -> None:
    people, _, refused = run(
        [
            Message(1, user="ann", anonymous="a1", device="d"),
            Message(2, user="bob", anonymous="a2", device="d"),
            Message(9, anonymous="a3", device="d"),
        ]
    )
    assert people["anonymous_id", "a3"] == person_id_of("anonymous_id", "a3")
    assert refused[-1] == ("d", "a3", "device", "shared_device")


FAMILY = [
    Message(1, user="mother", anonymous="browser"),
    Message(2, user="father", anonymous="browser"),
    Message(3, user="child", anonymous="browser"),
]


@pytest.mark.parametrize(
    ("stream", "people", "refused"),
    [
        pytest.param(FAMILY, [{"mother", "browser"}, {"father"}, {"child"}], 2, id="one browser, three log in"),
        pytest.param(
            [Message(1, user="mother", device="tablet"), Message(2, user="child", device="tablet")],
            [{"mother", "tablet"}, {"child"}],
            1,
            id="one device, two log in",
        ),
        pytest.param(
            [Message(1, user="u1", email="e"), Message(2, user="u2", email="e")],
            [{"u1", "e"}, {"u2"}],
            1,
            id="two accounts with one address",
        ),
        pytest.param(
            [
                Message(1, user="mother", anonymous="old", device="tablet"),
                Message(2, user="child", anonymous="new", device="phone"),
                Message(3, anonymous="new", device="tablet"),
            ],
            [{"mother", "old", "tablet"}, {"child", "new", "phone"}],
            1,
            id="two known people meet through a device",
        ),
        pytest.param(
            [Message(1, user="u1", anonymous="a"), Message(2, user="u2", account="u1")],
            [{"u1", "a", "u2"}],
            0,
            id="an alias says that two accounts are one person",
        ),
        pytest.param(
            [Message(1, user="mother", anonymous="browser"), Message(2, user="father", previous="browser")],
            [{"mother", "browser"}, {"father"}],
            1,
            id="an alias of a browser does not say that two accounts are one person",
        ),
        pytest.param(
            [*FAMILY, Message(4, user="father", account="mother")],
            [{"mother", "browser", "father"}, {"child"}],
            2,
            id="an alias joins what a guard had refused",
        ),
        pytest.param(
            [Message(5, user="u2", anonymous="a"), Message(6, user="u1", anonymous="a", late=3)],
            [{"u1", "a"}, {"u2"}],
            1,
            id="what happened first counts, though it was heard of later",
        ),
        pytest.param(
            [
                Message(1, user="ann", device="tablet", anonymous="a1"),
                Message(2, user="bob", device="tablet", anonymous="a2"),
                Message(3, user="ann", device="tablet", anonymous="a1"),
                Message(4, user="bob", device="tablet", anonymous="a2"),
            ],
            [{"ann", "tablet", "a1"}, {"bob", "a2"}],
            2,
            id="two people on one device in turns",
        ),
        pytest.param(
            [
                Message(1, user="ann", email="old"),
                Message(2, user="ann", email="new"),
                Message(3, anonymous="a", email="new"),
            ],
            [{"ann", "old", "new", "a"}],
            0,
            id="an address changes",
        ),
        pytest.param(
            [
                Message(1, user="ann", anonymous="a"),
                Message(2, anonymous="b"),
                Message(3, user="ann", anonymous="b"),
                Message(4, user="ann2", account="ann"),
                Message(5, user="ann2", anonymous="c"),
            ],
            [{"ann", "a", "b", "ann2", "c"}],
            0,
            id="an alias after a merge",
        ),
        pytest.param(
            [
                Message(1, anonymous="a"),
                Message(2, user="bob", anonymous="a"),
                Message(9, user="ann", anonymous="a", late=8),
            ],
            [{"ann", "a"}, {"bob"}],
            1,
            id="a merge that arrives late",
        ),
        pytest.param(
            [
                Message(1, user="ann", anonymous="a"),
                Message(2, anonymous="a"),
                Message(3, user="bob", anonymous="a"),
                Message(4, user="bob", anonymous="b"),
            ],
            [{"ann", "a"}, {"bob", "b"}],
            1,
            id="an anonymous id is used again after somebody has signed out",
        ),
        pytest.param(
            [
                *(Message(n, user="ann", email=f"e{n}") for n in range(1, 6)),
                Message(6, anonymous="a", email="e5"),
                Message(7, anonymous="b", email="e6"),
                Message(8, anonymous="b", user="ann"),
                Message(9, anonymous="c", email="e6"),
            ],
            [{"ann", "e1", "e2", "e3", "e4", "e5", "a"}, {"b", "e6", "c"}],
            1,
            id="a limit is hit in the middle of a chain",
        ),
        pytest.param(
            [
                Message(1, user="u1"),
                Message(2, user="u2", account="u1"),
                Message(3, user="u3", account="u2"),
                Message(4, user="u1", account="u3"),
                Message(5, user="u3", account="u3"),
            ],
            [{"u1", "u2", "u3"}],
            0,
            id="a circle of aliases, and an alias to itself",
        ),
        pytest.param(
            [
                Message(1, anonymous="a", device="shared"),
                Message(1, user="u1", device="shared"),
                Message(1, user="u2", anonymous="a"),
            ],
            [{"u1", "shared"}, {"u2", "a"}],
            1,
            id="at one instant, links of a user_id are judged before others",
        ),
    ],
)
def test_shared_computers_do_not_make_one_person(stream: list[Message], people: list[set[str]], refused: int) -> None:
    assignment, _, refusals = run(stream)
    found: dict[str, set[str]] = defaultdict(set)
    for (_, value), person in assignment.items():
        found[person].add(value)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, people))
    assert len(refusals) == refused


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_three_people_become_one_in_whichever_order(order: tuple[int, ...]) -> None:
    pairs = [("a1", "e1"), ("a2", "e2"), ("a3", "e3")]
    stream = [Message(n, anonymous=a, email=e) for n, (a, e) in enumerate(pairs)]
    joins = [("a2", "e1"), ("a3", "e2"), ("a1", "e3")]
    stream += [Message(10 + at, anonymous=joins[n][0], email=joins[n][1]) for at, n in enumerate(order)]
    people, merges, refused = run(stream)
    assert set(people.values()) == {person_id_of("anonymous_id", "a1")}
    assert len(merges) == 2
    assert refused == []


def test_nothing_gives_nobody() -> None:
    found = resolve(*staged([]))
    assert len(found.person_ids) == 0
    assert len(found.merged_from) == 0


def test_a_link_of_an_unknown_identifier_is_a_defect() -> None:
    identifiers, links = staged([Message(1, user="u", anonymous="a")])
    with pytest.raises(ValueError, match="anonymous_id a"):
        resolve(identifiers.slice(0, 1), links)


def test_strange_values_are_values_like_others() -> None:
    strange = ["", " ", "ä🎈", "a\x00b", "'; drop table", "x" * 5000]
    people, *_ = run([Message(1 + n, user=value, anonymous=f"a{n}") for n, value in enumerate(strange)])
    assert len(set(people.values())) == len(strange)


def test_a_large_random_world_equals_link_by_link() -> None:
    generator = np.random.default_rng(1)
    stream = []
    for minute in range(3000):
        person = int(generator.integers(400))
        stream.append(
            Message(
                minute,
                user=f"u{person}" if generator.random() < 0.4 else None,
                anonymous=f"a{person}-{generator.integers(4)}",
                device=f"d{person // 3}" if generator.random() < 0.5 else None,
            )
        )
    identifiers, links = staged(stream)
    found = resolve(identifiers, links)
    people, merges, refused = plainly(identifiers, links)
    assert len(merges) > 100
    assert len(refused) > 100
    assert assigned(identifiers, found) == {k: name(v) for k, v in people.items()}
    assert sorted(merges_of(links, found)) == sorted((name(a), name(b), link) for a, b, link in merges)
    assert sorted(refused_of(links, found)) == sorted(refused)
