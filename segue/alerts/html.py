"""The alert as HTML that mail programs show as they should: tables, inline styles, nothing from elsewhere."""

from collections.abc import Callable
from html import escape

from segue.alerts.message import STORED, Alert, Item

_INK, _MUTED, _LINE, _PAPER = "#1f2430", "#6b7280", "#e5e7eb", "#ffffff"
_COLOURS = {"high": "#c92a2a", "medium": "#d9480f", "low": "#8a6d00"}
_TINTS = {"high": "#fff5f5", "medium": "#fff4e6", "low": "#fff9db"}
_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_LABELS = {
    "anomaly": "KPI alert",
    "data_fault": "Data fault",
    "run_failed": "Run failed",
    "check_failed": "Check failed",
    "trouble": "Trouble",
    "recovered": "Over",
    "incident_over": "Recovered",
    "escalation": "Alert, unanswered",
    "digest": "Digest",
    "dead_detector": "Watching has stopped",
}
_WORDS = "14px/1.6 -apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_CODE = "13px/1.5 ui-monospace,Menlo,Consolas,monospace"
#: With a picture or a table each; further ones in a row each.
_ITEMS_IN_FULL = 3

#: Turns the name of a picture into the address the channel shows it under.
Source = Callable[[str], str]


def pictures(alert: Alert) -> dict[str, bytes]:
    """The PNGs that the HTML shows, by name."""
    found = {"overview": alert.overview} if alert.overview is not None and len(alert.items) > 1 else {}
    for number, item in enumerate(alert.items[:_ITEMS_IN_FULL], start=1):
        if item.chart is not None:
            found[f"chart-{number}"] = item.chart
    return found


def body(alert: Alert, source: Source) -> str:
    """The card with everything in it, for a mail or a page."""
    available = pictures(alert)
    colour = _COLOURS[alert.severity]
    parts = [
        f'<div style="font-size:12px;letter-spacing:.06em;text-transform:uppercase;color:{colour};font-weight:700">'
        f"{_LABELS[alert.kind]} · {alert.severity}</div>",
        f'<h1 style="margin:6px 0 8px;font-size:21px;line-height:1.3;color:{_INK}">{escape(alert.title)}</h1>',
        f'<p style="margin:0 0 16px;font-size:15px;line-height:1.5;color:{_INK}">{escape(alert.summary)}</p>',
    ]
    if "overview" in available:
        parts.append(_picture(source("overview"), "All anomalies by day"))
    for number, item in enumerate(alert.items[:_ITEMS_IN_FULL], start=1):
        chart = source(f"chart-{number}") if f"chart-{number}" in available else None
        parts.append(_item(item, chart, alone=alert.is_one_item))
    rest = alert.items[_ITEMS_IN_FULL:]
    if rest:
        parts.append(_rows(rest))
    if alert.left_out_count:
        parts.append(f'<p style="margin:10px 0 0;font-size:14px;color:{_MUTED}">… and {alert.left_out_count} more.</p>')
    if alert.detail:
        font = _CODE if alert.kind in STORED else _WORDS
        parts.append(
            f'<div style="margin:0 0 16px;padding:12px 14px;background:#f8f9fa;border-left:3px solid {colour};'
            f"font:{font};color:{_INK};white-space:pre-wrap;"
            f'overflow-wrap:anywhere">{escape(alert.detail)}</div>'
        )
    if alert.url is not None:
        parts.append(
            f'<p style="margin:20px 0 4px"><a href="{escape(alert.url, quote=True)}" style="display:inline-block;'
            f"padding:10px 18px;background:{_INK};color:#ffffff;border-radius:6px;font-size:14px;font-weight:600;"
            f'text-decoration:none">{escape(alert.link_text)}</a></p>'
        )
    return (
        f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="max-width:680px;margin:0 auto;'
        f"background:{_PAPER};border:1px solid {_LINE};border-top:4px solid {colour};border-radius:8px;"
        f'{_FONT}"><tr><td style="padding:24px 28px">{"".join(parts)}</td></tr>'
        f'<tr><td style="padding:14px 28px;border-top:1px solid {_LINE};font-size:12px;line-height:1.5;color:{_MUTED}">'
        f"{_explain(alert)} As of {alert.as_of:%Y-%m-%d %H:%M} UTC.</td></tr></table>"
    )


def page(alert: Alert, source: Source) -> str:
    """The card as a document of its own."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(alert.title)}</title></head>"
        f'<body style="margin:0;padding:24px 12px;background:#f3f4f6">{body(alert, source)}</body></html>'
    )


def text(alert: Alert) -> str:
    """The same in plain text."""
    lines = [alert.title, "", alert.summary, ""]
    if alert.is_one_item:
        lines += [f"{label}: {value}" for label, value in alert.items[0].facts]
    else:
        lines += [f"- [{item.severity}] {item.sentence}" for item in alert.items]
    if alert.left_out_count:
        lines.append(f"... and {alert.left_out_count} more.")
    if alert.detail:
        lines += [f"  {line}" for line in alert.detail.splitlines()]
    if alert.url is not None:
        lines += ["", f"{alert.link_text}: {alert.url}"]
    return "\n".join([*lines, "", "-- ", f"Segue, as of {alert.as_of:%Y-%m-%d %H:%M} UTC", ""])


def _explain(alert: Alert) -> str:
    if alert.kind in ("anomaly", "escalation"):
        return "Expected: forecast from the days before that week. Ordinary: where 99 of 100 such days lie."
    return "Sent once."


def _picture(address: str, alt: str, *, space: int = 16) -> str:
    return (
        f'<img src="{escape(address, quote=True)}" alt="{escape(alt, quote=True)}" width="624" '
        f'style="display:block;width:100%;max-width:624px;height:auto;margin:0 0 {space}px;border-radius:6px;'
        f'border:1px solid {_LINE}">'
    )


def _item(item: Item, chart: str | None, *, alone: bool) -> str:
    cells = "".join(
        f'<td style="padding:8px 14px 8px 0;vertical-align:top">'
        f'<div style="font-size:12px;color:{_MUTED}">{escape(label)}</div>'
        f'<div style="font-size:14px;color:{_INK};font-weight:600">{escape(value)}</div></td>'
        for label, value in item.facts
    )
    head = (
        ""
        if alone
        else f'<div style="font-size:15px;font-weight:700;color:{_INK}">{escape(item.name)} '
        f'<span style="color:{_COLOURS[item.severity]}">{escape(item.change)}</span></div>'
        f'<div style="margin:2px 0 10px;font-size:14px;line-height:1.5;color:{_INK}">{escape(item.sentence)}</div>'
    )
    table = (
        f'<table role="presentation" cellpadding="0" cellspacing="0" style="margin:4px 0 10px"><tr>{cells}</tr></table>'
    )
    alt = f"{item.name}: {item.change} {item.when}"
    picture = _picture(chart, alt, space=16 if alone else 0) if chart is not None else ""
    if alone:
        return table + picture
    return (
        f'<div style="margin:0 0 14px;padding:12px 14px;background:{_TINTS[item.severity]};border-radius:6px">'
        f"{head}{picture or table}</div>"
    )


def _rows(items: tuple[Item, ...]) -> str:
    rows = "".join(
        f'<tr><td style="padding:7px 10px 7px 0;border-top:1px solid {_LINE};color:{_COLOURS[item.severity]};'
        f'font-weight:700;white-space:nowrap;vertical-align:top">{escape(item.severity)}</td>'
        f'<td style="padding:7px 10px 7px 0;border-top:1px solid {_LINE};color:{_INK};vertical-align:top">'
        f"{escape(item.name)}</td>"
        f'<td style="padding:7px 10px 7px 0;border-top:1px solid {_LINE};color:{_INK};font-weight:600;'
        f'white-space:nowrap;vertical-align:top">{escape(item.change)}</td>'
        f'<td style="padding:7px 0;border-top:1px solid {_LINE};color:{_MUTED};vertical-align:top">'
        f"{escape(item.when)}</td></tr>"
        for item in items
    )
    return (
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" '
        f'style="font-size:14px;line-height:1.4;overflow-wrap:anywhere">{rows}</table>'
    )
