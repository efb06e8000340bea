"""One message per incident, and what policy, people and time make of it."""

from datetime import UTC, date, datetime, timedelta

import pytest

from segue.alerts import acknowledge, announce, load_policy, mute, pending, slack
from segue.alerts.cases import Case
from segue.alerts.channels import folder_of
from segue.alerts.plan import Notice
from segue.errors import BadInputError, DefinitionError
from segue.watch.incidents import group_anomalies, incident_of

AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = date(2026, 2, 26)
compose = __import__("segue.alerts.compose", fromlist=["compose"])


@pytest.fixture(autouse=True)
def _plain_pictures(monkeypatch):
    monkeypatch.setattr(compose, "plot_anomaly", lambda con, anomaly_id: b"\x89PNG")
    monkeypatch.setattr(compose, "plot_overview", lambda con, ids: b"\x89PNG")
    monkeypatch.setattr(slack.post, "__kwdefaults__", {"pause": lambda seconds: None})


@pytest.fixture
def regroup(warehouse):
    """What a detection does after it has found something: group it, as of the last judged day."""

    def run(known_until=DAY):
        with warehouse.write("test") as con:
            con.execute("update watch.series set last_judged_date = $1, judged_at = '2026-03-01'", [known_until])
            group_anomalies(con, known_until=known_until)

    return run


def test_an_outage_of_forty_series_is_one_message_with_its_chart(
    warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    record(*(make_anomaly(n) for n in range(40)))
    regroup()
    settings = by_bot(dashboard_url="http://127.0.0.1:8723")
    [sent] = announce(warehouse, settings, as_of=AS_OF).sent
    assert sent.subject_count == 40
    [message] = slack_api.messages
    assert message["channel"] == "C0ALERTS"
    assert "thread_ts" not in message
    assert "http://127.0.0.1:8723/incident/" in str(message["blocks"])
    assert [(f["channel"], f["thread_ts"], f["bytes"]) for f in slack_api.files] == [
        ("C0ALERTS", message["ts"], b"\x89PNG")
    ]
    assert announce(warehouse, settings, as_of=AS_OF).sent == ()


def test_a_history_full_of_incidents_that_are_over_is_one_message(
    warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    days = [date(2026, 2, day) for day in (2, 8, 14, 20)]
    record(*(make_anomaly(n, first_date=day, last_date=day, worst_date=day) for n, day in enumerate(days)))
    regroup(date(2026, 2, 28))
    [sent] = announce(warehouse, by_bot(), as_of=AS_OF).sent
    assert sent.subject_count == 4
    assert "All of it is over" in slack_api.messages[0]["text"]
    assert "Open the incidents" in str(slack_api.messages[0]["blocks"])


def test_a_series_that_moved_twice_recovers_once(settings, make_anomaly):
    incident = incident_of([make_anomaly(n, slice="all") for n in range(2)])
    notice = Notice(
        kind="incident_over", channel=folder_of(settings), subjects=("x",), case=Case(incidents=(incident,))
    )
    alert = compose.compose(None, notice, settings, as_of=AS_OF, run_url=None, calendar=())
    assert alert.summary.endswith("1 series had left its expected range.")


def test_what_joins_an_incident_and_its_end_are_told_in_its_thread(
    warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    settings = by_bot()
    record(make_anomaly(0))
    regroup()
    announce(warehouse, settings, as_of=AS_OF)
    record(make_anomaly(1))
    regroup()
    announce(warehouse, settings, as_of=AS_OF)
    regroup(DAY + timedelta(days=1))
    announce(warehouse, settings, as_of=AS_OF + timedelta(days=1))
    assert announce(warehouse, settings, as_of=AS_OF + timedelta(days=2)).sent == ()
    root, update, end = slack_api.messages
    assert update["thread_ts"] == end["thread_ts"] == root["ts"]
    assert update["text"].startswith(":red_circle: Also:")
    assert "Recovered" in end["text"]


def test_a_message_that_was_cut_off_is_looked_for_and_not_sent_again(
    warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    record(make_anomaly(0))
    regroup()
    settings = by_bot(slack_channel="C0ALERTS")
    announce(warehouse, settings, as_of=AS_OF)
    with warehouse.write("test") as con:
        # The process died after Slack had taken it and before that was on record.
        con.execute("update alerts.announcements set status = 'pending'")
        con.execute("delete from alerts.threads")
    [sent] = announce(warehouse, settings, as_of=AS_OF + timedelta(hours=1)).sent
    assert (sent.channel, len(slack_api.messages)) == ("slack", 1)


def test_slack_asking_to_wait_loses_nothing_and_repeats_nothing(
    warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    record(make_anomaly(0))
    regroup()
    slack_api.plan = [("chat.postMessage", 429)]
    [failed] = announce(warehouse, by_bot(), as_of=AS_OF).not_sent
    assert (failed.is_final, failed.retry_after) == (False, 600.0)
    with warehouse.read() as con:
        assert pending(con, settings=by_bot(), as_of=AS_OF + timedelta(minutes=9)) == []
        assert len(pending(con, settings=by_bot(), as_of=AS_OF + timedelta(minutes=10))) == 1
    announce(warehouse, by_bot(), as_of=AS_OF + timedelta(minutes=10))
    announce(warehouse, by_bot(), as_of=AS_OF + timedelta(minutes=20))
    assert len(slack_api.messages) == 1


@pytest.mark.parametrize(("word", "fix"), [("channel_not_found", "invite"), ("invalid_auth", "SEGUE_SLACK_TOKEN")])
def test_what_slack_refuses_for_good_says_what_to_mend(
    word, fix, warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    record(make_anomaly(0))
    regroup()
    slack_api.plan = [("chat.postMessage", word)]
    [failed] = announce(warehouse, by_bot(), as_of=AS_OF).not_sent
    assert failed.is_final
    assert fix in failed.reason
    assert slack_api.token not in failed.reason
    assert announce(warehouse, by_bot(), as_of=AS_OF).sent == ()


def test_who_owns_a_thing_is_told_of_it_where_they_are(warehouse, by_bot, slack_api, record, make_anomaly, regroup):
    record(make_anomaly(0), make_anomaly(1, kpi="revenue", slice="channel=email"))
    regroup()
    with warehouse.write("test") as con:
        con.execute(
            "create table watch.registry as select 'kpi' as kind, 'revenue' as name, '' as label, 'money' as unit,"
            " 'up' as better, 'team:money' as owner, '' as description"
        )
    policy = 'routes: [{owner: "team:money", slack: "#money"}]\nheartbeat: {hours: 900}'
    announce(warehouse, by_bot(policy), as_of=AS_OF)
    assert sorted(m["channel"] for m in slack_api.messages) == ["C0ALERTS", "C0MONEY"]


def test_quiet_hours_hold_back_what_is_not_high_and_let_it_go_after(
    warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    record(make_anomaly(0, severity="medium"), make_anomaly(1, kpi="revenue", slice="channel=email"))
    regroup()
    settings = by_bot('quiet_hours: {from: "22:00", until: "07:00", timezone: Europe/Berlin}\nheartbeat: {hours: 900}')
    night, morning = datetime(2026, 3, 1, 21, 30, tzinfo=UTC), datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
    assert [s.title.split(",")[0] for s in announce(warehouse, settings, as_of=night).sent] == ["Revenue"]
    with warehouse.read() as con:
        assert pending(con, settings=settings, as_of=night) == []
        assert len(pending(con, settings=settings, as_of=morning)) == 1
    announce(warehouse, settings, as_of=morning)
    assert len(slack_api.messages) == 2


def test_a_mute_has_an_end(warehouse, by_bot, slack_api, record, make_anomaly, regroup):
    record(make_anomaly(0))
    regroup()
    end = AS_OF + timedelta(days=1)
    with warehouse.write("test") as con:
        with pytest.raises(BadInputError, match="has passed"):
            mute(con, kpi="sessions", slice_="", until=AS_OF, by="ada", reason="", as_of=AS_OF)
        mute(con, kpi="sessions", slice_="", until=end, by="ada", reason="migration", as_of=AS_OF)
    assert announce(warehouse, by_bot(), as_of=AS_OF).sent == ()
    assert len(announce(warehouse, by_bot(), as_of=end).sent) == 1


def test_what_nobody_takes_on_is_escalated_once_and_what_somebody_takes_on_is_not(
    warehouse, by_bot, slack_api, record, make_anomaly, regroup
):
    record(make_anomaly(0), make_anomaly(1, kpi="revenue", slice="channel=email"))
    regroup()
    settings = by_bot('escalate: {after_minutes: 60, slack: "#on-call"}\nheartbeat: {hours: 900}')
    announce(warehouse, settings, as_of=AS_OF)
    with warehouse.write("test") as con:
        [incident] = [
            row[0]
            for row in con.execute("select incident_id from watch.incidents where lead_id = $1", ["0" * 20]).fetchall()
        ]
        acknowledge(con, incident, by="ada", as_of=AS_OF)
        with pytest.raises(BadInputError, match="no incident"):
            acknowledge(con, "nope", by="ada", as_of=AS_OF)
    assert announce(warehouse, settings, as_of=AS_OF + timedelta(minutes=59)).sent == ()
    [sent] = announce(warehouse, settings, as_of=AS_OF + timedelta(minutes=61)).sent
    assert sent.title.startswith("Nobody is on it: Revenue")
    assert slack_api.messages[-1]["channel"] == "C0ONCALL"
    assert announce(warehouse, settings, as_of=AS_OF + timedelta(minutes=90)).sent == ()


def test_a_detector_that_is_dead_is_told_once(warehouse, by_bot, slack_api, record, make_anomaly, regroup):
    record(make_anomaly(0, severity="low"))
    regroup()
    settings = by_bot("heartbeat: {hours: 36}")
    assert announce(warehouse, settings, as_of=datetime(2026, 3, 2, 11, tzinfo=UTC)).sent == ()
    late = datetime(2026, 3, 2, 13, tzinfo=UTC)
    with warehouse.read() as con:
        assert [p.kind for p in pending(con, settings=settings, as_of=late)] == ["dead_detector"]
    [sent] = announce(warehouse, settings, as_of=late).sent
    assert sent.title == "Nothing has been watched for 37 hours"
    assert announce(warehouse, settings, as_of=late + timedelta(hours=5)).sent == ()


def test_the_digest_comes_once_a_day_at_its_hour(warehouse, by_bot, slack_api, record, make_anomaly, regroup):
    record(make_anomaly(0, severity="low", first_date=date(2026, 2, 28), last_date=date(2026, 2, 28)))
    regroup(date(2026, 2, 28))
    settings = by_bot("digest: {hour: 8}\nheartbeat: {hours: 900}")
    assert announce(warehouse, settings, as_of=datetime(2026, 3, 1, 7, 59, tzinfo=UTC)).sent == ()
    [sent] = announce(warehouse, settings, as_of=datetime(2026, 3, 1, 8, tzinfo=UTC)).sent
    assert sent.title == "Daily digest: 1 incident"
    assert announce(warehouse, settings, as_of=datetime(2026, 3, 1, 20, tzinfo=UTC)).sent == ()
    assert len(announce(warehouse, settings, as_of=datetime(2026, 3, 2, 9, tzinfo=UTC)).sent) == 1


@pytest.fixture
def digest(settings):
    """The digest of a day."""

    def tell(con, as_of=AS_OF):
        notice = Notice(kind="digest", channel=folder_of(settings), subjects=("digest:x",))
        return compose.compose(con, notice, settings, as_of=as_of, run_url=None, calendar=())

    return tell


def test_a_digest_tells_each_incident_once_and_counts_the_rest(warehouse, record, make_anomaly, regroup, digest):
    yesterday = date(2026, 2, 28)
    days = {"first_date": yesterday, "last_date": yesterday, "worst_date": yesterday}
    record(*(make_anomaly(n, kpi=f"kpi_{n:02d}", severity="low", **days) for n in range(23)))
    regroup(yesterday)
    with warehouse.read() as con:
        alert = digest(con)
    assert alert.summary == "23 incidents touched the last two days, 23 still going on."
    assert (len({item.name for item in alert.items}), alert.left_out_count, alert.detail) == (20, 3, "")


def test_a_digest_never_calls_well_what_was_not_judged(warehouse, record, digest):
    record()
    with warehouse.write("test") as con:

        def said(judged, ran_at, status="judged", as_of=AS_OF):
            con.execute(
                "update watch.series set status = $1, last_judged_date = $2, judged_at = $3", [status, judged, ran_at]
            )
            return digest(con, as_of).summary

        dead = said("2026-02-01", "2026-02-02 01:00")
        assert dead.startswith("Nothing has been judged since Sun 1 Feb 2026. The detection has not run since")
        assert "`segue refresh`" in dead
        assert "no newer whole day: look whether events arrive" in said("2026-02-01", "2026-03-01 01:00")
        assert "Nothing has been judged yet" in said(None, "2026-03-01 01:00")
        well = "Every series that is watched was as expected on the last two days."
        assert said("2026-02-28", "2026-03-01 01:00") == well
        # A week that was judged is the newest until the next one is over.
        assert said("2026-02-22", "2026-03-01 01:00", "by_week") == well
        late = said("2026-02-22", "2026-03-01 01:00", "by_week", AS_OF + timedelta(days=1))
        assert late.startswith("Nothing has been judged since Sun 22 Feb 2026. The detection has not run")


def test_a_fault_of_the_data_is_named_in_the_alert(warehouse, by_bot, slack_api, record, make_anomaly, regroup):
    record(make_anomaly(0))
    regroup()
    with warehouse.write("test") as con:
        con.execute("update watch.incidents set data_cause = 'Event Order Completed sent nothing on 2026-02-26.'")
    announce(warehouse, by_bot(), as_of=AS_OF)
    assert "Explained by the data, not by people: Event Order Completed" in str(slack_api.messages[0]["blocks"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quiet_hours: {from: 22, until: '07:00'}", "time of day"),
        ("quiet_hours: {from: '22:00', until: '07:00', timezone: Mars/Base}", "no such time zone"),
        ("digest: {hour: 25}", "from 0 to 23"),
        ("rotues: []", "did you mean `routes`"),
    ],
)
def test_mistakes_in_the_policy_are_shown_where_they_are(tmp_path, text, said):
    path = tmp_path / "alerts.yml"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=said) as error:
        load_policy(path)
    assert "line 1" in str(error.value)
