"""Once per anomaly and channel, whatever happens in between."""

import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segue import alerts
from segue.alerts import announce, announce_failure, pending, pending_key, slack
from segue.alerts import announce as announce_function
from segue.errors import BadInputError
from segue.warehouse import Warehouse

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
module = __import__("segue.alerts.compose", fromlist=["compose"])


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(slack.post, "__kwdefaults__", {"pause": lambda seconds: None})


@pytest.fixture(autouse=True)
def _plain_pictures(request, monkeypatch):
    """Drawing takes a second; one test does it for real."""
    if "real_pictures" not in request.fixturenames:
        monkeypatch.setattr(module, "plot_anomaly", lambda con, anomaly_id: b"\x89PNG")
        monkeypatch.setattr(module, "plot_overview", lambda con, ids: b"\x89PNG")


@pytest.fixture
def real_pictures():
    """Ask for this to have the charts drawn."""


@pytest.fixture
def to_slack(with_channels, slack_receiver):
    return with_channels(slack_webhook_url=slack_receiver.url)


def ledger(warehouse):
    with warehouse.read() as con:
        return con.execute(
            "select subject_id, channel, status, attempts from alerts.announcements order by channel, subject_id"
        ).fetchall()


def waiting(warehouse, settings, **options):
    with warehouse.read() as con:
        return pending(con, settings=settings, **options)


def test_several_anomalies_go_out_in_one_message_and_never_again(
    warehouse, to_slack, slack_receiver, record, make_anomaly
):
    record(*(make_anomaly(n) for n in range(30)))
    assert len(waiting(warehouse, to_slack)) == 30
    report = announce(warehouse, to_slack, as_of=AS_OF, run_url="http://127.0.0.1:3000/runs/7")
    assert [(s.channel, s.subject_count) for s in report.sent] == [("slack", 30)]
    for _ in range(3):
        assert announce(Warehouse(to_slack), to_slack, as_of=AS_OF + timedelta(days=1)) == alerts.AnnounceReport()
    assert len(slack_receiver.taken) == 1
    assert waiting(warehouse, to_slack) == []
    assert {row[2:] for row in ledger(warehouse)} == {("sent", 1)}
    assert "http://127.0.0.1:8723/incident/" in str(slack_receiver.taken[0])


def test_what_is_new_is_announced_and_what_was_announced_is_not(
    warehouse, to_slack, slack_receiver, record, make_anomaly
):
    record(make_anomaly(0))
    announce(warehouse, to_slack, as_of=AS_OF)
    record(make_anomaly(1))
    announce(warehouse, to_slack, as_of=AS_OF)
    assert [row[0] for row in ledger(warehouse)] == [make_anomaly(0).anomaly_id, make_anomaly(1).anomaly_id]
    assert "and" not in slack_receiver.taken[1]["blocks"][0]["text"]["text"]


def test_low_severity_and_old_news_are_not_announced(warehouse, to_slack, slack_receiver, record, make_anomaly):
    old = date(2026, 2, 28) - timedelta(days=36)
    record(make_anomaly(0, severity="low"), make_anomaly(1, first_date=old, last_date=old))
    assert announce(warehouse, to_slack, as_of=AS_OF) == alerts.AnnounceReport()
    assert waiting(warehouse, to_slack) == []
    assert slack_receiver.requests == 0


def test_with_nothing_to_say_nothing_is_written(warehouse, settings, record, make_anomaly):
    assert announce(warehouse, settings, as_of=AS_OF) == alerts.AnnounceReport()
    record(make_anomaly(0, severity="low"))
    announce(warehouse, settings, as_of=AS_OF)
    with warehouse.read() as con:
        assert con.execute("select 1 from information_schema.schemata where schema_name = 'alerts'").fetchall() == []


def test_many_senders_at_once_send_one_message(warehouse, to_slack, slack_receiver, record, make_anomaly):
    record(make_anomaly(0))
    threads = [
        threading.Thread(target=announce, args=(Warehouse(to_slack), to_slack), kwargs={"as_of": AS_OF})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(slack_receiver.taken) == 1


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("arrived", [True, False])
def test_a_sender_that_dies_between_pending_and_sent_is_repeated_once_and_then_no_more(
    arrived, warehouse, to_slack, slack_receiver, record, make_anomaly, monkeypatch
):
    record(make_anomaly(0))
    real = slack.post

    def dying(payload, webhook):
        if arrived:
            real(payload, webhook)
        raise Killed

    monkeypatch.setattr(slack, "post", dying)
    with pytest.raises(Killed):
        announce(warehouse, to_slack, as_of=AS_OF)
    assert [row[2:] for row in ledger(warehouse)] == [("pending", 1)]
    assert len(waiting(warehouse, to_slack)) == 1
    with pytest.raises(Killed):
        announce(warehouse, to_slack, as_of=AS_OF)
    monkeypatch.setattr(slack, "post", real)
    before = len(slack_receiver.taken)
    assert before == (2 if arrived else 0)
    assert announce(warehouse, to_slack, as_of=AS_OF) == alerts.AnnounceReport()
    assert len(slack_receiver.taken) == before
    assert [row[2:] for row in ledger(warehouse)] == [("failed", 2)]
    assert waiting(warehouse, to_slack) == []


def test_a_sender_that_died_once_is_made_up_for(warehouse, to_slack, slack_receiver, record, make_anomaly, monkeypatch):
    record(make_anomaly(0))

    def dying(payload, webhook):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(slack, "post", dying)
        with pytest.raises(Killed):
            announce(warehouse, to_slack, as_of=AS_OF)
    announce(warehouse, to_slack, as_of=AS_OF)
    announce(warehouse, to_slack, as_of=AS_OF)
    assert len(slack_receiver.taken) == 1
    assert [row[2:] for row in ledger(warehouse)] == [("sent", 2)]


def test_a_death_after_failures_that_are_known_is_still_made_up_for(
    warehouse, to_slack, slack_receiver, record, make_anomaly, monkeypatch
):
    record(make_anomaly(0))
    slack_receiver.plan = [("answer", (500, "", {}))] * 12
    for _ in range(3):
        announce(warehouse, to_slack, as_of=AS_OF)

    def dying(payload, webhook):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(slack, "post", dying)
        with pytest.raises(Killed):
            announce(warehouse, to_slack, as_of=AS_OF)
    announce(warehouse, to_slack, as_of=AS_OF)
    assert len(slack_receiver.taken) == 1


def test_one_channel_being_down_delays_no_other_and_is_caught_up(
    warehouse, with_channels, slack_receiver, mail_receiver, record, make_anomaly
):
    settings = with_channels(
        slack_webhook_url=slack_receiver.url,
        smtp_url=f"smtp://127.0.0.1:{mail_receiver.port}",
        email_to="a@example.com",
    )
    record(make_anomaly(0))
    slack_receiver.plan = [("answer", (500, "rollup_error", {}))] * 4
    report = announce(warehouse, settings, as_of=AS_OF)
    assert [s.channel for s in report.sent] == ["email"]
    assert [n.channel for n in report.not_sent] == ["slack"]
    assert waiting(warehouse, settings, as_of=AS_OF) == []  # not yet again
    [late] = waiting(warehouse, settings, as_of=AS_OF + timedelta(minutes=1))
    assert (late.channel, late.attempts) == ("slack", 1)
    report = announce(warehouse, settings, as_of=AS_OF + timedelta(minutes=1))
    assert [s.channel for s in report.sent] == ["slack"]
    assert (len(slack_receiver.taken), len(mail_receiver.taken)) == (1, 1)


def test_what_slack_will_never_take_is_kept_in_the_folder_and_not_tried_again(
    warehouse, to_slack, slack_receiver, record, make_anomaly
):
    record(make_anomaly(0))
    slack_receiver.plan = [("answer", (404, "no_service", {}))]
    [failed] = announce(warehouse, to_slack, as_of=AS_OF).not_sent
    assert failed.is_final
    assert "SEGUE_SLACK_WEBHOOK_URL" in failed.reason
    assert len(list((to_slack.home / "alerts").glob("*/preview.html"))) == 1
    announce(warehouse, to_slack, as_of=AS_OF)
    assert slack_receiver.requests == 1
    with warehouse.read() as con:
        everything = str(con.execute("from alerts.announcements").fetchall())
    assert slack_receiver.secret not in everything


def test_the_run_key_of_what_waits_changes_with_each_attempt_only(
    warehouse, to_slack, slack_receiver, record, make_anomaly
):
    record(make_anomaly(0))
    first = pending_key(waiting(warehouse, to_slack))
    assert pending_key(waiting(warehouse, to_slack)) == first
    slack_receiver.plan = [("answer", (500, "", {}))] * 4
    announce(warehouse, to_slack, as_of=AS_OF)
    assert pending_key(waiting(warehouse, to_slack)) != first


def test_without_channels_the_folder_gets_it_once_and_the_ledger_says_where(
    warehouse, settings, record, make_anomaly, real_pictures
):
    record(make_anomaly(0), make_anomaly(1))
    [sent] = announce(warehouse, settings, as_of=AS_OF).sent
    announce(warehouse, settings, as_of=AS_OF)
    preview = Path(sent.where)
    assert preview.is_file()
    assert preview.is_relative_to(settings.home / "alerts")
    assert {p.name for p in preview.parent.iterdir()} >= {"slack.json", "email.eml", "chart-1.png", "overview.png"}
    assert [row[1:3] for row in ledger(warehouse)] == [("folder", "sent")] * 2
    assert len(list((settings.home / "alerts").glob("*/"))) == 1


def test_pictures_that_cannot_be_drawn_hold_up_nothing(warehouse, settings, record, make_anomaly, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("no font")

    monkeypatch.setattr(module, "plot_anomaly", broken)
    record(make_anomaly(0))
    [sent] = announce(warehouse, settings, as_of=AS_OF).sent
    assert {p.name for p in Path(sent.where).parent.iterdir()} == {"slack.json", "email.eml", "preview.html"}


def failure(**changes):
    return {
        "kind": "run_failed",
        "subject_id": "run-1",
        "title": "Run of refresh failed",
        "detail": "model power_users: no such column",
        "url": "http://127.0.0.1:3000/runs/run-1",
        "as_of": AS_OF,
        **changes,
    }


def test_a_failure_is_announced_once_per_subject(warehouse, to_slack, slack_receiver):
    for _ in range(3):
        announce_failure(warehouse, to_slack, **failure())
    announce_failure(warehouse, to_slack, **failure(kind="check_failed", subject_id="run-1:marts/sessions:unique"))
    assert len(slack_receiver.taken) == 2
    assert "no such column" in str(slack_receiver.taken[0])


def test_a_failure_that_could_not_be_told_is_told_with_the_next_announcement(warehouse, to_slack, slack_receiver):
    slack_receiver.plan = [("answer", (503, "", {}))] * 4
    [missed] = announce_failure(warehouse, to_slack, **failure()).not_sent
    assert not missed.is_final
    assert [p.kind for p in waiting(warehouse, to_slack)] == ["run_failed"]
    [sent] = announce(warehouse, to_slack, as_of=AS_OF).sent
    assert sent.title == "Run of refresh failed"
    assert len(slack_receiver.taken) == 1
    assert announce(warehouse, to_slack, as_of=AS_OF) == alerts.AnnounceReport()


def test_a_failure_said_again_and_again_while_slack_is_down_uses_up_no_attempts(warehouse, to_slack, slack_receiver):
    slack_receiver.plan = [("answer", (503, "", {}))] * 100
    for second in range(0, 60, 15):
        announce_failure(warehouse, to_slack, **failure(as_of=AS_OF + timedelta(seconds=second)))
    assert ledger(warehouse) == [("run-1", "slack", "failed", 1)]
    slack_receiver.plan = []
    announce_failure(warehouse, to_slack, **failure(as_of=AS_OF + timedelta(minutes=1)))
    assert ledger(warehouse) == [("run-1", "slack", "sent", 2)]


def test_an_unknown_kind_of_failure_is_refused(warehouse, settings):
    with pytest.raises(BadInputError, match="run_failed, check_failed"):
        announce_failure(warehouse, settings, **failure(kind="anomaly"))


def test_the_commands_list_what_was_found_and_told(warehouse, settings, record, make_anomaly, monkeypatch):
    import typer

    from segue.cli import alerts as commands

    app = typer.Typer()
    commands.register(app)
    monkeypatch.setenv("SEGUE_HOME", str(settings.home))
    run = CliRunner().invoke
    assert run(app, ["anomalies", "list"]).exit_code == 0
    record(make_anomaly(0))
    announce_function(warehouse, settings, as_of=AS_OF)
    assert '"anomaly_id": "00000000000000000000"' in run(app, ["anomalies", "list", "--format", "json"]).output
    assert "Sessions" in run(app, ["anomalies", "list"]).output
    listed = run(app, ["alerts", "list", "--format", "csv"]).output
    assert "folder,sent,anomaly,1,1" in listed
    assert "preview.html" in run(app, ["alerts", "test"]).output
    assert "judged" in run(app, ["anomalies", "series"]).output
