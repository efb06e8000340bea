"""Everything Dagster needs to know: `python_module: orchestration.definitions`."""

import dagster as dg

from assets import (
    alerts,
    clusters,
    identity,
    ingestion,
    models,
    propensity,
    quality,
    realtime,
    segments,
    watch,
)
from orchestration import jobs
from orchestration.automation import automation
from orchestration.progress import progress
from orchestration.resources import Clock, Turn, Warehouse
from sensors import anomalies, edited_sql, failures, new_files
from sensors import realtime as realtime_sensor

defs = dg.Definitions(
    assets=[
        *ingestion.ASSETS,
        *models.ASSETS,
        identity.identifiers,
        identity.probable_links,
        segments.memberships,
        segments.evaluations,
        clusters.discovery,
        quality.findings,
        propensity.training,
        propensity.next_changes,
        watch.anomalies,
        watch.backtest,
        alerts.announcements,
        *realtime.ASSETS,
    ],
    jobs=[jobs.refresh, jobs.follow_up, jobs.announce, jobs.audit, jobs.maintenance],
    schedules=[jobs.nightly_refresh, jobs.hourly_audit, jobs.nightly_maintenance],
    sensors=[
        new_files.new_files,
        edited_sql.edited_sql,
        anomalies.anomalies,
        failures.failures,
        realtime_sensor.realtime,
        automation,
    ],
    resources={"warehouse": Warehouse(), "clock": Clock(), "turn": Turn()},
    # One process per run: a process per step costs seconds, and there is one writer anyway.
    executor=dg.in_process_executor,
    loggers={"console": dg.colored_console_logger, "progress": progress},
)
