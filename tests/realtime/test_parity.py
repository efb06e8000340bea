"""The engine at a time says what the same models say when they are run for everyone as of that time."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segue.clock import to_warehouse
from segue.models import Project
from segue.realtime.engine import Engine
from segue.realtime.events import Seen
from tests.realtime.world import START, Remembered, Truth, pass_time, raw_events

NAMES = ("Signed In", "Onboarding Completed", "Product Viewed", "Premium Feature Used", "Order Completed")
#: Of one person in one segment, one change a moment: that is what its id is made of.
TICK = timedelta(microseconds=1)
HORIZON = 4 * 3600

few = st.integers(0, 3)


@st.composite
def message(draw: st.DrawFn) -> dict[str, Any]:
    """One message; times in milliseconds before it is received."""
    kind = draw(st.sampled_from(("track", "track", "track", "page", "identify", "alias")))
    user = draw(st.one_of(st.none(), few)) if kind != "alias" else draw(few)
    anonymous = draw(few) if user is None else draw(st.one_of(st.none(), few))
    previous = draw(st.sampled_from(("a0", "a1", "u0", "u1", "u2"))) if kind == "alias" else None
    return {
        "number": draw(st.integers(0, 60)),  # the same number is the same message again
        "type": kind,
        "event": draw(st.sampled_from(NAMES)) if kind == "track" else None,
        # Of the ids, one is blocked: it belongs to nobody and joins nobody.
        "user_id": None if user is None else draw(st.sampled_from((f"u{user}", f"u{user}", f"u{user}", "null"))),
        "anonymous_id": None if anonymous is None else f"a{anonymous}",
        "previous_id": previous,
        "device": draw(st.sampled_from((None, None, "d0", "d1"))),
        "email": draw(st.sampled_from((None, None, None, "x@example.com", "test@example.com"))),
        "phone": draw(st.sampled_from((None, None, None, "(201) 555-0123", "+12015550123"))),
        "loyalty": draw(st.sampled_from((None, None, None, "card 1"))),
        "plan": draw(st.sampled_from((None, None, "gold"))),
        "consent": draw(st.sampled_from((None, None, None, False))),
        "late": draw(st.sampled_from((0, 0, 0, 1_500, 3_600_000, 26 * 3_600_000, 80 * 3_600_000))),
    }


step = st.fixed_dictionaries(
    {
        "wait": st.sampled_from((0, 0, 1, 7, 1_800, 5_000, 30_000, 90_000)),  # seconds
        "messages": st.lists(message(), max_size=6),
        "is_checked": st.booleans(),
        "restarts": st.sampled_from((False, False, False, True)),
        "splits": st.booleans(),
        "collects": st.booleans(),
        "decision": st.sampled_from(
            (
                None,
                None,
                ("split", "anonymous_id", "a0", "user_id", "u0", "same_message"),
                ("split", "device_id", "d0", "anonymous_id", "a1", "device"),
                ("merge", "user_id", "u1", "user_id", "u2", "merge"),
                ("split", "user_id", "u1", "user_id", "u2", "merge"),
                ("merge", "anonymous_id", "a2", "anonymous_id", "a3", "merge"),
            )
        ),
    }
)


def _raw(step_number: int, moment: Any, made: list[dict[str, Any]]) -> Any:
    rows = []
    for at, m in enumerate(made):
        # Some were received a moment before the batch, out of order, some at the very same instant.
        received = moment - timedelta(milliseconds=(m["number"] * 37) % 900 if m["number"] % 3 else 0)
        context: dict[str, Any] = {"device": {"id": m["device"]}} if m["device"] else {}
        if m.get("loyalty"):
            context["externalIds"] = [{"type": "Loyalty", "id": m["loyalty"], "encoding": "none"}]
        if m["consent"] is not None:
            context["consent"] = {"categoryPreferences": {"analytics": m["consent"]}}
        rows.append(
            {
                "message_id": f"m{m['number']}",
                "type": m["type"],
                "event": m["event"],
                "user_id": m["user_id"],
                "anonymous_id": m["anonymous_id"],
                "previous_id": m["previous_id"],
                "timestamp": received - timedelta(milliseconds=m["late"]),
                "received_at": received,
                "traits": {name: m[name] for name in ("email", "phone") if m.get(name)},
                "properties": {"plan": m["plan"]} if m["plan"] else {},
                "context": context,
                "load_id": step_number * 100 + at + 1,
            }
        )
    return raw_events(rows)


@settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
@given(steps=st.lists(step, min_size=1, max_size=8))
def test_the_engine_says_what_the_warehouse_says(hard_project: Project, steps: list[dict[str, Any]]) -> None:
    check_parity(hard_project, steps)


def check_parity(project: Project, steps: list[dict[str, Any]]) -> None:
    moment, tables, moments = START, [], []
    for number, one in enumerate(steps):
        moment += timedelta(seconds=one["wait"] + 2)
        moments.append(moment)
        tables.append(_raw(number, moment, one["messages"]))
    everything = pa.concat_tables(tables)
    truth = Truth(project, everything, until=moment + timedelta(days=1))
    engine, store = Engine(project, horizon_seconds=HORIZON), Remembered()
    decisions: list[dict[str, Any]] = []
    try:
        for number, (one, moment) in enumerate(zip(steps, moments, strict=True)):
            pass_time(engine, store, moment - timedelta(seconds=1))
            if one["decision"]:
                decided_at = moment - timedelta(seconds=1) + TICK
                decisions.append(_decision(number, decided_at, one["decision"]))
                truth.decide(decisions)
                store.apply(engine.decide(decisions, decided_at))
            if one["restarts"]:
                engine = _restarted(
                    project, pa.concat_tables(tables[:number] or [tables[0].slice(0, 0)]), store, moment, decisions
                )
            raw = tables[number]
            parts = [raw.slice(0, 2), raw.slice(1)] if one["splits"] else [raw]  # the second again: a duplicate
            for part in parts:
                moment += TICK
                if one["collects"]:
                    engine.collect(part, moment)
                else:
                    store.apply(engine.batch(part, moment))
            moment += TICK
            if one["collects"]:
                for update, _is_last in engine.settle(moment, rows=15):
                    store.apply(update)
            moment += TICK
            if one["restarts"]:
                # After the batch: what was not applied before the crash comes first.
                engine.start_pass("time")
                while (update := engine.pass_step(moment, rows=200)) is not None:
                    store.apply(update)
            moment += TICK
            pass_time(engine, store, moment)
            if one["is_checked"] or number == len(steps) - 1:
                expected = truth.at(moment)
                assert engine.memberships() == expected
                assert store.memberships() == expected
    finally:
        truth.close()


def _decision(number: int, moment: Any, said: tuple[str, ...]) -> dict[str, Any]:
    names = ("kind", "left_type", "left_value", "right_type", "right_value", "rule")
    return dict(zip(names, said, strict=True)) | {
        "decision_id": f"d{number}",
        "decided_at": to_warehouse(moment),
        "decided_by": "somebody",
        "person_id": "",
        "note": "",
    }


def _restarted(project: Project, raw: Any, store: Remembered, moment: Any, decisions: list[dict[str, Any]]) -> Engine:
    """A new engine with the history of an old one, duplicates and all, and what the store remembers."""
    engine = Engine(project, horizon_seconds=HORIZON)
    known = Seen().new(raw)
    engine.load(
        engine.facts.staging.stage(known, moment), known["message_hash"].combine_chunks(), moment, decisions=decisions
    )
    engine.restore(store.people.items())
    return engine
