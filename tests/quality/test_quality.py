"""Which faults of the data are found, which are not, and what they explain."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from segue.errors import DefinitionError
from segue.events import ensure_tables as ensure_raw
from segue.quality import (
    CHECKS,
    Limits,
    data_incidents,
    examine,
    explain_incidents,
    findings,
    keep_incidents,
    load_limits,
    record,
)
from segue.watch import ensure_tables, incidents
from segue.watch.incidents import group_anomalies

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
DAY = date(2026, 2, 25)


@pytest.fixture
def shop(warehouse):
    """Six weeks of a shop with nothing wrong; what a test adds goes into the statement's place."""

    def build(*changes):
        with warehouse.write("test") as con:
            ensure_raw(con)
            con.execute(
                """
                insert into raw.events (message_id, type, event, user_id, timestamp, sent_at, received_at,
                    properties, source)
                select
                    event || d || '-' || n, 'track', event, 'u' || n,
                    moment, moment, moment, json_object('revenue', n * 1.5, 'currency', 'EUR'), 'web'
                from (values ('Order Completed'), ('Product Viewed')) events(event),
                    range(45) days(d), range(40) numbers(n),
                    lateral (select timestamp '2026-01-15' + d * interval 1 day + n * interval 20 minute as moment)
                """
            )
            con.execute(
                """
                insert into raw.loads (load_id, source, file, read_count, loaded_count, duplicate_count,
                    quarantined_count, loaded_at)
                select d, 'web', 'f' || d, 80, 80, 0, 0, timestamp '2026-01-16' + d * interval 1 day from
                    range(45) days(d)
                """
            )
            for change in changes:
                con.execute(change)
        with warehouse.read() as con:
            return examine(con, as_of=AS_OF, limits=Limits())

    return build


def names(report):
    return sorted((f.check, f.weight, f.subject) for f in report.findings)


def test_a_shop_with_nothing_wrong_passes_every_check(shop):
    report = shop()
    assert names(report) == []
    assert [r.check for r in report.results] == list(CHECKS)
    assert all(r.passed and r.description.endswith(".") for r in report.results)


def test_before_the_first_event_there_is_nothing_to_find(warehouse):
    with warehouse.read() as con:
        assert examine(con, as_of=AS_OF, limits=Limits()).findings == ()


def test_an_event_that_vanishes_is_one_error_for_all_of_its_days(shop):
    report = shop("delete from raw.events where event = 'Order Completed' and received_at::date >= '2026-02-25'")
    [found] = report.findings
    assert (found.check, found.weight, found.subject) == ("volume", "error", "event Order Completed")
    assert (found.first_date, found.last_date, found.distorts) == (DAY, date(2026, 2, 28), True)
    assert "where 40 are usual" in found.sentence


def test_half_as_many_messages_are_no_fault_and_a_fifth_are_a_warning(shop):
    few = "delete from raw.events where received_at::date = '2026-02-{}' and hash(message_id) % 10 < {}"
    report = shop(few.format(20, 4), few.format(25, 8))
    assert {(f.weight, f.first_date.day) for f in report.findings} == {("warning", 25)}
    # The events fell together, so it is the source: an outage explains KPIs, an event that people send less does not.
    assert {f.subject for f in report.findings if f.distorts} == {"source web"}


def test_more_messages_than_usual_and_an_event_that_falls_alone_explain_nothing(shop):
    report = shop(
        "insert into raw.events select * exclude (again) replace (message_id || '-' || again as message_id)"
        " from raw.events, range(3) more(again) where received_at::date = '2026-02-20'",
        "delete from raw.events where received_at::date = '2026-02-25' and event = 'Order Completed'"
        " and hash(message_id) % 10 < 8",
    )
    assert {f.first_date.day for f in report.findings if f.check == "volume"} == {20, 25}
    assert not any(f.distorts for f in report.findings)


def test_a_source_that_falls_silent_is_found_by_the_hour(shop):
    report = shop("delete from raw.events where received_at > '2026-02-26 12:00:00'")
    [found] = [f for f in report.findings if f.check == "freshness"]
    assert found.subject == "source web"
    assert "60 hours" in found.sentence


#: A source that sends each hour of the office from Monday to Friday.
OFFICE = """
    insert into raw.events (message_id, type, event, user_id, timestamp, sent_at, received_at, properties, source)
    select 'office' || moment, 'track', 'Invoice Sent', 'u', moment, moment, moment, '{}', 'backoffice'
    from (select timestamp '2026-01-15' + h * interval 1 hour as moment from range(45 * 24) hours(h))
    where hour(moment) between 9 and 17 and isodow(moment) <= 5
"""


def silent(warehouse, as_of):
    with warehouse.read() as con:
        report = examine(con, as_of=as_of, limits=Limits())
    return {f.subject for f in report.findings if f.check == "freshness"}


def test_a_source_that_rests_at_the_weekend_is_not_silent_then_and_is_when_it_has_died(shop, warehouse):
    shop(OFFICE)
    sunday, monday = datetime(2026, 2, 22, 5, 30, tzinfo=UTC), datetime(2026, 2, 23, 8, 59, tzinfo=UTC)
    assert silent(warehouse, sunday) == silent(warehouse, monday) == set()
    with warehouse.write("test") as con:
        con.execute("delete from raw.events where source = 'backoffice' and received_at > '2026-02-17 12:00:00'")
    assert silent(warehouse, sunday) == {"source backoffice"}, "since Tuesday"


def test_an_outage_of_before_makes_no_source_wait_longer(shop, warehouse):
    shop(
        "delete from raw.events where received_at between '2026-02-10' and '2026-02-14'",
        "delete from raw.events where received_at > '2026-02-26 13:00:00'",
    )
    assert silent(warehouse, datetime(2026, 2, 28, 1, 30, tzinfo=UTC)) == {"source web"}, "36.5 hours"


def test_a_new_property_is_a_note_and_a_promised_one_is_not(shop, tmp_path):
    from segue.events import load_contracts

    change = (
        'update raw.events set properties = json_merge_patch(properties, \'{"coupon": "x"}\')'
        " where event = 'Order Completed' and received_at::date >= '2026-02-25'"
    )
    report = shop(change)
    assert names(report) == [("drift", "note", "coupon of Order Completed")]
    assert all(result.passed for result in report.results)
    (tmp_path / "order.yml").write_text(
        "event: Order Completed\ndescription: x\nowner: team:a\nproperties:\n  coupon: {type: string}\n"
    )
    assert load_contracts(tmp_path)


@pytest.mark.parametrize(
    ("value", "weight", "said"),
    [
        (
            "json_object('currency', 'EUR', 'revenue', 'much')",
            "error",
            "came as text on 2026-02-25; before, it was number",
        ),
        ("json_object('currency', 'EUR')", "error", "has vanished on 2026-02-25"),
        (
            "case when hash(message_id) % 2 = 0 then json_object('currency', 'EUR') else properties end",
            "warning",
            "is missing in",
        ),
    ],
)
def test_a_property_that_changes_its_type_or_goes_missing_is_found(shop, value, weight, said):
    report = shop(
        f"update raw.events set properties = {value} where event = 'Order Completed' and received_at::date ="
        f" '2026-02-25'"
    )
    [found] = report.findings
    assert (found.check, found.weight, found.subject) == ("drift", weight, "revenue of Order Completed")
    assert said in found.sentence


def test_two_faults_of_one_property_on_the_same_days_are_two_findings(shop, warehouse):
    half = "hash(message_id) % 2 = 0"
    report = shop(
        f"update raw.events set properties = if({half}, json_object('currency', 'EUR'),"
        " json_object('currency', 'EUR', 'revenue', 'much'))"
        " where event = 'Order Completed' and received_at::date >= '2026-02-25'"
    )
    assert [(f.weight, f.first_date, f.last_date) for f in report.findings] == [
        ("error", DAY, date(2026, 2, 28)),
        ("warning", DAY, date(2026, 2, 28)),
    ]
    with warehouse.write("test") as con:
        record(con, report.findings, as_of=AS_OF)
        assert [f.weight for f in findings(con)] == ["error", "warning"]
        keep_incidents(con, as_of=AS_OF)
        [incident] = data_incidents(con)
        assert [f.weight for f in incident.findings] == ["error", "warning"]


def test_an_examination_in_the_last_instant_of_a_day_does_not_judge_it(shop, warehouse):
    shop("delete from raw.events where received_at::date = '2026-02-28'")
    with warehouse.read() as con:
        last = AS_OF - timedelta(microseconds=1)
        assert not any(f.check == "volume" for f in examine(con, as_of=last, limits=Limits()).findings)
        assert any(f.check == "volume" for f in examine(con, as_of=AS_OF, limits=Limits()).findings)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("update raw.loads set duplicate_count = 30 where load_id = 40", "duplicates"),
        ("update raw.loads set quarantined_count = 10 where load_id = 40", "quarantine"),
        (
            "update raw.events set sent_at = sent_at - interval 1 hour where received_at::date = '2026-02-25'",
            "clock_skew",
        ),
    ],
)
def test_duplicates_broken_contracts_and_wrong_clocks_are_found(shop, change, check):
    [found] = shop(change).findings
    assert found.check == check
    assert "web" in found.sentence


def test_giants_and_people_that_nobody_knows_are_found(shop):
    report = shop(
        "create schema identity",
        "create table identity.identifiers as select 'anonymous_id' as identifier_type, 'a' || range as"
        " identifier_value,"
        " 'p1' as person_id from range(60)",
        "create schema marts",
        "create table marts.sessions as select 'p' || (1 + range % 2) as person_id from range(10)",
    )
    assert names(report) == [
        ("cardinality", "warning", "identifiers"),
        ("references", "error", "marts.sessions"),
    ]


def test_a_fault_explains_the_incident_that_begins_with_it_and_no_other(shop, warehouse):
    report = shop("delete from raw.events where event = 'Order Completed' and received_at::date = '2026-02-25'")
    with warehouse.write("test") as con:
        record(con, report.findings, as_of=AS_OF)
        ensure_tables(con)
        for kpi, day in (("conversion", DAY), ("revenue", DAY), ("signups", date(2026, 2, 17))):
            con.execute(
                "insert into watch.anomalies (anomaly_id, kpi, slice, started_at, ended_at, value, expected,"
                " lower, upper,"
                " severity, direction, detected_at, worst_date, score, kind, grain) values ($1, $1, 'all',"
                " $2, $2, 1, 9, 8, 10,"
                " 'high', 'down', '2026-02-26', $2, 9, 'count', 'day')",
                [kpi, day],
            )
        group_anomalies(con, known_until=date(2026, 2, 28))
        keep_incidents(con, as_of=AS_OF)
        assert explain_incidents(con) == 1
        group_anomalies(con, known_until=date(2026, 2, 28))
        explained = {i.lead.kpi: i.data_cause for i in incidents(con)}
        assert len(explained) == 2, "conversion and revenue share a day and everybody: one incident"
        assert explained["signups"] is None
        assert "Order Completed sent nothing" in str(explained["conversion"])
        record(con, (), as_of=AS_OF)
        keep_incidents(con, as_of=AS_OF)
        assert explain_incidents(con) == 0
        assert {i.data_cause for i in incidents(con)} == {None}


def test_the_same_findings_are_written_once(shop, warehouse):
    report = shop("delete from raw.events where event = 'Order Completed' and received_at::date = '2026-02-25'")
    with warehouse.write("test") as con:
        record(con, report.findings, as_of=AS_OF)
    with warehouse.read() as con:
        [before] = con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchall()
        assert findings(con) == list(report.findings)
    with warehouse.write("test") as con:
        record(con, report.findings, as_of=AS_OF + timedelta(days=1))
    with warehouse.read() as con:
        assert con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchall() == [before]


def test_limits_are_read_and_their_mistakes_shown(tmp_path: Path):
    path = tmp_path / "quality.yml"
    assert load_limits(path) == Limits()
    path.write_text("limits: {silent_hours: 12}")
    assert load_limits(path).silent_hours == 12
    path.write_text("limits: {silent_hour: 12}")
    with pytest.raises(DefinitionError, match="did you mean `silent_hours`"):
        load_limits(path)


def test_bad_input_invented_properties_and_events_make_few_findings(shop):
    invent = """
        insert into raw.events (message_id, type, event, user_id, timestamp, sent_at, received_at, properties, source)
        select 'x' || n, 'track', if(n % 2 = 0, 'Product Viewed', 'Invented ' || n), 'u' || n, moment, moment, moment,
            json_object('revenue', 1.5, 'currency', 'EUR', 'key' || n, n), 'web'
        from range(6000) numbers(n), (select timestamp '2026-02-26 12:00:00' as moment)
    """
    report = shop(invent)
    drift = [f for f in report.findings if f.check == "drift"]
    assert len([f for f in drift if f.sentence.endswith("is new: no contract knows it.")]) == 20
    [more] = [f for f in drift if f.subject == "more properties of Product Viewed"]
    assert more.weight == "note"
    [beyond] = [f for f in drift if f.subject == "properties of Product Viewed"]
    assert "3,002 properties" in beyond.sentence
    assert len(report.findings) < 30
    assert not any("Invented" in f.subject for f in report.findings)
