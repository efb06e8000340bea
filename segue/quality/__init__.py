"""Whether the data can be believed: what has changed in what arrives, and which KPI anomalies that explains.

Promises: every finding names what, where, since when and by how much; the same data as of the same time give the same
findings; a check that found nothing says so; faults that belong together are one incident, which keeps its id.
Never: changes or drops an event; tells anybody (that is `alerts`); calls a change of behaviour a fault of the data.
"""

from segue.quality.contract_changes import contract_changes, note_contracts
from segue.quality.examine import CHECKS, CheckResult, QualityReport, examine
from segue.quality.findings import Finding, findings, record
from segue.quality.incidents import DataIncident, data_incidents, explain_incidents, explained, keep_incidents
from segue.quality.limits import Limits, load_limits

__all__ = [
    "CHECKS",
    "CheckResult",
    "DataIncident",
    "Finding",
    "Limits",
    "QualityReport",
    "contract_changes",
    "data_incidents",
    "examine",
    "explain_incidents",
    "explained",
    "findings",
    "keep_incidents",
    "load_limits",
    "note_contracts",
    "record",
]
