"""What every page has: its frame, its age, its filters; and how nothing is said."""

from collections.abc import Sequence
from html import escape

from segue.dashboard import read
from segue.watch import day
from segue.watch.words import where_of

RANGES = (28, 90, 180, 365)
#: The colour of a fault of the data, by its weight.
WEIGHTS = {"error": "high", "warning": "medium", "note": "soft"}
_NAV = (
    ("/", "KPIs"),
    ("/incidents", "Incidents"),
    ("/segments", "Segments"),
    ("/clusters", "Clusters"),
    ("/scores", "Scores"),
    ("/retention", "Retention"),
    ("/funnel", "Funnel"),
    ("/health", "Data health"),
)


def layout(title: str, body: str, *, path: str, stamp: str) -> str:
    """A whole page."""
    links = "".join(
        f'<a href="{href}"{" aria-current=page" if href == path else ""}>{label}</a>' for href, label in _NAV
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} · Segue</title><link rel="stylesheet" href="/style.css"></head><body>'
        '<a class="skip" href="#content">Skip to the content</a>'
        f'<header><a class="name" href="/">Segue</a><nav aria-label="Pages">{links}</nav></header>'
        f'<main id="content"><h1>{escape(title)}</h1>{body}</main><footer>{stamp}</footer></body></html>'
    )


def stamp(fresh: read.Freshness) -> str:
    """How old what is shown is."""
    if fresh.last_day is None:
        return "No KPI has been built yet."
    judged = f"{fresh.judged_at:%Y-%m-%d %H:%M} UTC" if fresh.judged_at else "never"
    event = f"{fresh.last_event_at:%Y-%m-%d %H:%M} UTC" if fresh.last_event_at else "none"
    return (
        f"Whole days up to {day(fresh.last_day)}, all in UTC. Watched as of {judged}. Last event received: {event}. "
        "Sums only: no person is shown here."
    )


def empty(what: str, fix: str) -> str:
    """Nothing to show, and what to do."""
    return f'<div class="card empty"><p><b>{escape(what)}</b></p><p class="soft">{fix}</p></div>'


def filters(
    action: str,
    slices: Sequence[str] | None,
    *,
    slice_: str = "",
    days: int,
    more: str = "",
    ranges: Sequence[int] = RANGES,
) -> str:
    """The form that changes the address."""
    parts = [f'<form class="filters" method="get" action="{escape(action, quote=True)}">']
    if slices is not None:
        options = "".join(
            f'<option value="{escape(s, quote=True)}"{" selected" if s == slice_ else ""}>'
            f"{escape(where_of(s) or 'everybody')}</option>"
            for s in dict.fromkeys([*slices, slice_])
        )
        parts.append(f'<label>Who<select name="slice">{options}</select></label>')
    options = "".join(f"<option value={n}{' selected' if n == days else ''}>{n} days</option>" for n in ranges)
    parts.append(f'<label>How far back<select name="days">{options}</select></label>{more}<button>Show</button></form>')
    return "".join(parts)
