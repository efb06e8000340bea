"""Assets that more than one file speaks of."""

import dagster as dg

#: The step that builds the segments' tables.
SEGMENTS_STEP = "dbt_segments"
#: The last step of a refresh that runs dbt.
KPIS_STEP = "dbt_kpis"

LANDING = dg.AssetKey(["landing"])
EVENTS = dg.AssetKey(["raw", "events"])
TOUCHED = dg.AssetKey(["intermediate", "int_touched_people"])
TRANSITIONS = dg.AssetKey(["segments", "transitions"])
MEMBERSHIPS = dg.AssetKey(["segments", "memberships"])
EVALUATIONS = dg.AssetKey(["segments", "evaluations"])
#: The table that reads every KPI.
DAILY = dg.AssetKey(["kpis", "daily"])
RETENTION = dg.AssetKey(["kpis", "retention_cohorts"])
FUNNEL = dg.AssetKey(["kpis", "funnel"])
QUALITY = dg.AssetKey(["quality", "findings"])
ANOMALIES = dg.AssetKey(["watch", "anomalies"])
PROBABLE = dg.AssetKey(["identity", "probable_links"])
LOG = dg.AssetKey(["realtime", "log"])
SERVED = dg.AssetKey(["realtime", "memberships"])
WEBHOOKS = dg.AssetKey(["realtime", "webhooks"])
AUDIT = dg.AssetKey(["realtime", "audit"])
BACKTEST = dg.AssetKey(["watch", "backtest"])
ANNOUNCEMENTS = dg.AssetKey(["alerts", "announcements"])
