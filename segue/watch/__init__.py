"""What to expect of every KPI, and which days were not as expected.

Promises: a day is judged only by what was known before its week began; what is found is controlled for chance
over all series together; an anomaly keeps its id as it grows, and a rerun of the same `as_of` writes nothing.
A series that cannot be judged is listed with the reason.
Never: takes a missing day for a zero, judges a day that is not over, or tells anybody (that is `alerts`).
"""

from segue.watch.backtest import Backtest, backtest, plot_backtest
from segue.watch.calendar import CalendarEntry, load_calendar
from segue.watch.detect import FALSE_DISCOVERY_RATE, WatchReport, detect
from segue.watch.dismiss import Precision, dismiss, precision, restore
from segue.watch.drivers import Driver, Explanation, explain
from segue.watch.heat_map import plot_funnel, plot_retention
from segue.watch.incidents import Incident, importance, incidents
from segue.watch.inside import look_inside
from segue.watch.kpis import Kpi, kpis_of, owner_of, register, registered_kpis
from segue.watch.plot import plot_anomaly, plot_overview
from segue.watch.tables import SEVERITIES, Anomaly, Severity, anomalies, anomaly_id, ensure_tables
from segue.watch.words import amount, change_of, clean, day, describe, name_of, percent, period

__all__ = [
    "FALSE_DISCOVERY_RATE",
    "SEVERITIES",
    "Anomaly",
    "Backtest",
    "CalendarEntry",
    "Driver",
    "Explanation",
    "Incident",
    "Kpi",
    "Precision",
    "Severity",
    "WatchReport",
    "amount",
    "anomalies",
    "anomaly_id",
    "backtest",
    "change_of",
    "clean",
    "day",
    "describe",
    "detect",
    "dismiss",
    "ensure_tables",
    "explain",
    "importance",
    "incidents",
    "kpis_of",
    "load_calendar",
    "look_inside",
    "name_of",
    "owner_of",
    "percent",
    "period",
    "plot_anomaly",
    "plot_backtest",
    "plot_funnel",
    "plot_overview",
    "plot_retention",
    "precision",
    "register",
    "registered_kpis",
    "restore",
]
