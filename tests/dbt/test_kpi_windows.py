"""Days of KPIs can be built in any order and in any portions, and come out the same."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

KPIS = ("--select", "+activity", "+retention")
START = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number - 1)


def test_building_days_in_portions_equals_building_them_at_once(make_lab: Callable[[], Any]) -> None:
    lab = make_lab()
    messages = []
    for number in range(11 * 24):
        at = datetime(2026, 1, 1) + timedelta(hours=number, minutes=number % 7)
        # The fourth day is an outage.
        if at.day == 4 or number % 5 == 0:
            continue
        person = number % 13 if number > 30 else number % 3
        messages.append(
            lab.message_type(
                message_id=f"m{number}",
                event="Order Completed" if number % 3 else "Signed Up",
                timestamp=at,
                received_at=at,
                load_id=at.day,
                anonymous_id=f"a{person}",
                properties={"revenue": 0.1 * number},
                context={"os": {"name": "ios" if number % 2 else "android"}},
            )
        )
    lab.load(messages)
    lab.stitch(day(12))
    lab.run(*KPIS, as_of=day(2.5))
    unfinished = "select date::varchar from kpis.activity where slice = 'all' and not is_complete"
    assert lab.rows(unfinished) == [("2026-01-02",)]

    # The next run is told of the tenth day only. It finishes the second day by itself.
    lab.run(*KPIS, as_of=day(10.5), window=(day(10), day(11)))
    dates = [row[0] for row in lab.rows("select date::varchar from kpis.activity where slice = 'all' order by date")]
    assert dates == ["2026-01-01", "2026-01-02", "2026-01-10"]
    assert lab.rows(unfinished) == [("2026-01-10",)]

    # Days between, and one of those that are there already.
    lab.run("--select", "activity", "retention", as_of=day(10.5), window=(day(2), day(10)))
    in_portions = lab.contents()
    lab.run(*KPIS, "--full-refresh", as_of=day(10.5))
    at_once = lab.contents()
    assert len(at_once["kpis.activity"]) > 30
    assert len(at_once["kpis.retention"]) > 5
    assert in_portions == at_once
    outage = "from kpis.activity select session_count, person_count, signup_count, revenue where date = '2026-01-04'"
    assert lab.rows(outage) == [(0, 0, 0, 0)] * 4  # all, the two platforms, the one channel
