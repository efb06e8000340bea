"""Anomalies that nobody has been told of start the alert."""

from collections.abc import Sequence

import dagster as dg

from orchestration.jobs import announce
from orchestration.resources import Warehouse
from segue.alerts import Pending, pending, pending_key
from segue.clock import system_time
from segue.settings import load_settings


@dg.sensor(
    name="anomalies",
    job=announce,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Anomalies that nobody has been told of start the alert.",
)
def anomalies(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.RunRequest | dg.SkipReason:
    """The ledger of alerts says what waits; the run key, that the same was asked for."""
    with warehouse.read() as con:
        return react(pending(con, settings=load_settings(), as_of=system_time()))


def react(waiting: Sequence[Pending]) -> dg.RunRequest | dg.SkipReason:
    """Ask for the alert when something waits. After an attempt that failed the key is another one."""
    if not waiting:
        return dg.SkipReason("nothing waits to be announced")
    return dg.RunRequest(run_key=pending_key(waiting))
