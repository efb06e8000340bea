"""Growing day by day gives the same tables as building anew, whatever comes late, twice, or changes who is who."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

START = datetime(2026, 1, 1)
#: Times are multiples of this, so that ties, and silences of exactly the length that ends a session, are common.
STEP = timedelta(minutes=10)
EVENTS = ["Signed Up", "Signed In", "Onboarding Completed", "Premium Feature Used", "Product Viewed", "Order Completed"]

#: What the tables are made for; segments and KPIs follow from them without a memory of their own.
MODELS = ("--select", "+person_features", "activity", "retention")


def moment(days: float) -> datetime:
    return (START + timedelta(days=days)).replace(tzinfo=UTC)


def stream(message_type: Any, seed: int, people: int) -> Iterator[Any]:
    """Messages of people with several browsers and devices, some of which turn out to be one person only later."""
    random_ = random.Random(seed)
    number = 0
    for person in range(people):
        browsers = [f"a{person}-{i}" for i in range(random_.randint(1, 3))]
        device = f"d{person // 2}" if random_.random() < 0.4 else None  # shared with the neighbour
        known_from = {browser: random_.choice([0, 2, 5, 8, 99]) for browser in browsers}
        at = START + STEP * random_.randint(0, 6 * 24)
        while at < START + timedelta(days=9):
            browser = random_.choice(browsers)
            day = (at - START).days
            delay = random_.choice([timedelta(0)] * 8 + [STEP, timedelta(hours=30), timedelta(days=4)])
            # A clock that runs ahead: it says that the event is yet to come.
            ahead = timedelta(hours=2) if random_.random() < 0.03 else timedelta(0)
            kind = random_.choice(["page", "track", "track", "track", "identify"])
            for _ in range(2 if random_.random() < 0.1 else 1):  # sent twice, under two ids
                number += 1
                yield message_type(
                    message_id=f"m{random_.randint(0, 10**9)}-{number}",
                    type=kind,
                    event=random_.choice(EVENTS) if kind == "track" else None,
                    timestamp=at + ahead,
                    received_at=at + delay,
                    load_id=0,
                    # At times without a browser: then the account alone says who it is.
                    anonymous_id=browser if random_.random() < 0.9 or day < known_from[browser] else None,
                    user_id=f"u{person}" if day >= known_from[browser] else None,
                    properties={"revenue": random_.randint(1, 99), "category": random_.choice(["a", "b"])},
                    context={
                        "device": {"id": device, "type": random_.choice(["ios", "android"])} if device else {},
                        "campaign": {"medium": "email"} if random_.random() < 0.2 else {},
                        "consent": {"categoryPreferences": {"analytics": random_.random() < 0.9}},
                    },
                )
            at += STEP * random_.choice([0, 1, 2, 3, 3, 3, 4, 30, 140])


def loads(messages: list[Any], seed: int, ends: list[float]) -> list[list[Any]]:
    """One load per end: what had been received by then, not yet loaded; and now and then a message from the future."""
    random_ = random.Random(seed)
    found: list[list[Any]] = [[] for _ in ends]
    for message in messages:
        arrived = next((i for i, end in enumerate(ends) if message.received_at <= START + timedelta(days=end)), None)
        arrived = len(ends) - 1 if arrived is None else arrived
        if random_.random() < 0.05:
            arrived = max(0, arrived - 1)  # known before the run's as_of allows it to be
        elif random_.random() < 0.05:
            arrived = min(len(ends) - 1, arrived + 1)  # the file came late
        found[arrived].append(message)
    return [[replace_load(m, number) for m in load] for number, load in enumerate(found, start=1)]


def replace_load(message: Any, load_id: int) -> Any:
    return type(message)(**{**vars(message), "load_id": load_id})


@pytest.fixture(scope="module")
def grown(make_lab: Callable[[], Any]) -> tuple[Any, dict[str, list[Any]]]:
    """A warehouse that grew in steps, one of which died half-way, and its contents."""
    lab = make_lab()
    message_type = lab.message_type
    first, second, third, fourth = loads(list(stream(message_type, seed=7, people=60)), 7, [3, 5, 5.001, 9.5])
    some, others = {f"u{n}" for n in range(0, 60, 7)}, {f"u{n}" for n in range(1, 60, 7)}
    lab.load(first)
    lab.stitch(moment(3), refused=some)
    lab.run(*MODELS, as_of=moment(3))
    lab.load(second)
    lab.stitch(moment(5), refused=some)
    # This run gets no further than the sessions.
    lab.run("--select", "+sessions", as_of=moment(5))
    lab.load(third)
    lab.stitch(moment(5), refused=some)
    lab.run(*MODELS, as_of=moment(5))  # the same time again, with more events
    lab.load(fourth)
    # Identity changes its mind: accounts that it had refused are people of their own now, and it refuses others.
    lab.stitch(moment(9.5), refused=others, alone=some)
    lab.run(*MODELS, as_of=moment(9.5))
    return lab, lab.contents()


def test_growing_in_steps_equals_building_anew(grown: tuple[Any, dict[str, list[Any]]]) -> None:
    lab, contents = grown
    lab.run(*MODELS, "--full-refresh", as_of=moment(9.5))
    anew = lab.contents()
    assert set(contents) == set(anew)
    for name, rows in anew.items():
        assert len(rows) > 0, f"{name} is empty: the test shows nothing"
        assert contents[name] == rows, f"{name} differs"


def test_the_stream_holds_what_it_is_to_be_tested_with(grown: tuple[Any, dict[str, list[Any]]]) -> None:
    lab, _ = grown
    ((ties,),) = lab.rows(
        """
        select count(*) from (
            select 1 from intermediate.int_events group by person_id, occurred_at having count(*) > 1
        )
        """
    )
    ((at_the_limit,),) = lab.rows(
        """
        select count(*) from (
            select occurred_at - lag(occurred_at) over (partition by person_id order by occurred_at) as silence
            from intermediate.int_events
        ) where silence = interval 30 minute
        """
    )
    ((past_midnight,),) = lab.rows("select count(*) from marts.sessions where started_at::date < ended_at::date")
    ((late,),) = lab.rows("select count(*) from staging.stg_events where received_at - occurred_at > interval 1 day")
    assert min(ties, at_the_limit, past_midnight, late) > 10
    assert not lab.rows("from intermediate.rebuild_queue"), "the last run left work undone"


def test_sessions_are_what_a_plain_loop_over_the_events_finds(grown: tuple[Any, dict[str, list[Any]]]) -> None:
    lab, _ = grown
    events = lab.rows(
        """
        select person_id, occurred_at from intermediate.int_events
        where event_type in ('track', 'page', 'screen') and has_analytics_consent and person_id is not null
        order by person_id, occurred_at
        """
    )
    expected: list[list[Any]] = []
    for person_id, at in events:
        if expected and expected[-1][0] == person_id and at - expected[-1][2] <= timedelta(minutes=30):
            expected[-1][2:] = [at, expected[-1][3] + 1]
        else:
            expected.append([person_id, at, at, 1])
    found = lab.rows("select person_id, started_at, ended_at, event_count from marts.sessions order by 1, 2")
    assert [list(row) for row in found] == expected
