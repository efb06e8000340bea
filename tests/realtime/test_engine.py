"""What the engine does with merges, waiting links, late clocks, bots and new definitions."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from segue.identity.graph import person_id_of
from segue.models import Project
from segue.realtime import engine as engine_module
from segue.realtime.engine import Engine
from tests.realtime.world import START, Remembered, Truth, pass_time, raw_events

HORIZON = 4 * 3600


def track(number: int, received: datetime, **fields: Any) -> dict[str, Any]:
    row = {"message_id": f"m{number}", "type": "track", "event": "Product Viewed", "timestamp": received}
    return row | {"received_at": received, "load_id": number + 1} | fields


def test_a_merge_is_told_as_the_history_of_segments_tells_it(hard_project: Project) -> None:
    moments = [START + timedelta(seconds=n) for n in range(5)]
    batches = [
        [track(0, moments[0], anonymous_id="a1"), track(1, moments[0], user_id="u1", event="Premium Feature Used")],
        [track(2, moments[1], anonymous_id="a1", type="page", event=None)],
        [track(3, moments[2], anonymous_id="a1", user_id="u1", type="identify", event=None)],
        [track(4, moments[3], user_id="u2"), track(5, moments[3], anonymous_id="a2")],
        [track(6, moments[4], user_id="u2", previous_id="u1", type="alias", event=None)],
    ]
    tables = [raw_events(batch) for batch in batches]
    truth = Truth(hard_project, pa.concat_tables(tables), until=moments[-1])
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    for moment, table in zip(moments, tables, strict=True):
        store.apply(engine.batch(table, moment))
        assert engine.memberships() == truth.at(moment)
    told = {(t.transition_id, t.person_id, t.segment, t.change) for t in store.told}
    assert told == truth.transitions(set(engine.rules.served))
    assert {t.change for t in store.told} == {"entered", "exited", "merged"}
    assert store.survivor(person_id_of("anonymous_id", "a1")) in store.people
    truth.close()


def test_a_known_devices_link_is_followed_an_hour_later_with_nothing_arriving(hard_project: Project) -> None:
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    device = {"context": {"device": {"id": "d1"}}}
    store.apply(engine.batch(raw_events([track(0, START, anonymous_id="a1", **device)]), START))
    later = START + timedelta(minutes=5)
    store.apply(engine.batch(raw_events([track(1, later, anonymous_id="a2", **device)]), later))
    assert len(store.memberships()) == 2
    pass_time(engine, store, later + timedelta(minutes=59, seconds=59))
    assert len(store.memberships()) == 2
    pass_time(engine, store, later + timedelta(hours=1))
    assert len(store.memberships()) == 1
    assert store.into == {person_id_of("anonymous_id", "a2"): person_id_of("anonymous_id", "a1")}


def test_a_rule_of_time_is_found_at_its_second(hard_project: Project) -> None:
    engine, store = Engine(hard_project, horizon_seconds=300), Remembered()
    seen = START + timedelta(milliseconds=250)
    store.apply(engine.batch(raw_events([track(0, seen, user_id="u1")]), seen))
    pass_time(engine, store, START + timedelta(hours=18, seconds=1))
    today = [t for t in store.told if t.segment == "seen_today"]
    assert [(t.change, t.effective_at) for t in today] == [
        ("entered", seen),
        ("exited", START + timedelta(hours=18)),  # midnight
    ]
    assert engine.caught_by_sweep == 0


def test_a_message_from_the_future_counts_when_its_time_has_come(hard_project: Project) -> None:
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    ahead = START + timedelta(minutes=10)
    store.apply(engine.batch(raw_events([track(0, ahead, user_id="u1")]), START))
    assert store.memberships() == {}
    pass_time(engine, store, ahead - timedelta(seconds=1))
    assert store.memberships() == {}
    pass_time(engine, store, ahead)
    assert len(store.memberships()) == 1


def test_somebody_with_very_many_events_holds_up_nobody(hard_project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "BIG", 20)
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    bot = [track(n, START, user_id="bot") for n in range(30)]
    store.apply(engine.batch(raw_events([*bot, track(99, START, user_id="u1")]), START))
    assert set(store.memberships()) == {person_id_of("user_id", "u1")}
    update = engine.big(START)
    assert update is not None
    store.apply(update)
    assert set(store.memberships()) == {person_id_of("user_id", "u1"), person_id_of("user_id", "bot")}
    assert engine.big(START) is None


def test_somebody_with_very_many_events_changes_for_the_same_reason_as_anybody(
    hard_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "BIG", 20)
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    engine.absorb(raw_events([track(n, START, user_id="bot") for n in range(30)]), START)
    engine.start_pass("load")
    while (update := engine.pass_step(START)) is not None:
        store.apply(update)
    # Nobody is told of those who were found; that includes them.
    assert {t.cause for t in store.told} == {"load"}
    assert set(store.memberships()) == {person_id_of("user_id", "bot")}
    assert not engine.has_big
    pass_time(engine, store, START + timedelta(hours=18, seconds=1))
    assert {t.cause for t in store.told if t.change == "exited"} == {"time"}


def test_what_is_no_identifier_joins_nobody_and_holds_up_nobody(hard_project: Project) -> None:
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    odd = [track(n, START, anonymous_id=f"a{n}", user_id=user) for n, user in enumerate(("null", "NULL", "Undefined"))]
    long = [track(10 + n, START, anonymous_id=f"b{n}", user_id="x" * 10_000_000) for n in range(2)]
    mails = [
        track(20 + n, START, anonymous_id=f"c{n}", type="identify", event=None, traits={"email": "test@shop.example"})
        for n in range(2)
    ]
    store.apply(engine.batch(raw_events([*odd, *long, *mails, track(99, START, user_id="u1")]), START))
    names = [("anonymous_id", f"{kind}{n}") for kind, count in (("a", 3), ("b", 2)) for n in range(count)]
    assert set(store.memberships()) == {person_id_of(*name) for name in names} | {person_id_of("user_id", "u1")}


@pytest.mark.parametrize("is_first", [True, False], ids=["before the others", "after the others"])
def test_whom_half_a_batch_has_brought_is_told_of_once(hard_project: Project, is_first: bool) -> None:
    dead, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    batch = raw_events([track(n, START, user_id=f"u{n}") for n in range(3)])
    dead.collect(batch, START)
    half, is_last = next(dead.settle(START, rows=1))
    assert not is_last
    store.apply(half)
    before = len(store.told)
    assert before

    engine = Engine(hard_project, horizon_seconds=HORIZON)
    engine.restore(store.people.items())
    engine.start_pass("time", all_people=False)
    if not is_first:
        update = engine.pass_step(START, has_caught_up=False)
        assert update is None or not update.transitions
        assert engine.is_passing, "somebody's events may be on their way"
    store.apply(engine.batch(batch, START))
    while (update := engine.pass_step(START)) is not None:
        store.apply(update)
    assert not engine.is_passing
    assert all(t.change == "entered" and t.cause == "event" for t in store.told)
    assert len(store.people) == 3
    assert engine.memberships() == store.memberships()


def test_who_is_nobodys_leaves_when_all_has_come(hard_project: Project) -> None:
    store = Remembered()
    store.apply(Engine(hard_project, horizon_seconds=HORIZON).batch(raw_events([track(0, START, user_id="u0")]), START))
    engine = Engine(hard_project, horizon_seconds=HORIZON)
    engine.restore(store.people.items())
    engine.start_pass("time", all_people=False)
    assert engine.pass_step(START, has_caught_up=False) is None
    update = engine.pass_step(START)
    assert update is not None
    store.apply(update)
    assert store.memberships() == {}


def test_a_new_definition_is_filled_in_for_everyone(hard_project: Project) -> None:
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    store.apply(engine.batch(raw_events([track(n, START, user_id=f"u{n}") for n in range(50)]), START))
    gone = replace(hard_project, models=tuple(m for m in hard_project.models if m.name != "awake_now"))
    moment = START + timedelta(seconds=1)
    assert engine.redefine(gone, held=lambda _relation: None)
    assert "awake_now" not in engine.rules.served
    inner = hard_project.by_name["seen_today"]
    everyone = replace(inner, compiled_sql='select person_id from "lake"."marts"."person_features"')
    changed = replace(gone, models=tuple(everyone if m.name == "seen_today" else m for m in gone.models))
    later = START + timedelta(days=1)
    pass_time(engine, store, later)
    assert all("seen_today" not in names for names in store.memberships().values())
    assert engine.redefine(changed, held=lambda _relation: None)
    engine.start_pass("definition")
    moment = later
    while (update := engine.pass_step(moment, rows=100)) is not None:
        store.apply(update)
    assert sum("seen_today" in names for names in store.memberships().values()) == 50
    assert {t.cause for t in store.told if t.effective_at == later and t.segment == "seen_today"} == {"definition"}


def test_a_definition_that_needs_other_columns_asks_for_the_history_anew(hard_project: Project) -> None:
    engine = Engine(hard_project, horizon_seconds=HORIZON)
    inner = hard_project.by_name["seen_today"]
    sql = 'select distinct person_id from "lake"."intermediate"."int_events" where source = \'shop\''
    changed = replace(
        hard_project,
        models=tuple(replace(inner, compiled_sql=sql) if m.name == inner.name else m for m in hard_project.models),
    )
    assert not engine.redefine(changed, held=lambda _relation: None)
    assert engine.project is hard_project


def test_the_clock_never_goes_back(hard_project: Project) -> None:
    engine = Engine(hard_project, horizon_seconds=HORIZON)
    engine.batch(raw_events([track(0, START, user_id="u1")]), START)
    with pytest.raises(ValueError, match="went back"):
        engine.batch(raw_events([]), START - timedelta(seconds=1))


def test_a_segment_that_fails_on_somebodys_data_keeps_its_people_and_harms_no_other(hard_project: Project) -> None:
    inner = hard_project.by_name["seen_today"]
    sql = (
        'select person_id from "lake"."intermediate"."int_events" where person_id is not null'
        " group by person_id having min(cast(coalesce(json_extract_string(properties, '$.size'), '1') as integer)) > 0"
    )
    models = (replace(inner, compiled_sql=sql) if m.name == inner.name else m for m in hard_project.models)
    engine, store = Engine(replace(hard_project, models=tuple(models)), horizon_seconds=HORIZON), Remembered()
    store.apply(engine.batch(raw_events([track(0, START, user_id="u1")]), START))
    assert "seen_today" in store.memberships()[person_id_of("user_id", "u1")]
    moment = START + timedelta(seconds=1)
    odd = track(1, moment, user_id="u2", properties={"size": "large"})
    store.apply(engine.batch(raw_events([odd, track(2, moment, user_id="u1")]), moment))
    members = store.memberships()
    assert "seen_today" in members[person_id_of("user_id", "u1")]
    assert "seen_today" not in members[person_id_of("user_id", "u2")]
    assert "active_last_24h" in members[person_id_of("user_id", "u2")]
    assert "seen_today" in engine.rules.left_out


def test_bad_input_a_segment_that_does_not_end_on_somebodys_data_keeps_its_people_and_harms_no_other(
    hard_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = hard_project.by_name["seen_today"]
    sql = (
        "with recursive turns as ("
        'select person_id, 1 as turn from "lake"."intermediate"."int_events" where user_id = \'endless\''
        " union all select person_id, turn + 1 from turns"
        ') select distinct person_id from turns union select person_id from "lake"."intermediate"."int_events"'
    )
    models = (replace(inner, compiled_sql=sql) if m.name == inner.name else m for m in hard_project.models)
    engine, store = Engine(replace(hard_project, models=tuple(models)), horizon_seconds=HORIZON), Remembered()
    store.apply(engine.batch(raw_events([track(0, START, user_id="u1")]), START))
    monkeypatch.setattr("segue.realtime.sql._SECONDS", 0.5)
    moment = START + timedelta(seconds=1)
    store.apply(engine.batch(raw_events([track(1, moment, user_id="endless"), track(2, moment, user_id="u1")]), moment))
    members = store.memberships()
    assert "seen_today" in members[person_id_of("user_id", "u1")]
    assert "active_last_24h" in members[person_id_of("user_id", "endless")]
    assert "seen_today" in engine.rules.left_out


def test_an_answer_about_the_future_is_void_when_the_rules_or_the_people_are_others_meanwhile(
    hard_project: Project,
) -> None:
    engine = Engine(hard_project, horizon_seconds=HORIZON)
    engine.batch(raw_events([track(n, START, user_id=f"u{n}") for n in range(3)]), START)

    look = engine.begin_look(START, limit=10)
    assert look is not None
    answer = look.run()
    engine._verdicts.without_failing(look.rows, look.identifiers, look.moment)  # its bits may mean other segments now
    engine.end_look(look, answer)
    again = engine.begin_look(START, limit=10)
    assert again is not None
    assert again.question == look.question, "asked anew, as if nobody had answered"

    later = START + timedelta(seconds=1)
    engine.batch(raw_events([track(9, later, user_id="u1")]), later)
    engine.end_look(again, again.run())
    left = engine.begin_look(later, limit=10)
    assert left is not None
    assert len(left.question.components) == 1, "only whom an event has touched since"
    assert left.question.moment == look.question.moment, "about all that is ahead, not about where it changes"
