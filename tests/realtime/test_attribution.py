"""Whose a visit is: late identification changes the days concerned and no others, and a shared browser belongs to who
is signed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa

from segue.identity import stitcher
from segue.identity.graph import person_id_of
from segue.models import Evaluator, Project
from segue.models.check import empty_lake
from segue.realtime.engine import Engine
from segue.warehouse import Connection
from tests.realtime.test_engine import HORIZON, track
from tests.realtime.world import START, Remembered, Truth, pass_time, raw_events

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
#: START is a Monday.
SUNDAY, MONDAY, TUESDAY, WEDNESDAY = (START + n * DAY for n in (-1, 0, 1, 2))
ANN, LAPTOP = person_id_of("anonymous_id", "phone"), person_id_of("anonymous_id", "laptop")

VISITS = [
    track(0, SUNDAY, anonymous_id="phone", user_id="ann", event="Signed Up"),
    track(1, MONDAY, anonymous_id="phone", user_id="ann"),
    track(2, MONDAY + 10 * MINUTE, anonymous_id="laptop", type="page", event=None),
    track(3, MONDAY + 20 * MINUTE, anonymous_id="laptop", event="Premium Feature Used"),
    track(4, MONDAY + 5 * HOUR, anonymous_id="laptop", event="Order Completed", properties={"revenue": 30}),
    track(5, SUNDAY, anonymous_id="b9", type="page", event=None),
    *(
        track(10 + 10 * n + m, day + n * HOUR, anonymous_id=f"b{n}", user_id=f"u{n}")
        for n in range(3)
        for m, day in enumerate((SUNDAY, MONDAY, TUESDAY, WEDNESDAY))
    ),
]
#: No behaviour by itself: all that changes is who the laptop is.
SIGNED_IN = track(99, TUESDAY + HOUR, anonymous_id="laptop", user_id="ann", type="identify", event=None)


@contextmanager
def evaluated(project: Project, messages: list[dict[str, Any]], as_of: datetime) -> Iterator[Connection]:
    lake = empty_lake()
    lake.execute("create schema raw")
    lake.register("arriving", raw_events(messages))
    lake.execute("create table raw.events as from arriving")
    targets = [*(m.name for m in project.segments), "sessions", "person_features", "daily", "stg_links"]
    with Evaluator(project, lake, until=as_of, stitch=stitcher(project.rules, []), targets=targets) as everyone:
        yield everyone.at(as_of).con
    lake.close()


def contents(project: Project, messages: list[dict[str, Any]], as_of: datetime) -> dict[str, set[tuple[Any, ...]]]:
    """Sessions, features and memberships by person, KPIs by day."""
    with evaluated(project, messages, as_of) as con:
        members = " union all ".join(f"select person_id, '{m.name}' from {m.quoted}" for m in project.segments)
        queries = {
            "sessions": "select person_id, * exclude (person_id, session_id) from marts.sessions",
            "features": "select person_id, * exclude (person_id) from marts.person_features",
            "memberships": members,
            "kpis": "select date, kpi, slice, value, numerator, denominator from kpis.daily",
        }
        return {name: set(con.execute(query).fetchall()) for name, query in queries.items()}


def test_signing_in_on_tuesday_changes_mondays_visits_and_nobody_elses(hard_project: Project) -> None:
    as_of = WEDNESDAY + 6 * HOUR
    before, after = (contents(hard_project, stream, as_of) for stream in (VISITS, [*VISITS, SIGNED_IN]))
    gone, come = ({name: before[name] - after[name] for name in before}, {n: after[n] - before[n] for n in after})
    # The laptop's first visit goes on ann's; the second is hers alone. Sunday's stays as it was.
    started = lambda rows: sorted((person, at) for person, at, *_ in rows)  # noqa: E731
    monday = MONDAY.replace(tzinfo=None)
    assert started(gone["sessions"]) == sorted(
        [(ANN, monday), (LAPTOP, monday + 10 * MINUTE), (LAPTOP, monday + 5 * HOUR)]
    )
    assert started(come["sessions"]) == [(ANN, monday), (ANN, monday + 5 * HOUR)]
    assert {row[0] for row in gone["features"]} == {ANN, LAPTOP}
    assert {row[0] for row in come["features"]} == {ANN}
    assert {row[0] for row in gone["memberships"]} == {ANN, LAPTOP}
    assert (ANN, "two_browsers") in come["memberships"]
    assert {row[0] for row in come["memberships"]} == {ANN}
    changed: dict[str, set[date]] = {}
    for day, kpi, *_ in gone["kpis"] ^ come["kpis"]:
        changed.setdefault(kpi, set()).add(day)
    assert {"active_people", "sessions", "conversion"} <= changed.keys()
    assert set().union(*changed.values()) == {MONDAY.date()}


def test_the_engine_says_it_each_day_as_if_all_were_built_anew(hard_project: Project) -> None:
    stream = sorted([*VISITS, SIGNED_IN], key=lambda m: m["received_at"])
    days = [[m for m in stream if start <= m["received_at"] < start + DAY] for start in (SUNDAY, MONDAY, TUESDAY)]
    tables = [raw_events(day) for day in days]
    truth = Truth(hard_project, pa.concat_tables(tables), until=WEDNESDAY)
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    for number, table in enumerate(tables):
        moment = SUNDAY + number * DAY + 6 * HOUR
        pass_time(engine, store, moment - timedelta(seconds=1))
        store.apply(engine.batch(table, moment))
        assert engine.memberships() == store.memberships() == truth.at(moment)
        assert (LAPTOP in engine.memberships()) == (number == 1)
    assert store.survivor(LAPTOP) == ANN
    truth.close()


def test_a_visit_on_a_shared_browser_is_of_who_is_signed_in(hard_project: Project) -> None:
    """In turns on one browser, and on one device whose browsers are new each time."""
    at_home = [
        track(0, MONDAY, anonymous_id="kitchen", user_id="ann"),
        track(1, MONDAY + HOUR, anonymous_id="kitchen", user_id="bob"),
        track(2, MONDAY + HOUR + MINUTE, anonymous_id="kitchen", user_id="bob"),
        track(3, MONDAY + 2 * HOUR, anonymous_id="kitchen", user_id="ann"),
        track(4, MONDAY + 3 * HOUR, anonymous_id="kitchen"),  # nobody is: the browser is ann's, who was first
    ]
    tablet = {"context": {"device": {"id": "tablet"}}}
    on_the_way = [
        track(5, MONDAY, anonymous_id="t1", user_id="eve", **tablet),
        track(6, MONDAY + HOUR, anonymous_id="t2", user_id="dan", **tablet),
        track(7, MONDAY + 2 * HOUR, anonymous_id="t1", user_id="eve", **tablet),
        track(8, MONDAY + 3 * HOUR, anonymous_id="t3", **tablet),  # whose it is, the device does not tell
    ]
    with evaluated(hard_project, [*at_home, *on_the_way], MONDAY + 6 * HOUR) as con:
        rows = con.execute("select person_id, started_at, event_count from marts.sessions").fetchall()
    hours: dict[str, list[tuple[int, int]]] = {}
    for person, at, count in rows:
        hours.setdefault(person, []).append(((at - MONDAY.replace(tzinfo=None)) // HOUR, count))
    ann, bob = person_id_of("anonymous_id", "kitchen"), person_id_of("user_id", "bob")
    eve, dan, nobody = (person_id_of("anonymous_id", name) for name in ("t1", "t2", "t3"))
    assert {person: sorted(visits) for person, visits in hours.items()} == {
        ann: [(0, 1), (2, 1), (3, 1)],
        bob: [(1, 2)],
        eve: [(0, 1), (2, 1)],
        dan: [(1, 1)],
        nobody: [(3, 1)],
    }
