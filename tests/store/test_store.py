"""What the serving store promises to the engine and to readers."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from segue.clock import system_time
from segue.settings import Settings
from segue.store import PersonState, StaleError, Store, Transition, Update, ValkeyError, open_store
from segue.valkey import connect

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def state(person: str, segments: tuple[str, ...] = (), identifiers: tuple[tuple[str, str], ...] = ()) -> PersonState:
    return PersonState(
        person_id=person,
        segments=dict.fromkeys(segments, NOON),
        features={"event_count": 3},
        identifiers=identifiers,
        as_of=NOON,
    )


def told(person: str, segment: str, change: Any = "entered", cause: str = "event") -> Transition:
    return Transition(
        transition_id=f"{person}-{segment}-{change}",
        person_id=person,
        segment=segment,
        change=change,
        effective_at=NOON,
        recorded_at=NOON,
        cause=cause,
        before=(),
        after=(segment,),
    )


def update(*people: PersonState, **more: Any) -> Update:
    return Update(**({"people": people, "merged": {}, "gone": (), "transitions": (), "as_of": NOON} | more))


def everything(settings: Settings) -> dict[bytes, bytes]:
    client = connect(settings)
    return {key: client.dump(key) for key in client.keys("*") if b"lease" not in key}


def ask(store: Store, identifier: str) -> tuple[str, dict[str, str]] | None:
    async def asked() -> Any:
        reader = store.reader()
        try:
            return await reader.segments_of(identifier)
        finally:
            await reader.client.aclose()

    found = asyncio.run(asked())
    return None if found is None else (found[0].decode(), json.loads(found[1]))


def start(store: Store) -> int:
    token = store.acquire("one", ttl_seconds=60)
    assert token is not None
    return token


def test_what_is_applied_is_read_by_every_identifier(store: Store) -> None:
    token = start(store)
    ada = state("p_1", ("power_users",), (("user_id", "ada"), ("anonymous_id", "x:y")))
    store.apply(update(ada, transitions=[told("p_1", "power_users")]), token=token, expected="", position="7")
    wanted = ("p_1", {"power_users": "2026-03-02T12:00:00.000000Z"})
    for identifier in ("p_1", "ada", "user_id:ada", "x:y", "anonymous_id:x:y"):
        assert ask(store, identifier) == wanted, identifier
    assert ask(store, "email:ada") is None
    assert ask(store, "bob") is None
    assert (store.position(), store.as_of()) == ("7", NOON)
    assert dict(store.memberships()) == {"p_1": {"power_users": NOON}}
    assert [t.transition for t in store.outbox.read("", limit=9)] == [told("p_1", "power_users")]


@pytest.mark.parametrize("wrong", ["token", "position"])
def test_a_writer_that_is_stale_changes_nothing(store: Store, settings: Settings, wrong: str) -> None:
    token = start(store)
    store.apply(update(state("p_1", ("a",))), token=token, expected="", position="1")
    before = everything(settings)
    with pytest.raises(StaleError):
        store.apply(
            update(state("p_1", ("b",)), transitions=[told("p_1", "b")], gone=["p_1"]),
            token=token - (wrong == "token"),
            expected="0" if wrong == "position" else "1",
            position="2",
        )
    assert everything(settings) == before


def test_of_two_engines_one_writes_and_the_other_takes_over(store: Store, settings: Settings) -> None:
    first = start(store)
    other = open_store(settings)
    assert other.acquire("two", ttl_seconds=60) is None
    assert store.renew(first)
    connect(settings).delete("segue:{store}:lease")  # it ran out
    assert store.renew(first), "nobody took it meanwhile"
    connect(settings).delete("segue:{store}:lease")
    second = other.acquire("two", ttl_seconds=60)
    assert second is not None
    assert second > first
    assert not store.renew(first)
    store.release(first)
    assert store.acquire("one", ttl_seconds=60) is None, "an old token must not release a lease of others"
    with pytest.raises(StaleError):
        store.apply(update(), token=first, expected="", position="1")
    other.apply(update(), token=second, expected="", position="1")


def test_an_update_that_comes_again_because_its_answer_was_lost_is_applied_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = start(store)
    change = update(state("p_1", ("a",)), transitions=[told("p_1", "a")])
    real = store._apply

    def lose(**words: Any) -> None:
        real(**words)
        raise redis.ConnectionError("reset by peer")

    for position in ("", "1"):  # one that leaves the position as it was, and one that moves it
        with monkeypatch.context() as patch:
            patch.setattr(store, "_apply", lose)
            with pytest.raises(ValkeyError):
                store.apply(change, token=token, expected="", position=position)
        store.apply(change, token=token, expected="", position=position)
        assert store.position() == position
        assert len(store.outbox.read("", limit=9)) == 1 + (position == "1")
        change = replace(change, people=[state("p_1", ("b",))])
    with pytest.raises(StaleError):
        store.apply(change, token=token, expected="", position="2")


def test_a_stale_engine_does_not_even_say_how_it_is(store: Store, settings: Settings) -> None:
    old = start(store)
    store.note({"waiting": 1}, token=old)
    connect(settings).delete("segue:{store}:lease")
    new = open_store(settings).acquire("two", ttl_seconds=60)
    assert new is not None
    store.note({"waiting": 2}, token=old)
    store.set_filled(token=old)
    assert store.status().engine == {"waiting": 1}
    assert not store.is_filled()
    store.set_filled(token=new)
    assert store.is_filled()


def test_the_outbox_knows_where_it_stood(store: Store) -> None:
    token = start(store)
    store.apply(update(transitions=[told("p_1", "a")]), token=token, expected="", position="1")
    time.sleep(0.01)
    moment = system_time()
    time.sleep(0.01)
    store.apply(update(transitions=[told("p_2", "a")]), token=token, expected="1", position="2")
    after = store.outbox.at(moment)
    assert [row.transition.person_id for row in store.outbox.read(after, limit=9)] == ["p_2"]
    assert store.outbox.at(moment + timedelta(days=1)) == store.outbox.newest(), "whatever a clock says"


def test_a_merged_id_leads_to_the_one_it_became_for_ever(store: Store) -> None:
    token = start(store)
    store.apply(
        update(state("p_1", ("a",), (("user_id", "u"),)), state("p_2", ("b",), (("anonymous_id", "v"),))),
        token=token,
        expected="",
        position="1",
    )
    both = state("p_1", ("a",), (("user_id", "u"), ("anonymous_id", "v")))
    store.apply(update(both, merged={"p_2": "p_1"}), token=token, expected="1", position="2")
    store.apply(
        update(state("p_0", ("a",), both.identifiers), merged={"p_1": "p_0"}), token=token, expected="2", position="3"
    )
    for identifier in ("p_0", "p_1", "p_2", "u", "v"):
        found = ask(store, identifier)
        assert found is not None, identifier
        assert found[0] == "p_0", identifier


def test_a_first_fill_tells_nobody(store: Store) -> None:
    store.apply(
        update(state("p_1", ("a",)), transitions=[told("p_1", "a", cause="load")]),
        token=start(store),
        expected="",
        position="",
    )
    assert store.outbox.read("", limit=9) == []


def test_the_outbox_keeps_what_a_reader_has_not_passed(store: Store) -> None:
    token = start(store)
    changes = [told(f"p_{n}", "a") for n in range(5)]
    store.apply(update(transitions=changes), token=token, expected="", position="1")
    store.outbox.commit("webhooks", "")
    assert store.outbox.trim(kept_seconds=-10) == 0
    rows = store.outbox.read("", limit=3)
    store.outbox.commit("webhooks", rows[-1].position)
    store.outbox.commit("webhooks", rows[0].position)  # never back
    assert store.outbox.trim() == 0, "younger than a day"
    assert store.outbox.trim(kept_seconds=-10) == 3
    assert [t.transition for t in store.outbox.read("", limit=9)] == changes[3:]


PEOPLE = st.sampled_from(["p_1", "p_2", "p_3", "p_4"])
STEPS = st.lists(
    st.tuples(
        st.dictionaries(PEOPLE, st.sets(st.sampled_from("abc")), max_size=4), st.sets(PEOPLE, max_size=1), st.booleans()
    ),
    max_size=6,
)


@given(STEPS)
@hypothesis_settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_members_counts_and_people_always_agree(settings: Settings, steps: Any) -> None:
    connect(settings).flushall()
    store, wanted = open_store(settings), {}
    token, position = start(store), ""
    for number, (people, leaving, is_merge) in enumerate(steps):
        gone = leaving - set(people)
        into = next(iter(people), None)
        merged = dict.fromkeys(gone, into) if is_merge and into else {}
        states = [state(p, tuple(names), (("user_id", f"u{p}"),)) for p, names in people.items()]
        changed = Update(
            people=states,
            merged=merged,
            gone=[] if merged else list(gone),
            transitions=(),
            as_of=NOON + timedelta(seconds=number),
        )
        store.apply(changed, token=token, expected=position, position=str(number))
        position = str(number)
        wanted = {p: names for p, names in (wanted | people).items() if p not in gone}
    assert {p: set(names) for p, names in store.memberships()} == wanted

    async def read() -> tuple[dict[str, list[str]], dict[str, int]]:
        reader = store.reader()
        members = {name: await reader.members(name) for name in "abc"}
        counts = await reader.segment_counts()
        await reader.client.aclose()
        return members, counts

    members, counts = asyncio.run(read())
    assert members == {name: sorted(p for p, names in wanted.items() if name in names) for name in "abc"}
    assert {name: counts.get(name, 0) for name in "abc"} == {name: len(found) for name, found in members.items()}
