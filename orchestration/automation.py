"""When an asset rebuilds by itself, and the days it is divided into."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from orchestration.keys import DAILY
from orchestration.resources import AS_OF_TAG, WHOLE_TAG
from segue.settings import load_settings

#: Everything that writes the warehouse shares this pool: it has one writer.
WRITER = "warehouse_writer"

#: One partition per UTC day, today's (unfinished) included.
DAYS = dg.DailyPartitionsDefinition(
    start_date=datetime.combine(load_settings().history_start, datetime.min.time(), UTC), end_offset=1, timezone="UTC"
)

_NEWS = (
    dg.AutomationCondition.newly_updated()
    # A run with a clock of its own (`segue refresh --as-of`, a backfill of the past) sets nothing off: it has done
    # what there was to do, and as of now is not what it was asked for.
    & ~dg.AutomationCondition.all_new_updates_have_run_tags(tag_keys={AS_OF_TAG})
    # A refresh rebuilds all that depends on what it rebuilds. Said here, because a tick that overlaps the end of a
    # step can see an input as rebuilt, and what is made from it as neither rebuilt nor in progress.
    & ~dg.AutomationCondition.all_new_updates_have_run_tags(tag_keys={WHOLE_TAG})
    # So does any other run, as far as it goes; what it planned and did not reach, because it failed, waits for a
    # person, or for the sensor `failures`.
    & ~dg.AutomationCondition.executed_with_root_target()
).with_label("rebuilt by another run")

_UPSTREAM_REBUILT = dg.AutomationCondition.any_deps_match(
    _NEWS | dg.AutomationCondition.will_be_requested()
).with_label("something upstream was rebuilt")

_EDITED = dg.AutomationCondition.code_version_changed()
_NEW = dg.AutomationCondition.missing() & dg.AutomationCondition.initial_evaluation()
_HANDLED = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()

_IDLE = (~dg.AutomationCondition.any_deps_in_progress() & ~dg.AutomationCondition.in_progress()).with_label(
    "nothing upstream is running"
)
_QUIET = (_IDLE & dg.AutomationCondition.all_deps_blocking_checks_passed()).with_label(
    "nothing upstream is running or blocked"
)

#: Rebuild when the asset is new, its code was edited, or anything upstream was rebuilt.
REFRESH = (
    (_NEW | _EDITED | _UPSTREAM_REBUILT).since(_HANDLED) & ~dg.AutomationCondition.any_deps_missing() & _QUIET
).with_label("refresh")

#: For what goes on with the last good state of an input that failed, or has days that were never built.
REFRESH_WITH_WHAT_IS_THERE = ((_EDITED | _UPSTREAM_REBUILT).since(_HANDLED) & _IDLE).with_label(
    "refresh, with what is there"
)

#: For assets by day: the newest day only; older days change by a refresh or a backfill.
REFRESH_TODAY = (
    dg.AutomationCondition.in_latest_time_window() & (_EDITED | _UPSTREAM_REBUILT).since(_HANDLED) & _QUIET
).with_label("refresh today")

#: A new KPI edits the table of all KPIs, which reads it: the two are built in one run, or both wait for a refresh when
#: nothing of today has been built yet. The table alone would fail.
REFRESH_KPI = (
    dg.AutomationCondition.in_latest_time_window()
    & (
        (_NEW & dg.AutomationCondition.asset_matches(DAILY, ~dg.AutomationCondition.missing()))
        | _EDITED
        | _UPSTREAM_REBUILT
    ).since(_HANDLED)
    & _QUIET
).with_label("refresh a KPI")
REFRESH_ALL_KPIS = (
    dg.AutomationCondition.in_latest_time_window()
    & ((_EDITED & ~dg.AutomationCondition.missing()) | _UPSTREAM_REBUILT).since(_HANDLED)
    & _QUIET
).with_label("refresh all KPIs")

#: Dagster's own automation, which is stopped unless it is declared like this.
automation = dg.AutomationConditionSensorDefinition(
    name="automation",
    target=dg.AssetSelection.all(),
    minimum_interval_seconds=20,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Rebuilds what is new, what was edited, and what depends on either.",
)


def day_of(as_of: datetime) -> date:
    """The last UTC day that had begun at a time; at midnight sharp, the day that has just ended."""
    return (as_of.astimezone(UTC) - timedelta(microseconds=1)).date()
