"""An anomaly as tests of the watch and of alerts need one."""

from datetime import UTC, date, datetime
from typing import Any

from segue.watch import Anomaly


def outage(**changes: Any) -> Anomaly:
    """A fifth of the sessions of the web on one day, with what is to be otherwise."""
    values: dict[str, Any] = {
        "anomaly_id": "a",
        "kpi": "sessions",
        "slice": "platform=web",
        "first_date": date(2026, 2, 14),
        "last_date": date(2026, 2, 14),
        "value": 41.0,
        "expected": 214.0,
        "lower": 174.0,
        "upper": 263.0,
        "severity": "high",
        "direction": "down",
        "detected_at": datetime(2026, 2, 15, tzinfo=UTC),
        "worst_date": date(2026, 2, 14),
        "score": 6.5,
        "denominator": None,
        "kind": "count",
    }
    return Anomaly(**{**values, **changes})
