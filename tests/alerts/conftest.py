"""Anomalies to announce, and receivers that are as strict as the real ones."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from segue.settings import Settings
from segue.warehouse import Warehouse, insert_rows
from segue.watch import Anomaly, ensure_tables
from tests.alerts.slack_web_api import slack_api  # noqa: F401 — a fixture
from tests.anomaly import outage

HOSTILE = [
    "<script>alert(1)</script>",
    "<!channel> <!here> <@U024BE7LH> <https://evil.example|click>",
    "a&b <b> \"quoted\" 'single'",
    "x" * 10_000,
    "🎉" * 500,
    "line\r\nBcc: victim@example.com\r\n\r\nbody",
    "\u202egnp.exe\u200b\x00\x1b[31m",
    "*bold* _it_ ~no~ `code` > quote",
    "&" * 4000,
    "",
]


def anomaly(n: int = 0, **changes: Any) -> Anomaly:
    """The n-th of several of one day."""
    day = date(2026, 2, 26)
    one = {"anomaly_id": f"{n:020d}", "slice": "all" if n == 0 else f"platform=p{n}", "first_date": day}
    one |= {"last_date": day, "worst_date": day, "detected_at": datetime(2026, 2, 27, tzinfo=UTC)}
    return outage(**{**one, **changes})


@pytest.fixture
def make_anomaly() -> Callable[..., Anomaly]:
    return anomaly


@pytest.fixture
def hostile() -> list[str]:
    return HOSTILE


@pytest.fixture
def record(warehouse: Warehouse) -> Callable[..., None]:
    """Puts anomalies, and the KPIs they lie in, on record."""

    def put(*anomalies: Anomaly) -> None:
        with warehouse.write("test") as con:
            ensure_tables(con)
            con.execute("create schema if not exists kpis")
            con.execute(
                "create table if not exists kpis.daily "
                "(kpi varchar, slice varchar, date date, value double, numerator double, denominator double)"
            )
            con.execute("delete from watch.series")
            con.execute("delete from kpis.daily")
            con.execute(
                "insert into watch.series (kpi, slice, status, last_judged_date) "
                "values ('sessions', 'all', 'judged', '2026-02-28')"
            )
            rows = []
            for a in anomalies:
                row = [a.anomaly_id, a.kpi, a.slice, a.first_date, a.last_date, a.value, a.expected, a.lower, a.upper]
                row += [a.severity, a.direction, a.detected_at.replace(tzinfo=None), a.worst_date, a.score]
                row += [a.denominator, a.kind, a.grain]
                rows.append(row)
            names = [column[0] for column in con.execute("from watch.anomalies limit 0").description or []]
            if rows:
                insert_rows(con, "watch.anomalies", names, rows)
            con.execute(
                "insert into kpis.daily select a.kpi, a.slice, date '2026-02-01' + d::int, 200 + d % 7, null, null "
                "from (select distinct kpi, slice from watch.anomalies) a, range(28) r(d)"
            )

    return put


# ── Slack ────────────────────────────────────────────────────────────────────────────────────────────────────────

_MENTION = re.compile(r"<(?!https?://[^<>|\s]+(\|[^<>]+)?>)")


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _is_text(value: Any, kinds: tuple[str, ...], limit: int) -> bool:
    if not isinstance(value, dict) or value.get("type") not in kinds or not isinstance(value.get("text"), str):
        return False
    allowed = {"type", "text"} | ({"emoji"} if value["type"] == "plain_text" else {"verbatim"})
    return set(value) <= allowed and 1 <= _length(value["text"]) <= limit


def _is_block(block: Any) -> bool:
    if (
        not isinstance(block, dict)
        or not isinstance(block.get("block_id", ""), str)
        or len(block.get("block_id", "")) > 255
    ):
        return False
    keys = set(block) - {"type", "block_id"}
    both = ("plain_text", "mrkdwn")
    match block.get("type"):
        case "divider":
            return not keys
        case "header":
            return keys == {"text"} and _is_text(block["text"], ("plain_text",), 150)
        case "section":
            if not keys <= {"text", "fields", "accessory", "expand"} or not keys & {"text", "fields"}:
                return False
            fields = block.get("fields", [None])
            return ("text" not in block or _is_text(block["text"], both, 3000)) and (
                "fields" not in block
                or (
                    isinstance(fields, list) and 1 <= len(fields) <= 10 and all(_is_text(f, both, 2000) for f in fields)
                )
            )
        case "context":
            elements = block.get("elements")
            return (
                keys == {"elements"}
                and isinstance(elements, list)
                and 1 <= len(elements) <= 10
                and all(_is_text(e, both, 2000) for e in elements)
            )
        case "image":
            url, alt = block.get("image_url"), block.get("alt_text")
            return (
                keys <= {"image_url", "alt_text", "title"}
                and isinstance(url, str)
                and url.startswith("https://")
                and len(url) <= 3000
                and isinstance(alt, str)
                and 1 <= len(alt) <= 2000
                and ("title" not in block or _is_text(block["title"], ("plain_text",), 2000))
            )
    return False


def slack_verdict(content_type: str, body: bytes) -> tuple[int, str]:
    """What Slack's incoming webhook answers to this request."""
    if not content_type.startswith("application/json"):
        return 400, "invalid_payload"
    try:
        payload = json.loads(body)
    except ValueError:
        return 400, "invalid_payload"
    if not isinstance(payload, dict):
        return 400, "invalid_payload"
    text, blocks = payload.get("text"), payload.get("blocks")
    if text is not None and not isinstance(text, str):
        return 400, "invalid_payload"
    if blocks is None and not text:
        return 400, "no_text"
    if text is not None and len(text) > 40_000:
        return 400, "msg_too_long"
    if blocks is not None:
        if not isinstance(blocks, list):
            return 400, "invalid_blocks_format"
        if len(blocks) > 50 or not all(map(_is_block, blocks)):
            return 400, "invalid_blocks"
    return 200, "ok"


def mentions(payload: dict[str, Any]) -> list[str]:
    """Texts in which Slack would find something to act on other than a plain link."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if value.get("type") == "mrkdwn":
                yield value["text"]
            for inner in value.values():
                yield from texts(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from texts(inner)

    return [t for t in [payload["text"], *texts(payload["blocks"])] if _MENTION.search(t)]


@pytest.fixture
def verdict() -> Callable[[str, bytes], tuple[int, str]]:
    return slack_verdict


@pytest.fixture
def mentioned() -> Callable[[dict[str, Any]], list[str]]:
    return mentions


class SlackReceiver:
    """A local stand-in for hooks.slack.com. `plan` says how to treat the next requests before it behaves."""

    def __init__(self) -> None:
        self.plan: list[tuple[str, Any]] = []
        self.taken: list[dict[str, Any]] = []
        self.requests = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.requests += 1
                what, value = receiver.plan.pop(0) if receiver.plan else ("judge", None)
                if what == "drop":
                    self.close_connection = True
                    self.connection.close()
                    return
                if what == "slow":
                    time.sleep(value)
                status, answer, headers = 200, "ok", {}
                if what == "answer":
                    status, answer, headers = value
                else:
                    status, answer = slack_verdict(self.headers.get("Content-Type", ""), body)
                    if status == 200:
                        receiver.taken.append(json.loads(body))
                try:
                    self.send_response(status)
                    for name, text in headers.items():
                        self.send_header(name, text)
                    self.end_headers()
                    self.wfile.write(answer.encode())
                except OSError:
                    pass

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.secret = "T0SECRET/B0SECRET/hunter2hunter2"
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/{self.secret}"


@pytest.fixture
def slack_receiver() -> Iterator[SlackReceiver]:
    receiver = SlackReceiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


# ── Mail ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class MailReceiver:
    """A real SMTP server; `refuse` is answered instead of taking the next message."""

    def __init__(self, **options: Any) -> None:
        self.taken: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.logins: list[tuple[str, str]] = []
        self.refuse: str | None = None
        receiver = self

        class Handler:
            async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
                if receiver.refuse is not None:
                    return receiver.refuse
                receiver.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
                message = message_from_bytes(envelope.content, policy=policy.default)
                assert isinstance(message, EmailMessage)
                receiver.taken.append(message)
                return "250 taken"

        def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            login = (data.login.decode(), data.password.decode())
            receiver.logins.append(login)
            known = login == ("user@example.com", "p@ss/word")
            return AuthResult(success=known, handled=known)

        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.controller = Controller(
            Handler(),
            hostname="127.0.0.1",
            port=self.port,
            authenticator=authenticate,
            auth_require_tls=False,
            ready_timeout=60.0,
            **options,
        )


@pytest.fixture
def start_mail() -> Iterator[Callable[..., MailReceiver]]:
    started = []

    def start(**options: Any) -> MailReceiver:
        receiver = MailReceiver(**options)
        receiver.controller.start()
        started.append(receiver)
        return receiver

    yield start
    for receiver in started:
        receiver.controller.stop()


@pytest.fixture
def mail_receiver(start_mail: Callable[..., MailReceiver]) -> MailReceiver:
    return start_mail()


@pytest.fixture
def with_channels(settings: Settings) -> Callable[..., Settings]:
    """The settings with Slack and e-mail pointed at the receivers."""

    def build(**overrides: Any) -> Settings:
        return Settings(home=settings.home, _env_file=None, **overrides)  # type: ignore[call-arg]

    return build


@pytest.fixture
def by_bot(settings: Settings, slack_api: Any, tmp_path: Path) -> Callable[..., Settings]:  # noqa: F811
    """Settings with a bot token, and an empty policy."""
    (tmp_path / "project").mkdir()

    def build(policy: str = "heartbeat: {hours: 900}", **more: Any) -> Settings:
        (tmp_path / "project" / "alerts.yml").write_text(policy)
        return Settings(
            home=settings.home,
            dbt_project=tmp_path / "project",
            slack_token=slack_api.token,
            slack_api_url=slack_api.url,
            _env_file=None,
            **{"slack_channel": "#alerts", **more},
        )  # type: ignore[call-arg]

    return build
