"""A fault of the data is told once, to whom it concerns, together with what it moved."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from segue.alerts import acknowledge, announce, load_policy, pending
from segue.alerts.cases import Case
from segue.alerts.channels import folder_of
from segue.alerts.plan import Notice
from segue.alerts.what_else import what_else
from segue.errors import DefinitionError
from segue.quality import Finding, explain_incidents, keep_incidents
from segue.quality import record as record_findings
from segue.watch.incidents import group_anomalies, incident_of

DAY = date(2026, 2, 26)
AS_OF = datetime(2026, 2, 27, 1, tzinfo=UTC)
FAULT = Finding(
    check="drift", weight="error", subject="revenue of Order Completed", first_date=DAY, last_date=DAY,
    sentence="revenue of Order Completed has vanished on 2026-02-26; before, 0 % lacked it.", distorts=True,
    event="Order Completed", source="web",
)  # fmt: skip
compose = __import__("segue.alerts.compose", fromlist=["compose"])


@pytest.fixture(autouse=True)
def _plain_pictures(monkeypatch):
    monkeypatch.setattr(compose, "plot_anomaly", lambda con, anomaly_id: b"\x89PNG")
    monkeypatch.setattr(compose, "plot_overview", lambda con, ids: b"\x89PNG")


@pytest.fixture
def found(warehouse):
    """What an examination, and a detection after it, leave as of a time."""

    def run(*faults, as_of=AS_OF, watched=True):
        with warehouse.write("test") as con:
            record_findings(con, faults, as_of=as_of)
            keep_incidents(con, as_of=as_of)
            if watched:
                day = (as_of - timedelta(days=1)).date()
                con.execute(
                    "update watch.series set last_judged_date = $1, judged_at = $2", [day, as_of.replace(tzinfo=None)]
                )
                group_anomalies(con, known_until=day)
                explain_incidents(con)

    return run


def test_a_fault_that_moves_no_kpi_is_told_by_its_own_route_and_what_follows_stands_in_its_thread(
    warehouse, by_bot, slack_api, record, make_anomaly, found
):
    policy = 'routes: [{source: web, slack: "#money"}]\nheartbeat: {hours: 900}'
    settings = by_bot(policy, dashboard_url="http://127.0.0.1:8723")
    record()
    note = replace(FAULT, weight="note", subject="coupon of Order Completed", distorts=False)
    found(FAULT, note)
    [sent] = announce(warehouse, settings, as_of=AS_OF).sent
    assert (sent.channel, sent.subject_count) == ("slack:#money", 1)
    assert sent.title == f"Data fault: {FAULT.sentence.rstrip('.')}"
    assert announce(warehouse, settings, as_of=AS_OF).sent == ()

    record(make_anomaly(0), make_anomaly(1, kpi="revenue", slice="channel=email"))
    found(FAULT)
    [joined] = announce(warehouse, settings, as_of=AS_OF).sent
    assert joined.subject_count == 2, "two incidents of KPIs, one cause"

    found(FAULT, as_of=AS_OF + timedelta(days=2))
    [over] = announce(warehouse, settings, as_of=AS_OF + timedelta(days=2)).sent
    assert over.title.startswith("Over: revenue of Order Completed")
    assert announce(warehouse, settings, as_of=AS_OF + timedelta(days=3)).sent == ()

    root, update, end = slack_api.messages
    assert root["channel"] == "C0MONEY"
    assert "/incident/" in str(root["blocks"])
    assert update["thread_ts"] == end["thread_ts"] == root["ts"]
    assert "Explained by the data, not by people: revenue of Order Completed" in str(update["blocks"])


def test_what_a_fault_explains_is_told_in_one_message_once_the_kpis_were_looked_at(
    warehouse, by_bot, slack_api, record, make_anomaly, found
):
    settings = by_bot('escalate: {after_minutes: 60, slack: "#on-call"}\nheartbeat: {hours: 900}')
    record()
    found(as_of=AS_OF - timedelta(days=1))
    found(FAULT, watched=False)
    with warehouse.read() as con:
        assert pending(con, settings=settings, as_of=AS_OF + timedelta(minutes=59)) == []
        late = pending(con, settings=settings, as_of=AS_OF + timedelta(minutes=60))
        assert [p.kind for p in late] == ["data_fault"], "a detector that is dead must not hide it"
    record(*(make_anomaly(n) for n in range(40)), make_anomaly(41, kpi="revenue", slice="channel=email"))
    found(FAULT)
    [sent] = announce(warehouse, settings, as_of=AS_OF).sent
    assert sent.subject_count == 42
    assert sent.title.startswith("Data fault, 41 KPI series moved with it: revenue of Order Completed has vanished")
    [message] = slack_api.messages
    assert "not in what people chose" in message["text"]
    assert [f["thread_ts"] for f in slack_api.files] == [message["ts"]], "with the chart of a KPI"
    [first] = announce(warehouse, settings, as_of=AS_OF + timedelta(minutes=61)).sent
    assert first.title.startswith("Nobody is on it: Data fault")
    with warehouse.write("test") as con:
        [(ident,)] = con.execute("select incident_id from quality.incidents").fetchall()
        acknowledge(con, ident, by="ada", as_of=AS_OF)


def test_a_cause_that_is_found_after_the_kpi_was_told_follows_in_the_thread_of_the_kpi(
    warehouse, by_bot, slack_api, record, make_anomaly, found
):
    settings = by_bot('routes: [{source: web, slack: "#money"}]\nheartbeat: {hours: 900}')
    record(make_anomaly(0))
    found()
    announce(warehouse, settings, as_of=AS_OF)
    found(FAULT)
    [sent] = announce(warehouse, settings, as_of=AS_OF).sent
    assert sent.title == f"Also: Data fault: {FAULT.sentence.rstrip('.')}"
    root, cause = slack_api.messages
    assert (cause["channel"], cause["thread_ts"]) == ("C0ALERTS", root["ts"])
    assert "That is why 1 KPI series left" in cause["text"]


def test_many_that_are_over_are_told_together_but_a_fault_is_no_reason_for_what_it_has_not_moved(
    warehouse, by_bot, slack_api, record, make_anomaly, found
):
    settings = by_bot("heartbeat: {hours: 900}")
    days = [date(2026, 2, day) for day in (6, 11, 16, 21)]
    record(*(make_anomaly(n, first_date=day, last_date=day, worst_date=day) for n, day in enumerate(days)))
    found(replace(FAULT, distorts=False), as_of=AS_OF + timedelta(days=5))
    sent = announce(warehouse, settings, as_of=AS_OF + timedelta(days=5)).sent
    assert sorted(one.subject_count for one in sent) == [1, 4]
    by_count = {one.subject_count: message for one, message in zip(sent, slack_api.messages, strict=True)}
    assert "No KPI has left its expected range with it" in str(by_count[1])
    assert "the data is at fault" not in str(slack_api.messages)


def test_faults_that_are_told_together_are_not_blamed_for_what_another_one_moved(warehouse, settings, make_anomaly):
    moved = (make_anomaly(0), make_anomaly(1, slice="channel=email"), make_anomaly(2, slice="all"))
    other = replace(FAULT, subject="event Sign Up", sentence="Event Sign Up sent nothing.")
    notice = Notice(
        kind="data_fault",
        channel=folder_of(settings),
        subjects=("a", "b"),
        case=Case(incidents=(incident_of(moved),)),
        anomalies=moved,
        faults=(replace(FAULT, weight="warning"), other),
        is_backlog=True,
    )

    def told(notice):
        return compose.compose(con, notice, settings, as_of=AS_OF, run_url=None, calendar=())

    with warehouse.read() as con:
        alert, alone = told(notice), told(replace(notice, anomalies=()))
    assert alert.title == "2 faults of the data; 2 KPI series moved with them"
    assert alert.summary == (
        f"What arrived was not as it usually is. The first of them: {FAULT.sentence} "
        "All of it is over; the dashboard says why."
    )
    assert [item.sentence for item in alert.items[:2]] == [FAULT.sentence, other.sentence]
    assert alone.title == "2 faults of the data; no KPI is known to have moved with them"
    assert alone.severity == "high", "that of the worst, wherever it stands"


def test_what_else_happened_names_contracts_properties_and_merges(warehouse):
    with warehouse.write("test") as con:
        con.execute("create schema identity")
        con.execute(
            "create table identity.merges as select timestamp '2026-02-01' + n * interval 6 hour as merged_at"
            " from range(112) r(n) union all select timestamp '2026-02-26 10:00:00' from range(40)"
        )
        record_findings(con, [replace(FAULT, weight="note", sentence="coupon of Order Completed is new.")], as_of=AS_OF)
        lines = what_else(con, first=DAY, last=DAY, calendar=())
        assert lines == [
            "New in the data since Thu 26 Feb: coupon of Order Completed is new.",
            "48 people turned out to be somebody known already from Wed 25 Feb to Thu 26 Feb,"
            " where 7 such merges are usual",
        ]
        assert what_else(con, first=date(2026, 2, 20), last=date(2026, 2, 21), calendar=()) == []


@pytest.mark.parametrize("text", ["routes: [{slack: '#x'}]", "routes: [{owner: a, source: b, slack: '#x'}]"])
def test_a_route_is_by_owner_or_by_source(tmp_path, text):
    (tmp_path / "alerts.yml").write_text(text)
    with pytest.raises(DefinitionError, match="by owner or by source"):
        load_policy(tmp_path / "alerts.yml")
