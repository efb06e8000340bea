"""What an alert says, and that no value from the data can make it say something else."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from email import message_from_bytes, policy
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.alerts import Alert, anomaly_alert, check_failed_alert, html, mail, run_failed_alert, slack
from segue.alerts import folder as folder_module

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
RUN = "http://127.0.0.1:3000/runs/abc?x=1&y=2"


def judged(alert, verdict):
    body = json.dumps(slack.render(alert)).encode()
    return verdict("application/json", body)


def test_one_anomaly_says_what_moved_by_how_much_since_when_where_and_leads_to_the_run(make_anomaly, verdict):
    alert = anomaly_alert([make_anomaly(slice="segment=power_users")], as_of=AS_OF, url=RUN)
    assert alert.title == "Sessions, segment power users −81 % on Thu 26 Feb 2026"
    payload = slack.render(alert)
    everything = json.dumps(payload, ensure_ascii=False)
    for said in (
        "Sessions, segment power users",
        "fell to 41",
        "81 % below",
        "214",
        "174 to 263",
        "Thu 26 Feb 2026",
        "high",
    ):
        assert said in everything
    assert "<http://127.0.0.1:3000/runs/abc?x=1&amp;y=2|Open the run in Dagster>" in everything
    assert judged(alert, verdict) == (200, "ok")


def test_an_anomaly_that_reaches_the_last_judged_day_is_said_to_go_on(make_anomaly):
    long = make_anomaly(first_date=date(2026, 2, 26), last_date=date(2026, 2, 28))
    alert = anomaly_alert([long], as_of=AS_OF, known_until=date(2026, 2, 28))
    assert "since Thu 26 Feb 2026, still going on" in alert.title


@pytest.mark.parametrize("count", [1, 2, 5, 6, 20, 21, 80, 500])
def test_any_number_of_anomalies_is_one_message_within_slacks_limits_most_severe_first(count, make_anomaly, verdict):
    severities = ["low", "medium", "high"]
    many = [make_anomaly(n, severity=severities[n % 3], score=5 + n / 100) for n in range(count)]
    alert = anomaly_alert(many, as_of=AS_OF, url=RUN)
    assert judged(alert, verdict) == (200, "ok")
    shown = [severities.index(item.severity) for item in alert.items]
    assert shown == sorted(shown, reverse=True)
    assert len(alert.items) + alert.left_out_count == count
    if count > 20:
        assert f"… and {count - 20} more." in json.dumps(slack.render(alert), ensure_ascii=False)


def test_a_series_that_moved_twice_is_one(make_anomaly):
    twice = [make_anomaly(n, slice="all", first_date=date(2026, 2, d)) for n, d in enumerate((20, 26))]
    alert = anomaly_alert(twice, as_of=AS_OF)
    assert alert.summary.startswith("1 series left its expected range 2 times (2 high), starting between")
    alert = anomaly_alert([*twice, make_anomaly(2)], as_of=AS_OF)
    assert alert.summary.startswith("2 series left their expected range 3 times (3 high), starting between")


def test_a_digest_of_one_incident_names_it(make_anomaly):
    alert = anomaly_alert([make_anomaly(slice="segment=power_users")], as_of=AS_OF, url=RUN)
    digest = replace(alert, kind="digest", title="Daily digest: 1 incident", summary="1 incident touched them.")
    for said in (json.dumps(slack.render(digest), ensure_ascii=False), html.body(digest, str), html.text(digest)):
        assert "Sessions, segment power users fell to 41" in said


def hostile_alerts(names, make_anomaly) -> list[Alert]:
    anomalies = [make_anomaly(n, kpi=name, slice=f"platform={name}", anomaly_id=f"{n}") for n, name in enumerate(names)]
    text = "\n".join(names)
    return [
        *(anomaly_alert([a], as_of=AS_OF, url=RUN) for a in anomalies),
        anomaly_alert(anomalies, as_of=AS_OF, url=f"javascript:alert('{names[0]}')"),
        run_failed_alert(subject_id="r", title=names[0], detail=text, url=RUN, as_of=AS_OF),
        check_failed_alert(subject_id="c", title=text, detail=text * 20, url='http://x/"><script>', as_of=AS_OF),
    ]


def test_hostile_names_neither_break_slacks_limits_nor_mention_anybody(hostile, make_anomaly, verdict, mentioned):
    for alert in hostile_alerts(hostile, make_anomaly):
        assert judged(alert, verdict) == (200, "ok")
        assert mentioned(slack.render(alert)) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(names=st.lists(st.text(st.characters(codec="utf-8"), max_size=2000), min_size=1, max_size=8))
def test_no_name_at_all_breaks_slacks_limits_or_mentions_anybody(names, make_anomaly, verdict, mentioned):
    for alert in hostile_alerts(names, make_anomaly):
        assert judged(alert, verdict) == (200, "ok")
        assert mentioned(slack.render(alert)) == []


ELEMENTS = {"html", "head", "meta", "title", "body", "div", "span", "table", "tr", "td", "h1", "p", "a", "img", "b"}
ELEMENTS |= {"br"}
ATTRIBUTES = {"lang", "charset", "name", "content", "style", "role", "width", "cellpadding", "cellspacing"}
ATTRIBUTES |= {"href", "src", "alt"}


class Tags(HTMLParser):
    """Which elements and attributes a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_hostile_names_stay_text_in_html(hostile, make_anomaly):
    for alert in hostile_alerts(hostile, make_anomaly):
        for text in (html.page(alert, lambda name: f"{name}.png"), folder_module._page(alert, slack.render(alert))):
            seen = Tags(text)
            assert seen.names <= ELEMENTS
            assert seen.attributes <= ATTRIBUTES
            assert all(link.startswith("http://127.0.0.1:3000/") or link.endswith(".png") for link in seen.links)


def test_bad_input_slack_makes_no_link_and_fetches_nothing_of_what_an_event_is_named(make_anomaly):
    payload = slack.render(anomaly_alert([make_anomaly(slice="page=https://evil.example/a.png")], as_of=AS_OF, url=RUN))
    assert payload["unfurl_links"] is payload["unfurl_media"] is False
    texts = [b["text"] for b in payload["blocks"] if "text" in b]
    texts += [t for b in payload["blocks"] for t in (*b.get("fields", ()), *b.get("elements", ()))]
    assert all(text["verbatim"] for text in texts if text["type"] == "mrkdwn")


def test_hostile_names_stay_in_their_mail_header(hostile, make_anomaly):
    for alert in hostile_alerts(hostile, make_anomaly):
        sent = mail.compose(alert, sender="segue@localhost", to=["a@example.com"])
        read = message_from_bytes(bytes(sent), policy=policy.default)
        assert read["Bcc"] is None
        assert [part.get_content_type() for part in read.iter_parts()] == ["text/plain", "text/html"]
        assert read["Subject"].startswith("[Segue] ")
        assert len(read["Subject"]) <= 180


def test_the_preview_shows_slacks_bold_links_and_escapes_as_slack_does():
    shown = folder_module._mrkdwn("*<http://x/?a=1&amp;b=2|Open>* 1 &lt; 2 &amp; <!channel>\n> quoted")
    assert '<a href="http://x/?a=1&amp;b=2"' in shown
    assert ">Open</a></b>" in shown
    assert "1 &lt; 2 &amp; &lt;!channel&gt;" in shown
    assert re.search(r"border-left[^>]*>quoted</div>", shown)


def blocks(*found):
    return json.dumps({"blocks": list(found)}).encode()


def section(text):
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


@pytest.mark.parametrize(
    ("request_type", "body", "answer"),
    [
        ("text/plain", b"{}", "invalid_payload"),
        ("application/json", b"{", "invalid_payload"),
        ("application/json", b"{}", "no_text"),
        ("application/json", blocks(*[{"type": "divider"}] * 51), "invalid_blocks"),
        ("application/json", blocks({"type": "header", "text": {"type": "mrkdwn", "text": "x"}}), "invalid_blocks"),
        ("application/json", blocks(section("")), "invalid_blocks"),
        ("application/json", blocks(section("x" * 3001)), "invalid_blocks"),
        ("application/json", blocks({"type": "image", "image_url": "file:///x", "alt_text": "x"}), "invalid_blocks"),
    ],
)
def test_the_receiver_is_as_strict_as_slack(request_type, body, answer, verdict):
    assert verdict(request_type, body) == (400, answer)


def test_an_alert_survives_the_ledger(make_anomaly):
    alert = anomaly_alert([make_anomaly(n) for n in range(3)], as_of=AS_OF, url=RUN)
    assert Alert.from_json(json.loads(json.dumps(alert.to_json()))) == alert
