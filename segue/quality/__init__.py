"""Whether the data can be believed: what has changed in what arrives, and which KPI anomalies that explains.

Promises: every finding names what, where, since when and by how much; the same data as of the same time give the same
findings; a check that found nothing says so.
Never: changes or drops an event; tells anybody (that is `alerts`); calls a change of behaviour a fault of the data.
"""

from segue.quality.examine import CHECKS, CheckResult, QualityReport, examine
from segue.quality.findings import Finding, explain_incidents, findings, record
from segue.quality.limits import Limits, load_limits

__all__ = [
    "CHECKS",
    "CheckResult",
    "Finding",
    "Limits",
    "QualityReport",
    "examine",
    "explain_incidents",
    "findings",
    "load_limits",
    "record",
]
