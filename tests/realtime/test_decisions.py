"""What a split would change further on, before it is done; and that late identification changes the days before."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from segue.identity import impact, plan_split, stitcher
from segue.identity.graph import person_id_of
from segue.models import Evaluator, Project
from segue.models.check import empty_lake
from tests.realtime.test_engine import track
from tests.realtime.world import START, raw_events

DAY = timedelta(days=1)
STREAM = [
    track(0, START, anonymous_id="laptop", type="page", event=None),
    track(1, START + timedelta(minutes=1), anonymous_id="laptop", event="Premium Feature Used"),
    track(2, START + timedelta(minutes=2), user_id="ann", anonymous_id="phone", event="Signed In"),
    track(3, START + DAY, user_id="ann", anonymous_id="laptop", event="Signed Up"),
]


def evaluator(project: Project, stream: Sequence[dict[str, Any]] = STREAM) -> Evaluator:
    lake = empty_lake()
    lake.execute("create schema raw")
    lake.register("arriving", raw_events(stream))
    lake.execute("create table raw.events as from arriving")
    targets = [*(m.name for m in project.segments), "sessions", "daily", "stg_links"]
    return Evaluator(project, lake, until=START + 3 * DAY, stitch=stitcher(project.rules, []), targets=targets)


def test_signing_up_moves_the_sessions_of_the_day_before(hard_project: Project) -> None:
    with evaluator(hard_project) as everyone:
        sessions = "select person_id, count(*) from marts.sessions where started_at < $1 group by 1 order by 1"
        bound = [(START + timedelta(hours=1)).replace(tzinfo=None)]
        before = everyone.at(START + timedelta(hours=1)).con.execute(sessions, bound).fetchall()
        after = everyone.at(START + 2 * DAY).con.execute(sessions, bound).fetchall()
    laptop, phone = person_id_of("anonymous_id", "laptop"), person_id_of("anonymous_id", "phone")
    assert sorted(before) == sorted([(laptop, 1), (phone, 1)])
    assert after == [(laptop, 1)]  # one person, whose two visits were one


def test_a_dry_run_says_which_memberships_and_kpis_would_change(hard_project: Project) -> None:
    as_of = START + 2 * DAY
    with evaluator(hard_project) as everyone:
        con = everyone.at(as_of).con
        plan = plan_split(con, "ann", as_of=as_of, rules=hard_project.rules)
        found = impact(con, hard_project, plan, as_of=as_of)
    laptop, phone = person_id_of("anonymous_id", "laptop"), person_id_of("anonymous_id", "phone")
    assert set(plan.after) == {laptop, phone}
    assert (laptop, "two_browsers", "leaves") in found.memberships
    assert {person for person, *_ in found.memberships} <= {laptop, phone}
    active = [k for k in found.kpis if k[0] == "active_people" and k[1] == "all" and k[2] == START.date()]
    assert [k[3] for k in active] == [1.0]


def test_a_dry_run_knows_a_person_by_any_kind_of_identifier(hard_project: Project) -> None:
    """A person is called by the identifier that was heard of first: here by a telephone number, before anybody's."""
    number = {"type": "identify", "event": None, "traits": {"phone": "+12015550123"}}
    stream = [
        track(4, START - DAY, user_id="undefined", **number),
        *STREAM,
        track(5, START + DAY, user_id="ann", anonymous_id="laptop", **number),
    ]
    as_of = START + 2 * DAY
    with evaluator(hard_project, stream) as everyone:
        con = everyone.at(as_of).con
        plan = plan_split(con, "ann", as_of=as_of, edges=["user_id:ann anonymous_id:laptop"], rules=hard_project.rules)
        found = impact(con, hard_project, plan, as_of=as_of)
    assert set(plan.before) == {person_id_of("phone", "+12015550123")}
    assert {person for person, *_ in found.memberships} <= plan.before.keys() | plan.after.keys()
    assert found.memberships
