"""The history: a ledger that does not depend on the order in which it was written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.clock import to_warehouse
from segue.models.check import empty_lake
from segue.segments import Segment, ensure_tables, members, person_history, record, sizes
from segue.warehouse import Connection

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=900)


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


@pytest.fixture
def con() -> Iterator[Connection]:
    connection = empty_lake()
    ensure_tables(connection)
    yield connection
    connection.close()


def segment(name: str, *, group: str | None = None, priority: int = 100, hash: str = "h1") -> Segment:
    return Segment(name=name, exclusive_group=group, priority=priority, definition_hash=hash)


def rows_of(pairs: set[tuple[str, str]], columns: tuple[str, str]) -> str:
    values = ", ".join(f"('{a}', '{b}')" for a, b in sorted(pairs)) or "(null::varchar, null::varchar)"
    return f"select * from (values {values}) v({columns[0]}, {columns[1]})"


def put(con, hours, who, segments, *, merges=None, recorded_at=LATER, active_count=None):
    """Record `who`: segment → people."""
    pairs = {(person, name) for name, people in who.items() for person in people}
    return record(
        con,
        as_of=at(hours),
        segments=segments,
        members=rows_of(pairs, ("person_id", "segment")),
        merges=None if merges is None else rows_of(merges, ("from_person_id", "into_person_id")),
        recorded_at=recorded_at,
        active_count=active_count,
    )


def ledger(con) -> list[tuple]:
    return con.execute(
        "select segment, person_id, effective_at, change, is_member, cause, recorded_at"
        " from segments.transitions order by all"
    ).fetchall()


def stays(con) -> list[tuple]:
    return con.execute(
        "select segment, person_id, entered_at, exited_at from segments.memberships order by all"
    ).fetchall()


def everything(con) -> list[list[tuple]]:
    tables = ("evaluations", "transitions", "memberships", "merged_people")
    return [con.execute(f"from segments.{table} order by all").fetchall() for table in tables]


def test_a_new_segment_starts_with_entered_for_all_its_members(con: Connection) -> None:
    report = put(con, 1, {"a": "xy"}, [segment("a")])
    assert [(r[1], r[3], r[5]) for r in ledger(con)] == [
        ("x", "entered", "first evaluation"),
        ("y", "entered", "first evaluation"),
    ]
    assert (report.entered_count, report.exited_count, report.merged_count) == (2, 0, 0)


def test_a_rerun_of_the_same_as_of_writes_nothing_new(con: Connection) -> None:
    put(con, 1, {"a": "xy"}, [segment("a")], recorded_at=at(1))
    put(con, 2, {"a": "yz"}, [segment("a")], recorded_at=at(2))
    before = everything(con)
    report = put(con, 2, {"a": "yz"}, [segment("a")], recorded_at=at(9))
    assert everything(con) == before
    assert (report.added_count, report.removed_count) == (0, 0)


def test_a_rerun_with_other_members_replaces_only_what_differs(con: Connection) -> None:
    put(con, 1, {"a": "xy"}, [segment("a")], recorded_at=at(1))
    put(con, 1, {"a": "xz"}, [segment("a")], recorded_at=at(9))
    assert [(r[1], r[6]) for r in ledger(con)] == [("x", to_warehouse(at(1))), ("z", to_warehouse(at(9)))]


def test_an_evaluation_between_two_others_moves_the_change_to_where_it_belongs(con: Connection) -> None:
    put(con, 1, {"a": "x"}, [segment("a")])
    put(con, 5, {"a": ""}, [segment("a")])
    put(con, 3, {"a": ""}, [segment("a")])
    assert stays(con) == [("a", "x", to_warehouse(at(1)), to_warehouse(at(3)))]
    put(con, 4, {"a": "x"}, [segment("a")])
    assert stays(con) == [
        ("a", "x", to_warehouse(at(1)), to_warehouse(at(3))),
        ("a", "x", to_warehouse(at(4)), to_warehouse(at(5))),
    ]


def test_a_segment_that_was_not_evaluated_is_left_as_it_was(con: Connection) -> None:
    put(con, 1, {"a": "x", "b": "x"}, [segment("a"), segment("b")])
    put(con, 2, {"b": ""}, [segment("b")])
    assert [s[:2] for s in stays(con) if s[3] is None] == [("a", "x")]


def test_a_changed_definition_is_the_cause(con: Connection) -> None:
    put(con, 1, {"a": "x"}, [segment("a")])
    put(con, 2, {"a": "y"}, [segment("a", hash="h2")])
    assert {r[5] for r in ledger(con) if r[2] == to_warehouse(at(2))} == {"definition changed"}


def test_a_merge_is_never_an_exit_or_an_entry(con: Connection) -> None:
    put(con, 1, {"a": ["young"]}, [segment("a")])
    put(con, 2, {"a": ["old"]}, [segment("a")], merges={("young", "old")})
    changes = [(r[1], r[3], r[4], r[5]) for r in ledger(con) if r[2] == to_warehouse(at(2))]
    assert changes == [("old", "merged", True, "merged from young"), ("young", "merged", False, "merged into old")]


def test_a_survivor_that_was_a_member_keeps_its_own_stay(con: Connection) -> None:
    put(con, 1, {"a": ["old"]}, [segment("a")])
    put(con, 2, {"a": ["old", "young"]}, [segment("a")])
    put(con, 3, {"a": ["old"]}, [segment("a")], merges={("young", "old")})
    assert stays(con) == [
        ("a", "old", to_warehouse(at(1)), None),
        ("a", "young", to_warehouse(at(2)), to_warehouse(at(3))),
    ]
    assert [r[3] for r in ledger(con)] == ["entered", "entered", "merged"]


def test_merges_in_a_row_end_at_the_last_survivor(con: Connection) -> None:
    put(con, 1, {"a": ["c"]}, [segment("a")])
    put(con, 2, {"a": ["z"]}, [segment("a")], merges={("c", "b"), ("b", "z")})
    assert [(r[1], r[5]) for r in ledger(con) if r[3] == "merged"] == [("c", "merged into z"), ("z", "merged from c")]


def test_an_evaluation_before_a_merge_shows_the_two_people_apart(con: Connection) -> None:
    put(con, 3, {"a": ["old"]}, [segment("a")], merges={("young", "old")})
    put(con, 1, {"a": ["young"]}, [segment("a")], merges=set())
    assert [(r[1], r[3]) for r in ledger(con)] == [("old", "merged"), ("young", "entered"), ("young", "merged")]


def test_nobody_is_in_two_segments_of_a_group_and_the_lower_number_wins(con: Connection) -> None:
    group = [segment("a", group="g", priority=20), segment("b", group="g", priority=10), segment("c")]
    put(con, 1, {"a": "xy", "b": "yz", "c": "xyz"}, group)
    assert {(s[0], s[1]) for s in stays(con)} == {
        ("a", "x"),
        ("b", "y"),
        ("b", "z"),
        ("c", "x"),
        ("c", "y"),
        ("c", "z"),
    }


def test_a_segment_that_failed_keeps_its_people_from_the_others_of_its_group(con: Connection) -> None:
    a, b = segment("a", group="g", priority=20), segment("b", group="g", priority=10)
    put(con, 1, {"a": "x", "b": "y"}, [a, b])
    put(con, 3, {"b": "xy"}, [b])  # a failed
    assert {(s[0], s[1]) for s in stays(con) if s[3] is None} == {("a", "x"), ("b", "y")}
    put(con, 2, {"a": "xz", "b": "y"}, [a, b])  # z would still be in a when b is evaluated at 3
    put(con, 4, {"a": "", "b": "xyz"}, [a, b])
    assert_exclusive(con, {"a", "b"})


def test_a_segment_that_left_its_group_keeps_nobody_from_the_others_when_it_fails(con: Connection) -> None:
    a, b = segment("a", group="g", priority=20), segment("b", group="g", priority=10)
    put(con, 1, {"a": "x", "b": "y"}, [a, b])
    put(con, 2, {"a": "x", "b": "y"}, [segment("a"), b])
    put(con, 3, {"b": "xy"}, [b])  # a failed
    assert {(s[0], s[1]) for s in stays(con) if s[3] is None} == {("a", "x"), ("b", "x"), ("b", "y")}


def assert_exclusive(con: Connection, group: set[str]) -> None:
    overlaps = con.execute(
        "select l.person_id from segments.memberships l join segments.memberships r"
        " on l.person_id = r.person_id and l.segment < r.segment"
        " and l.entered_at < coalesce(r.exited_at, 'infinity') and r.entered_at < coalesce(l.exited_at, 'infinity')"
        " where list_contains($1, l.segment) and list_contains($1, r.segment)",
        [sorted(group)],
    ).fetchall()
    assert overlaps == []


def test_shares_say_when_a_segment_is_too_small(con: Connection) -> None:
    small = Segment(name="a", min_share=0.01, definition_hash="h")
    [share] = put(con, 1, {"a": "x"}, [small], active_count=101).shares
    assert not share.is_enough
    [share] = put(con, 2, {"a": "x"}, [small], active_count=100).shares
    assert share.is_enough
    [share] = put(con, 3, {"a": "x"}, [small], active_count=0).shares
    assert share.share is None
    assert share.is_enough


def test_reads_answer_as_of_any_time(con: Connection) -> None:
    put(con, 1, {"a": "xy"}, [segment("a")], active_count=4)
    put(con, 2, {"a": "y"}, [segment("a")], active_count=4)
    assert [m.person_id for m in members(con, "a", at(1))] == ["x", "y"]
    assert [m.person_id for m in members(con, "a", at(2))] == ["y"]
    assert members(con, "a", at(0)) == ()
    assert [(s.member_count, s.share) for s in sizes(con, at(1))] == [(2, 0.5)]
    assert sizes(con, at(0)) == ()
    assert [(c.change, c.effective_at) for c in person_history(con, "x")] == [("entered", at(1)), ("exited", at(2))]


# ---- the property: the tables are a function of the set of evaluations ----

PEOPLE = "pqrst"
SEGMENTS = [
    segment("alone"),
    segment("first", group="g", priority=1),
    segment("second", group="g", priority=2),
]


@dataclass
class World:
    """Evaluations by time, all consistent with one history of merges."""

    members: dict[int, dict[str, set[str]]]
    hashes: dict[int, str]
    merge_times: dict[tuple[str, str], int]
    order: list[int] = field(default_factory=list)

    def merges(self, hours: int) -> set[tuple[str, str]]:
        return {pair for pair, known in self.merge_times.items() if known <= hours}

    def survivor(self, person: str, hours: int) -> str | None:
        into = dict(self.merges(hours))
        if person not in into:
            return None
        while person in into:
            person = into[person]
        return person

    def resolved(self, hours: int) -> dict[str, set[str]]:
        """Who is where: merged ids are nobody, groups are exclusive."""
        gone = {a for a, _ in self.merges(hours)}
        who = {name: people - gone for name, people in self.members[hours].items()}
        who["second"] -= who["first"]
        return who


@st.composite
def worlds(draw: st.DrawFn) -> World:
    times = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True))
    groups = st.fixed_dictionaries({s.name: st.sets(st.sampled_from(PEOPLE)) for s in SEGMENTS})
    # An id can only merge into one that sorts before it, so there are no cycles.
    pairs = draw(
        st.lists(
            st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 12)), max_size=3, unique_by=lambda p: p[0]
        )
    )
    merge_times = {(PEOPLE[a], PEOPLE[b]): known for a, b, known in pairs if b < a}
    return World(
        members={t: draw(groups) for t in times},
        hashes={t: draw(st.sampled_from(["h1", "h2"])) for t in times},
        merge_times=merge_times,
        order=draw(st.permutations(times + draw(st.lists(st.sampled_from(times), max_size=3)))),
    )


def brute_force(world: World) -> list[tuple]:
    found = []
    times = sorted(world.members)
    for before, after in pairwise([None, *times]):
        was = world.resolved(before) if before is not None else {s.name: set() for s in SEGMENTS}
        now = world.resolved(after)
        for name in was:
            handed_over = {world.survivor(p, after) for p in was[name] - now[name]}
            for person in sorted(was[name] ^ now[name]):
                is_member = person in now[name]
                if is_member:
                    change = "merged" if person in handed_over else "entered"
                else:
                    change = "merged" if world.survivor(person, after) else "exited"
                found.append((name, person, to_warehouse(at(after)), change, is_member))
    return sorted(found)


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_evaluations_in_any_order_give_the_history_of_having_made_them_in_turn(world: World) -> None:
    def build(order: list[int]) -> list[list[tuple]]:
        connection = empty_lake()
        ensure_tables(connection)
        for hours in order:
            put(
                connection,
                hours,
                {name: people - {a for a, _ in world.merges(hours)} for name, people in world.members[hours].items()},
                [
                    Segment(**{**{f: getattr(s, f) for f in s.__slots__}, "definition_hash": world.hashes[hours]})
                    for s in SEGMENTS
                ],
                merges=world.merges(hours),
            )
        assert_exclusive(connection, {"first", "second"})
        assert [row[:5] for row in ledger(connection)] == brute_force(
            World({t: world.members[t] for t in order}, world.hashes, world.merge_times)
        )
        folded = connection.execute(
            "select segment, person_id, effective_at, next_at from (select *, lead(effective_at) over"
            " (partition by segment, person_id order by effective_at) as next_at from segments.transitions)"
            " where is_member order by all"
        ).fetchall()
        assert stays(connection) == folded
        tables = everything(connection)
        connection.close()
        return tables

    assert build(world.order) == build(sorted(world.members))
