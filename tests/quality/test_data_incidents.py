"""Which faults of the data are one incident, how long it lasts, and what was changed on purpose."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from segue.events import Contract, Property
from segue.quality import Finding, contract_changes, data_incidents, keep_incidents, note_contracts, record

DAY = date(2026, 2, 25)
GONE = Finding(
    check="volume", weight="error", subject="event Order Completed", first_date=DAY, last_date=DAY,
    sentence="Event Order Completed sent nothing on 2026-02-25, where 40 are usual.", distorts=True,
    event="Order Completed",
)  # fmt: skip
SILENT = replace(GONE, check="freshness", subject="source web", event="", source="web")
SKEW = replace(GONE, check="clock_skew", weight="warning", subject="source app", event="", source="app", distorts=False)
NEWS = replace(GONE, check="drift", weight="note", subject="coupon of Order Completed", distorts=False)


@pytest.fixture
def examined(warehouse):
    """What an examination at the end of a day leaves: the incidents on record, oldest first."""
    with warehouse.write("test") as con:
        con.execute("create schema raw")
        con.execute(
            "create table raw.events as select 'track' as type, 'Order Completed' as event, 'web' as source,"
            " timestamp '2026-02-20' as received_at"
        )

    def run(day, *found, contracts=()):
        as_of = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        with warehouse.write("test") as con:
            record(con, found, as_of=as_of)
            count = keep_incidents(con, contracts=contracts, as_of=as_of)
            incidents = data_incidents(con)
        assert count == sum(i.status == "open" for i in incidents)
        return sorted(incidents, key=lambda i: (i.first_date, i.lead.subject))

    return run


def contract(**types):
    properties = tuple(Property(name=name, type=kind) for name, kind in types.items())
    return Contract(
        path=Path(), type="track", event="Order Completed", description="", owner="team:shop", properties=properties
    )


def test_faults_of_one_source_that_begin_together_are_one_incident_and_others_are_their_own(examined):
    later = replace(SILENT, first_date=DAY + timedelta(days=1), last_date=DAY + timedelta(days=1))
    found = examined(DAY + timedelta(days=1), GONE, later, SKEW, NEWS, contracts=[contract(revenue="number")])
    shop, app = found
    assert {f.subject for f in shop.findings} == {"event Order Completed", "source web"}
    assert (shop.lead.subject, shop.owner, shop.source, shop.severity) == (
        "event Order Completed", "team:shop", "web", "high",
    )  # fmt: skip
    assert [f.subject for f in app.findings] == ["source app"]
    assert (app.owner, app.source, app.severity, app.status) == ("", "app", "medium", "recovered")


def test_an_incident_keeps_its_id_and_its_beginning_as_long_as_it_lasts_and_is_over_after(examined):
    [first] = examined(DAY, GONE)
    assert first.status == "open"
    end = DAY + timedelta(days=20)
    # After three weeks the examined days begin long after the fault did.
    [middle] = examined(DAY + timedelta(days=10), replace(GONE, last_date=DAY + timedelta(days=10)))
    [late] = examined(end, replace(GONE, first_date=DAY + timedelta(days=7), last_date=end))
    assert {first.incident_id} == {middle.incident_id, late.incident_id}
    assert (late.first_date, late.last_date, late.status) == (DAY, end, "open")
    assert f"on 2026-02-25, where 40 are usual (until {end})" in late.lead.sentence
    [over] = examined(end + timedelta(days=1), replace(GONE, first_date=DAY + timedelta(days=8), last_date=end))
    assert (over.incident_id, over.status, over.last_date) == (first.incident_id, "recovered", end)


def test_what_late_data_fills_in_is_withdrawn_and_what_was_true_of_a_moment_is_over(examined):
    assert [i.status for i in examined(DAY, GONE, replace(SKEW, check="cardinality", source=""))] == ["open", "open"]
    gone, many = sorted(examined(DAY + timedelta(days=1)), key=lambda i: i.lead.check, reverse=True)
    assert (gone.lead.check, gone.status) == ("volume", "withdrawn")
    assert (many.lead.check, many.status) == ("cardinality", "recovered")


def test_an_edited_contract_is_on_record_in_words(warehouse):
    moments = [datetime(2026, 2, day, 12, tzinfo=UTC) for day in (20, 21, 22)]
    with warehouse.write("test") as con:
        assert note_contracts(con, [contract(revenue="number")], as_of=moments[0]) == 0
        assert note_contracts(con, [contract(revenue="string", coupon="string")], as_of=moments[1]) == 1
        assert note_contracts(con, [contract(revenue="string", coupon="string")], as_of=moments[2]) == 0
        assert contract_changes(con, first=date(2026, 2, 22), last=date(2026, 2, 28)) == []
        [said] = contract_changes(con, first=date(2026, 2, 20), last=date(2026, 2, 21))
    assert (
        said == "The contract of Order Completed has changed: coupon is new (string); revenue is string, before number"
    )
