"""Slack: the alert as Block Kit, and the incoming webhook that takes it.

Limits as documented by Slack for blocks in messages: 50 blocks; header 150 characters of plain text; section
text 3,000, at most 10 fields of 2,000; context at most 10 elements. A webhook cannot upload a picture, and an
image block needs an address that Slack's servers can reach, so the message links to the run instead.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from segue.alerts.errors import DeliveryError
from segue.alerts.message import Alert, Item
from segue.errors import BadSettingError
from segue.watch import clean

MAX_BLOCKS, MAX_HEADER, MAX_SECTION, MAX_FIELD, MAX_FALLBACK = 50, 150, 3000, 2000, 3000
#: With a sentence each; further ones in a line each.
_ITEMS_IN_FULL = 5

_MARKS = {"high": ":red_circle:", "medium": ":large_orange_circle:", "low": ":large_yellow_circle:"}

#: Seconds: to connect, to wait for an answer, for all attempts together.
_CONNECT, _ANSWER, _PATIENCE = 5.0, 10.0, 30.0
_ATTEMPTS = 4


def escape(text: str) -> str:
    """The three characters that mean something in Slack's mrkdwn, so that no value can mention or link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render(alert: Alert) -> dict[str, Any]:
    """The payload for an incoming webhook."""
    mark = _MARKS[alert.severity]
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": _cut(f"{mark} {alert.title}", MAX_HEADER), "emoji": True},
        }
    ]
    blocks.append(_section(escape(alert.summary)))
    if alert.is_one_item:
        blocks.append(_facts(alert.items[0]))
        lines = []
    else:
        blocks += [_item(item) for item in alert.items[:_ITEMS_IN_FULL]]
        lines = [_line(item) for item in alert.items[_ITEMS_IN_FULL:]]
    if alert.left_out_count:
        lines.append(f"… and {alert.left_out_count} more.")
    if lines:
        blocks += _sections(lines)
    if alert.detail:
        quoted = [f"> {escape(line)}" for line in alert.detail.splitlines()]
        blocks += _sections(quoted)
    if alert.url is not None:
        blocks.append(_section(f"*<{escape(alert.url)}|{escape(alert.link_text)}>*"))
    blocks.append({"type": "context", "elements": [_words(escape(_footer(alert)))]})
    fallback = _cut_escaped(escape(f"{mark} {alert.title}. {alert.summary}"), MAX_FALLBACK)
    return {"text": fallback, "blocks": blocks[:MAX_BLOCKS], "unfurl_links": False, "unfurl_media": False}


def _words(text: str) -> dict[str, Any]:
    """Text with our own marks. Verbatim: Slack makes no link of an address or a name that an event brought along."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _item(item: Item) -> dict[str, Any]:
    head = f"{_MARKS[item.severity]} *{escape(item.name)}*  {escape(item.change)}"
    return _section(f"{head}\n{escape(item.sentence)}")


def _facts(item: Item) -> dict[str, Any]:
    texts = [_cut_escaped(f"*{escape(label)}*\n{escape(value)}", MAX_FIELD) for label, value in item.facts[:10]]
    return {"type": "section", "fields": [_words(text) for text in texts]}


def _line(item: Item) -> str:
    return f"{_MARKS[item.severity]} *{escape(item.name)}* {escape(item.change)} {escape(item.when)}"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _words(_cut_escaped(text, MAX_SECTION))}


def _sections(lines: list[str]) -> list[dict[str, Any]]:
    """Lines in as few sections as hold them; no line is torn apart."""
    texts = [""]
    for line in lines:
        line = _cut_escaped(line, MAX_SECTION)
        if len(texts[-1]) + 1 + len(line) > MAX_SECTION:
            texts.append("")
        texts[-1] += ("\n" if texts[-1] else "") + line
    return [_section(text) for text in texts]


def _footer(alert: Alert) -> str:
    return f"Segue, as of {alert.as_of:%Y-%m-%d %H:%M} UTC"


def _length(text: str) -> int:
    """In UTF-16 units, as JavaScript counts: the stricter reading of Slack's limits."""
    return len(text.encode("utf-16-le")) // 2


def _cut(text: str, limit: int) -> str:
    if _length(text) <= limit:
        return text
    return text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", errors="ignore").rstrip() + "…"


def _cut_escaped(text: str, limit: int) -> str:
    """Cut without leaving half of an `&amp;` behind."""
    short = _cut(text, limit)
    start = short.rfind("&")
    return f"{short[:start]}…" if start >= 0 and ";" not in short[start:] else short


def post(payload: dict[str, Any], webhook: str, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Hand the payload to an incoming webhook, once.

    Waits as long as Slack's 429 asks, and retries 5xx and broken connections with growing, random pauses, within
    half a minute altogether. When the connection breaks after the request was sent, Slack may have posted it
    and the retry posts it again: a second copy is better than none.

    Raises:
        DeliveryError: with Slack's own word for the reason; never with the address of the webhook.
        BadSettingError: when the setting is no web address.
    """
    import requests

    _check_address(webhook)
    began = time.monotonic()
    reason = "no answer"
    for attempt in range(1, _ATTEMPTS + 1):
        wait = min(2.0 ** (attempt - 1), 8.0) * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, no secret
        try:
            with _unlogged():
                answer = requests.post(
                    webhook, json=payload, timeout=(_CONNECT, _ANSWER), allow_redirects=False, stream=False
                )
        except requests.exceptions.RequestException as error:
            # The text of the exception holds the address: only its kind is passed on.
            reason = f"{type(error).__name__} while talking to Slack"
        else:
            if answer.status_code == 200:
                return
            reason = f"Slack answered {answer.status_code} {_word(answer.text, webhook)}".rstrip()
            if answer.status_code == 429:
                wait = _seconds(answer.headers.get("Retry-After"), default=wait)
            elif answer.status_code < 500:
                raise DeliveryError(reason, fix=_fix(answer.status_code, answer.text), is_final=True)
        if attempt == _ATTEMPTS or time.monotonic() - began + wait > _PATIENCE:
            break
        pause(wait)
    raise DeliveryError(f"{reason}; tried {attempt} times", fix="it is tried again at the next announcement")


def _check_address(webhook: str) -> None:
    try:
        parts = urlsplit(webhook)
        usable = parts.scheme == "https" or (
            parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
        )
        usable = usable and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise BadSettingError(
            "SEGUE_SLACK_WEBHOOK_URL is not an https address", fix="copy it from the app's page, Incoming Webhooks"
        )


def _word(text: str, webhook: str) -> str:
    """Slack's one-word reason, should the answer be one; without the webhook, should somebody echo it."""
    path = urlsplit(webhook).path
    line: str = clean(text, limit=400)
    for secret in (webhook, path, *(part for part in path.split("/") if len(part) > 6)):
        if len(secret) > 1:
            line = line.replace(secret, "…")
    return clean(line, limit=80)


def _fix(status: int, text: str) -> str:
    if status in (403, 404, 410) or "no_service" in text:
        return "the webhook is gone or may not post there: make a new one in Slack and set SEGUE_SLACK_WEBHOOK_URL"
    return "this payload is at fault, not your settings: please report it with the file kept under HOME/alerts"


def _seconds(text: str | None, *, default: float) -> float:
    try:
        return max(float(text or ""), 0.0)
    except ValueError:
        return default


@contextmanager
def _unlogged() -> Iterator[None]:
    """The HTTP library logs the path of each request at level DEBUG, and the path is the secret."""
    quiet = logging.getLogger("urllib3.connectionpool")
    quiet.addFilter(_nothing)
    try:
        yield
    finally:
        quiet.removeFilter(_nothing)


def _nothing(_record: logging.LogRecord) -> bool:
    return False
