"""An alert as a value: what it says, without regard to who will carry it.

Texts are cleaned (one line, visible characters, cut) but not escaped: each channel escapes for itself.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from segue.clock import parse_as_of
from segue.watch import (
    SEVERITIES,
    Anomaly,
    Severity,
    amount,
    change_of,
    clean,
    day,
    describe,
    importance,
    name_of,
    period,
)

Kind = Literal[
    "anomaly", "data_fault", "run_failed", "check_failed", "trouble", "recovered", "incident_over", "escalation",
    "digest", "dead_detector",
]  # fmt: skip

#: What somebody else found and said: the words are in the ledger only.
STORED: tuple[Kind, ...] = ("run_failed", "check_failed", "trouble", "recovered")

#: Spelled out one by one; the rest is counted.
MOST_ITEMS = 20
LONGEST_TITLE = 140
_LONGEST_SENTENCE = 600
_LONGEST_DETAIL = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that happened."""

    subject_id: str
    severity: Severity
    name: str  # what moved, and in which slice
    change: str  # by how much, short
    when: str
    sentence: str
    facts: tuple[tuple[str, str], ...] = ()  # label, value
    chart: bytes | None = field(default=None, repr=False)  # PNG


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message for people."""

    alert_id: str
    kind: Kind
    severity: Severity
    title: str
    summary: str
    items: tuple[Item, ...]
    left_out_count: int  # further ones, beyond `items`
    detail: str  # free text of several lines, such as an error; may be empty
    link_text: str
    url: str | None
    as_of: datetime
    overview: bytes | None = field(default=None, repr=False)  # PNG of all anomalies at once

    @property
    def is_one_item(self) -> bool:
        """Whether title and summary have said all of the only item but its facts; a digest's do not even name it."""
        return len(self.items) == 1 and self.kind != "digest"

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, for the ledger."""
        return {
            "alert_id": self.alert_id,
            "kind": self.kind,
            "severity": self.severity,
            "title": self.title,
            "summary": self.summary,
            "items": [
                {"subject_id": i.subject_id, "severity": i.severity, "name": i.name, "change": i.change, "when": i.when}
                | {"sentence": i.sentence, "facts": [list(fact) for fact in i.facts]}
                for i in self.items
            ],
            "left_out_count": self.left_out_count,
            "detail": self.detail,
            "link_text": self.link_text,
            "url": self.url,
            "as_of": self.as_of.isoformat(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Alert":
        """As it was, without the pictures."""
        items = tuple(Item(**{**i, "facts": tuple((k, v) for k, v in i["facts"])}) for i in stored["items"])
        return cls(**{**stored, "items": items, "as_of": parse_as_of(stored["as_of"])})


def alert_id_of(kind: Kind, subject_ids: Sequence[str]) -> str:
    """The same for the same subjects."""
    return hashlib.sha256("\x1f".join([kind, *sorted(subject_ids)]).encode()).hexdigest()[:20]


def series_count(anomalies: Iterable[Anomaly]) -> int:
    """How many series moved: one that moved twice is one."""
    return len({(a.kpi, a.slice) for a in anomalies})


def anomaly_alert(
    anomalies: Sequence[Anomaly],
    *,
    as_of: datetime,
    known_until: date | None = None,
    url: str | None = None,
    overview: bytes | None = None,
    charts: dict[str, bytes] | None = None,
) -> Alert:
    """One alert for all of these anomalies, the most severe first.

    Args:
        anomalies: at least one.
        known_until: the last day that was judged; an anomaly that reaches it is still going on.
        url: the run that found them; shown when it is an http(s) address.
        overview, charts: PNG of all, and by anomaly_id.
    """
    order = sorted(anomalies, key=importance)
    shown = order[:MOST_ITEMS]
    pictures = charts or {}
    items = tuple(item_of(a, known_until=known_until, chart=pictures.get(a.anomaly_id)) for a in shown)
    first = items[0]
    more = f", and {len(order) - 1} more" if len(order) > 1 else ""
    if len(order) == 1:
        summary = first.sentence
    else:
        counts = [f"{n} {s}" for s in reversed(SEVERITIES) if (n := sum(a.severity == s for a in order))]
        days = sorted({a.first_date for a in order})
        since = f"on {day(days[0])}" if len(days) == 1 else f"between {day(days[0])} and {day(days[-1])}"
        series = series_count(order)
        left = f"{series} series left {'their' if series > 1 else 'its'} expected range"
        times = f" {len(order)} times" if series < len(order) else ""
        summary = f"{left}{times} ({', '.join(counts)}), starting {since}."
    return Alert(
        alert_id=alert_id_of("anomaly", [a.anomaly_id for a in order]),
        kind="anomaly",
        severity=order[0].severity,
        title=clean(f"{first.name} {first.change} {first.when}{more}", limit=LONGEST_TITLE),
        summary=summary,
        items=items,
        left_out_count=len(order) - len(shown),
        detail="",
        link_text="Open the run in Dagster",
        url=web_address(url),
        as_of=as_of,
        overview=overview,
    )


def run_failed_alert(*, subject_id: str, title: str, detail: str, url: str | None, as_of: datetime) -> Alert:
    """A run of the graph ended badly: what was built before stays as it was."""
    return _failure(
        "run_failed",
        subject_id,
        title,
        "What the run had not reached keeps its last good state.",
        detail,
        "Open the run in Dagster",
        url,
        as_of,
    )


def check_failed_alert(*, subject_id: str, title: str, detail: str, url: str | None, as_of: datetime) -> Alert:
    """A check of severity error does not hold: the numbers that depend on it are not to be trusted."""
    return _failure(
        "check_failed",
        subject_id,
        title,
        "A promise about the data does not hold; do not rely on what is built on it until this is mended.",
        detail,
        "Open the check in Dagster",
        url,
        as_of,
    )


def trouble_alert(*, subject_id: str, title: str, detail: str, url: str | None, as_of: datetime) -> Alert:
    """Something that runs all the time does not run as it should."""
    summary = "It is tried again by itself; you are told when it is over."
    return _failure("trouble", subject_id, title, summary, detail, "Open it in Dagster", url, as_of)


def recovered_alert(*, subject_id: str, title: str, detail: str, url: str | None, as_of: datetime) -> Alert:
    """The end of a trouble that was told."""
    summary = "It works again, and nothing needs to be done."
    alert = _failure("recovered", subject_id, title, summary, detail, "Open it in Dagster", url, as_of)
    return replace(alert, severity="low")


def with_title(alert: Alert, prefix: str) -> Alert:
    """The same alert, marked."""
    return replace(alert, title=clean(f"{prefix}{alert.title}", limit=LONGEST_TITLE))


def web_address(url: str | None) -> str | None:
    """The address when a person can follow it, else None."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    safe = parts.scheme in ("http", "https") and bool(parts.netloc) and len(url) <= 1500
    return url if safe and not any(c.isspace() or c in "<>|\"'\\" or ord(c) < 32 for c in url) else None


def _failure(
    kind: Kind, subject_id: str, title: str, summary: str, detail: str, link_text: str, url: str | None, as_of: datetime
) -> Alert:
    lines = [clean(line, limit=_LONGEST_SENTENCE) for line in detail.splitlines()]
    text = "\n".join(line for line in lines if line)
    return Alert(
        alert_id=alert_id_of(kind, [subject_id]),
        kind=kind,
        severity="high",
        title=clean(title, limit=LONGEST_TITLE) or "Something failed",
        summary=summary,
        items=(),
        left_out_count=0,
        detail=text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 1] + "…",
        link_text=link_text,
        url=web_address(url),
        as_of=as_of,
    )


def item_of(anomaly: Anomaly, *, known_until: date | None, chart: bytes | None) -> Item:
    """An anomaly as one item of a message."""

    def unit(value: float) -> str:
        return amount(value, kpi=anomaly.kpi, kind=anomaly.kind)

    when = period(anomaly, known_until=known_until)
    return Item(
        subject_id=anomaly.anomaly_id,
        severity=anomaly.severity,
        name=name_of(anomaly.kpi, anomaly.slice, anomaly.label),
        change=change_of(anomaly),
        when=when,
        sentence=clean(describe(anomaly, known_until=known_until), limit=_LONGEST_SENTENCE),
        facts=(
            ("Measured", unit(anomaly.value)),
            ("Expected", f"{unit(anomaly.expected)} (ordinary: {unit(anomaly.lower)} to {unit(anomaly.upper)})"),
            ("When", when),
            ("Severity", anomaly.severity),
        ),
        chart=chart,
    )
