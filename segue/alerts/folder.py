"""The folder channel: what would have been sent, as files a person can open."""

import re
import shutil
from html import escape, unescape
from pathlib import Path
from typing import Any

import orjson

from segue.alerts import html, mail, slack
from segue.alerts.errors import DeliveryError
from segue.alerts.message import Alert

_LINK = re.compile(r"&lt;(https?://[^|&]*(?:&amp;amp;[^|&]*)*)\|(.*?)&gt;")
_BOLD = re.compile(r"(?<!\w)\*(?=\S)(.+?)(?<=\S)\*(?!\w)")


def write(alert: Alert, root: Path, *, sender: str, to: list[str]) -> Path:
    """Write `preview.html`, `slack.json`, `email.eml` and the charts into a folder of their own; returns it.

    The folder appears whole or not at all; the same alert writes the same folder.

    Raises:
        DeliveryError: when the folder cannot be written.
    """
    folder = root / f"{alert.as_of:%Y-%m-%dT%H%M%SZ}-{alert.alert_id[:8]}"
    unfinished = root / f".{folder.name}"
    payload = slack.render(alert)
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        (unfinished / "slack.json").write_bytes(orjson.dumps(payload, option=orjson.OPT_INDENT_2))
        (unfinished / "email.eml").write_bytes(bytes(mail.compose(alert, sender=sender, to=to or [sender])))
        for name, png in html.pictures(alert).items():
            (unfinished / f"{name}.png").write_bytes(png)
        (unfinished / "preview.html").write_text(_page(alert, payload), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except OSError as error:
        raise DeliveryError(
            f"cannot write the alert to {folder}: {error.strerror}",
            fix="check the space and the permissions of SEGUE_HOME",
        ) from None
    return folder


def _page(alert: Alert, payload: dict[str, Any]) -> str:
    label = (
        "max-width:680px;margin:0 auto 8px;font:600 13px/1.4 -apple-system,'Segoe UI',Roboto,sans-serif;color:#6b7280"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(alert.title)}</title></head>"
        '<body style="margin:0;padding:28px 12px;background:#f3f4f6">'
        f'<div style="{label}">In Slack (the exact payload is in slack.json)</div>{_slack(payload)}'
        f'<div style="{label};margin-top:32px">By e-mail (the exact message is in email.eml)</div>'
        f"{html.body(alert, lambda name: f'{name}.png')}</body></html>"
    )


_SLACK = (
    "max-width:656px;margin:0 auto;background:#fff;border:1px solid #e5e7eb;border-radius:8px;"
    "padding:16px 20px 16px 12px;display:flex;gap:10px;color:#1d1c1d;"
    "font:15px/1.46 Lato,'Slack-Lato',-apple-system,'Segoe UI',Roboto,sans-serif"
)
_FACE = (
    "flex:none;width:36px;height:36px;border-radius:6px;background:#1f2430;color:#fff;font-weight:800;"
    "display:flex;align-items:center;justify-content:center"
)
_DOTS = {":red_circle:": "#dd2e44", ":large_orange_circle:": "#f4900c", ":large_yellow_circle:": "#fdcb58"}
_QUOTE = "border-left:4px solid #ddd;padding-left:10px;white-space:pre-wrap"
_APP = "font-size:11px;background:#e8e8e8;border-radius:2px;padding:1px 4px;color:#616061"


def _slack(payload: dict[str, Any]) -> str:
    """How Slack shows these blocks, near enough."""
    blocks = "".join(map(_block, payload["blocks"]))
    name = f'<div><b>Segue</b> <span style="{_APP}">APP</span></div>'
    return (
        f'<div style="{_SLACK}"><div style="{_FACE}">S</div>'
        f'<div style="min-width:0;overflow-wrap:anywhere">{name}{blocks}</div></div>'
    )


def _block(block: dict[str, Any]) -> str:
    if block["type"] == "header":
        title = _emoji(escape(block["text"]["text"]))
        return f'<div style="font-size:18px;font-weight:800;margin:2px 0 8px">{title}</div>'
    if block["type"] == "context":
        texts = " ".join(_mrkdwn(element["text"]) for element in block["elements"])
        return f'<div style="font-size:12px;color:#616061;margin-top:8px">{texts}</div>'
    fields = "".join(
        f'<div style="width:46%;min-width:200px;margin:0 12px 8px 0">{_mrkdwn(field["text"])}</div>'
        for field in block.get("fields", [])
    )
    table = f'<div style="display:flex;flex-wrap:wrap;margin-bottom:6px">{fields}</div>' if fields else ""
    text = f'<div style="margin:0 0 8px">{_mrkdwn(block["text"]["text"])}</div>' if "text" in block else ""
    return text + table


def _mrkdwn(text: str) -> str:
    """Bold, links and line breaks; everything else stays text."""
    # Escaped once more for HTML: `&lt;` is now a `<` that Slack acts on, and `&amp;lt;` one that it shows.
    safe = escape(text, quote=True)
    linked = _LINK.sub(
        lambda m: f'<a href="{unescape(m[1])}" style="color:#1264a3;text-decoration:none">{m[2]}</a>', safe
    )
    bold = _BOLD.sub(r"<b>\1</b>", linked)
    lines = [
        f'<div style="{_QUOTE}">{line.removeprefix("&gt; ")}</div>' if line.startswith("&gt; ") else f"{line}<br>"
        for line in bold.split("\n")
    ]
    joined = "".join(lines).removesuffix("<br>")
    return _emoji(re.sub(r"&amp;(amp|lt|gt);", r"&\1;", joined))


def _emoji(text: str) -> str:
    for code, colour in _DOTS.items():
        dot = f"display:inline-block;width:.72em;height:.72em;border-radius:50%;background:{colour}"
        text = text.replace(code, f'<span style="{dot}"></span>')
    return text
