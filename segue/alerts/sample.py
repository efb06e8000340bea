"""An invented alert, to try a channel with."""

from datetime import datetime, timedelta

from segue.alerts.message import Alert, anomaly_alert, with_title
from segue.watch import Anomaly


def sample_alert(*, as_of: datetime, url: str | None) -> Alert:
    """Says in its title that it is a test."""
    yesterday = as_of.date() - timedelta(days=1)
    anomaly = Anomaly(
        anomaly_id=f"sample-{as_of:%Y%m%dT%H%M%S}",
        kpi="conversion",
        slice="platform=web",
        first_date=yesterday - timedelta(days=1),
        last_date=yesterday,
        value=0.021,
        expected=0.064,
        lower=0.051,
        upper=0.080,
        severity="medium",
        direction="down",
        detected_at=as_of,
        worst_date=yesterday,
        score=5.1,
        denominator=1840.0,
        kind="ratio",
    )
    return with_title(anomaly_alert([anomaly], as_of=as_of, known_until=yesterday, url=url), "Test: ")
