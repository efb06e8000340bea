"""Slack, mail and folder against receivers that behave and misbehave as real ones do."""

import json
import logging
import ssl
import subprocess
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest

from segue.alerts import DeliveryError, anomaly_alert, channels_of, folder, mail, run_failed_alert, send_sample, slack
from segue.alerts.html import page
from segue.errors import BadSettingError

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100


@pytest.fixture
def alert(make_anomaly):
    many = [make_anomaly(n) for n in range(4)]
    charts = {a.anomaly_id: PNG + bytes([n]) for n, a in enumerate(many)}
    return anomaly_alert(many, as_of=AS_OF, url="http://127.0.0.1:3000/runs/1", overview=PNG, charts=charts)


class Pauses:
    def __init__(self):
        self.seconds = []

    def __call__(self, seconds):
        self.seconds.append(seconds)


def test_slack_takes_the_message_as_it_is(slack_receiver, alert):
    slack.post(slack.render(alert), slack_receiver.url)
    assert slack_receiver.taken == [slack.render(alert)]


def test_slack_asking_to_wait_is_waited_for(slack_receiver, alert):
    slack_receiver.plan = [("answer", (429, "rate_limited", {"Retry-After": "7"}))]
    pauses = Pauses()
    slack.post(slack.render(alert), slack_receiver.url, pause=pauses)
    assert pauses.seconds == [7.0]
    assert len(slack_receiver.taken) == 1


def test_slack_asking_for_too_long_a_wait_is_left_for_later(slack_receiver, alert):
    slack_receiver.plan = [("answer", (429, "rate_limited", {"Retry-After": "3600"}))]
    pauses = Pauses()
    with pytest.raises(DeliveryError, match="429 rate_limited") as caught:
        slack.post(slack.render(alert), slack_receiver.url, pause=pauses)
    assert not caught.value.is_final
    assert pauses.seconds == []


def test_errors_of_slack_and_broken_connections_are_retried_with_growing_pauses(slack_receiver, alert):
    slack_receiver.plan = [("answer", (500, "rollup_error", {})), ("drop", None)]
    pauses = Pauses()
    slack.post(slack.render(alert), slack_receiver.url, pause=pauses)
    assert 0.5 <= pauses.seconds[0] <= 1.0
    assert 1.0 <= pauses.seconds[1] <= 2.0
    assert len(slack_receiver.taken) == 1


def test_a_slack_that_never_answers_is_given_up_in_bounded_time(slack_receiver, alert, monkeypatch):
    monkeypatch.setattr(slack, "_ANSWER", 0.05)
    slack_receiver.plan = [("slow", 0.3)] * 10
    with pytest.raises(DeliveryError, match="ReadTimeout") as caught:
        slack.post(slack.render(alert), slack_receiver.url, pause=Pauses())
    assert not caught.value.is_final
    assert slack_receiver.requests == 4


@pytest.mark.parametrize(
    ("status", "word"),
    [(400, "invalid_blocks"), (403, "action_prohibited"), (404, "no_service"), (410, "channel_is_archived"), (302, "")],
)
def test_what_slack_will_never_take_is_not_retried(status, word, slack_receiver, alert):
    slack_receiver.plan = [("answer", (status, word, {"Location": "http://127.0.0.1:1/"}))]
    with pytest.raises(DeliveryError, match=f"{status} {word}".strip()) as caught:
        slack.post(slack.render(alert), slack_receiver.url, pause=Pauses())
    assert caught.value.is_final
    assert slack_receiver.requests == 1


@pytest.mark.parametrize("plan", [("drop", None), ("answer", (500, "oops", {})), ("answer", (404, "ECHO", {}))])
def test_the_webhook_is_in_no_error_and_no_log(plan, slack_receiver, alert, caplog, monkeypatch):
    if plan[0] == "answer" and plan[1][1] == "ECHO":
        plan = ("answer", (404, f"no_service {slack_receiver.url} {slack_receiver.secret}", {}))
    slack_receiver.plan = [plan] * 4
    with caplog.at_level(logging.DEBUG), pytest.raises(DeliveryError) as caught:
        slack.post(slack.render(alert), slack_receiver.url, pause=Pauses())
    told = caplog.text + str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    for part in slack_receiver.secret.split("/"):
        assert part not in told


@pytest.mark.parametrize(
    "address", ["ftp://x/secret", "hooks.slack.com/services/secret", "http://evil.example/secret", "https://"]
)
def test_an_address_that_is_no_webhook_is_refused_without_repeating_it(address, alert):
    with pytest.raises(BadSettingError, match="SEGUE_SLACK_WEBHOOK_URL") as caught:
        slack.post(slack.render(alert), address)
    assert "secret" not in str(caught.value)


def test_a_mail_has_text_html_and_the_charts_inside_it(mail_receiver, alert):
    server = mail.parse_server(f"smtp://127.0.0.1:{mail_receiver.port}")
    where = mail.send(
        mail.compose(alert, sender="Segue <segue@example.com>", to=["a@example.com", "b@example.com"]), server
    )
    assert where == "to 2 receivers"
    [message] = mail_receiver.taken
    assert mail_receiver.envelopes == [("segue@example.com", ["a@example.com", "b@example.com"])]
    assert message.get_content_type() == "multipart/alternative"
    text, rich = message.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert "Sessions fell to 41" in text.get_content()
    body = rich.get_body(("html",))
    pictures = {part["Content-ID"].strip("<>"): part for part in rich.iter_attachments()}
    assert len(pictures) == 4  # the overview and the first three
    for cid, part in pictures.items():
        assert f"cid:{cid}" in body.get_content()
        assert part.get_content_type() == "image/png"
        assert part.get_content().startswith(PNG[:8])
        assert part.get_content_disposition() == "inline"


def test_the_same_alert_has_the_same_message_id(alert):
    ids = {mail.compose(alert, sender="s@example.com", to=["a@example.com"])["Message-ID"] for _ in range(2)}
    assert len(ids) == 1


def test_user_and_password_are_sent_as_they_were_meant(mail_receiver, alert):
    server = mail.parse_server(f"smtp://user%40example.com:p%40ss%2Fword@127.0.0.1:{mail_receiver.port}")
    mail.send(mail.compose(alert, sender="s@example.com", to=["a@example.com"]), server)
    assert mail_receiver.logins == [("user@example.com", "p@ss/word")]


def test_a_wrong_password_is_final_and_never_repeated(mail_receiver, alert, caplog):
    server = mail.parse_server(f"smtp://user:hunter2hunter2@127.0.0.1:{mail_receiver.port}")
    with caplog.at_level(logging.DEBUG), pytest.raises(DeliveryError) as caught:
        mail.send(mail.compose(alert, sender="s@example.com", to=["a@example.com"]), server)
    assert caught.value.is_final
    assert "hunter2" not in caplog.text + str(caught.value) + repr(server)


def test_a_password_is_not_sent_in_the_clear_to_another_machine(mail_receiver, alert, monkeypatch):
    monkeypatch.setattr(mail, "_LOOPBACK", ())
    server = mail.parse_server(f"smtp://user:hunter2hunter2@127.0.0.1:{mail_receiver.port}")
    with pytest.raises(DeliveryError, match="offers no encryption"):
        mail.send(mail.compose(alert, sender="s@example.com", to=["a@example.com"]), server)
    assert mail_receiver.logins == []


@pytest.mark.parametrize(("answer", "is_final"), [("451 later", False), ("554 never p@ss/word", True)])
def test_the_servers_answer_decides_whether_to_try_again(answer, is_final, mail_receiver, alert):
    mail_receiver.refuse = answer
    server = mail.parse_server(f"smtp://user%40example.com:p%40ss%2Fword@127.0.0.1:{mail_receiver.port}")
    with pytest.raises(DeliveryError, match=answer[:3]) as caught:
        mail.send(mail.compose(alert, sender="s@example.com", to=["a@example.com"]), server)
    assert caught.value.is_final is is_final
    assert "p@ss" not in str(caught.value)


def test_nobody_listening_is_an_error_that_may_pass(alert):
    with pytest.raises(DeliveryError, match="ConnectionRefusedError") as caught:
        mail.send(
            mail.compose(alert, sender="s@example.com", to=["a@example.com"]), mail.parse_server("smtp://127.0.0.1:9")
        )
    assert not caught.value.is_final


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("smtp://mail.example.com", ("mail.example.com", 25, False)),
        ("smtp://u:p@mail.example.com", ("mail.example.com", 587, False)),
        ("smtps://mail.example.com", ("mail.example.com", 465, True)),
        ("smtp://[::1]:2525", ("::1", 2525, False)),
    ],
)
def test_addresses_of_servers_are_read(url, where):
    server = mail.parse_server(url)
    assert (server.host, server.port, server.is_tls) == where


@pytest.mark.parametrize("url", ["mail.example.com:25", "http://u:secret@x", "smtp://u:secret@x:notaport", "smtp://"])
def test_a_wrong_address_of_a_server_is_refused_without_repeating_it(url):
    with pytest.raises(BadSettingError, match="SEGUE_SMTP_URL") as caught:
        mail.parse_server(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("to", ["", " , ", "nobody", "a@b\r\nBcc: c@d"])
def test_receivers_must_be_addresses(to):
    with pytest.raises(BadSettingError, match="SEGUE_EMAIL_TO"):
        mail.receivers(to)


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_mail_goes_over_tls_only_to_a_server_whose_certificate_holds(scheme, start_mail, alert, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    receiver = start_mail(ssl_context=context) if scheme == "smtps" else start_mail(tls_context=context)
    server = mail.parse_server(f"{scheme}://127.0.0.1:{receiver.port}")
    message = mail.compose(alert, sender="s@example.com", to=["a@example.com"])
    with pytest.raises(DeliveryError, match="certificate") as caught:
        mail.send(message, server)
    assert caught.value.is_final
    assert receiver.taken == []
    mail.send(message, server, tls=ssl.create_default_context(cafile=str(tmp_path / "cert.pem")))
    assert len(receiver.taken) == 1


def test_the_folder_holds_the_exact_payload_the_exact_mail_a_page_and_the_charts(tmp_path, alert):
    where = folder.write(alert, tmp_path / "alerts", sender="s@example.com", to=[])
    assert sorted(p.name for p in where.iterdir()) == [
        "chart-1.png", "chart-2.png", "chart-3.png", "email.eml", "overview.png", "preview.html", "slack.json",
    ]  # fmt: skip
    assert json.loads((where / "slack.json").read_text()) == slack.render(alert)
    message = message_from_bytes((where / "email.eml").read_bytes(), policy=policy.default)
    assert message["Subject"] == f"[Segue] high: {alert.title}"
    shown = (where / "preview.html").read_text()
    for name in ("overview", "chart-1", "chart-2", "chart-3"):
        assert f'src="{name}.png"' in shown
    assert folder.write(alert, tmp_path / "alerts", sender="s@example.com", to=[]) == where
    assert [p.name for p in (tmp_path / "alerts").iterdir()] == [where.name]


def test_a_folder_that_cannot_be_written_is_said_to_be_so(tmp_path, alert):
    (tmp_path / "alerts").write_text("a file in the way")
    with pytest.raises(DeliveryError, match="cannot write"):
        folder.write(alert, tmp_path / "alerts", sender="s@example.com", to=[])


def test_a_failure_keeps_the_lines_of_its_reason(alert):
    failed = run_failed_alert(subject_id="r", title="Run failed", detail="one\n\ntwo", url=None, as_of=AS_OF)
    assert "one\ntwo" in page(failed, str)
    assert "> one\n> two" in json.dumps(slack.render(failed), ensure_ascii=False).replace("\\n", "\n")


def test_the_settings_choose_the_channels(with_channels):
    assert [c.name for c in channels_of(with_channels())] == ["folder"]
    assert [c.name for c in channels_of(with_channels(slack_webhook_url="https://hooks.slack.com/services/x"))] == [
        "slack"
    ]
    both = with_channels(
        slack_webhook_url="https://hooks.slack.com/services/x", smtp_url="smtp://localhost", email_to="a@example.com"
    )
    assert [c.name for c in channels_of(both)] == ["slack", "email"]
    with pytest.raises(BadSettingError, match="SEGUE_EMAIL_TO"):
        channels_of(with_channels(smtp_url="smtp://localhost"))


def test_a_sample_reaches_every_channel_and_says_where_it_went(with_channels, slack_receiver, mail_receiver):
    settings = with_channels(
        slack_webhook_url=slack_receiver.url,
        smtp_url=f"smtp://127.0.0.1:{mail_receiver.port}",
        email_to="a@example.com",
    )
    report = send_sample(settings, as_of=AS_OF)
    assert [(s.channel, s.where) for s in report.sent] == [
        ("slack", "the channel of the webhook"),
        ("email", "to 1 receiver"),
    ]
    assert slack_receiver.taken[0]["blocks"][0]["text"]["text"].startswith(":large_orange_circle: Test: Conversion")
    assert mail_receiver.taken[0]["Subject"].startswith("[Segue] medium: Test: Conversion")
