"""When an asset rebuilds by itself, and the days it is divided into."""

from datetime import UTC, date, datetime

import dagster as dg

from segue.settings import load_settings

#: Everything that writes the warehouse shares this pool: it has one writer.
WRITER = "warehouse_writer"

#: One partition per UTC day, today's (unfinished) included.
DAYS = dg.DailyPartitionsDefinition(
    start_date=datetime.combine(load_settings().history_start, datetime.min.time(), UTC), end_offset=1, timezone="UTC"
)

_CHANGED = (
    (dg.AutomationCondition.missing() & dg.AutomationCondition.initial_evaluation())
    | dg.AutomationCondition.code_version_changed()
    | dg.AutomationCondition.any_deps_updated()
).with_label("new, edited, or something upstream changed")

_NOT_YET_HANDLED = _CHANGED.since(
    dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
).with_label("changed since it was last built")

_QUIET = (
    ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("nothing upstream is running or blocked")

#: Rebuild when the asset is new, its code was edited, or anything upstream was rebuilt.
REFRESH = (_NOT_YET_HANDLED & ~dg.AutomationCondition.any_deps_missing() & _QUIET).with_label("refresh")

#: As REFRESH, for an asset that works on with the last good state of an input that has never been built.
REFRESH_WITH_WHAT_IS_THERE = (_NOT_YET_HANDLED & _QUIET).with_label("refresh, with what is there")

#: As REFRESH, for the newest day only; older days change by a refresh or a backfill.
REFRESH_TODAY = (
    dg.AutomationCondition.in_latest_time_window() & _NOT_YET_HANDLED & _QUIET
).with_label("refresh today")

#: Dagster's own automation, which is stopped unless it is declared like this.
automation = dg.AutomationConditionSensorDefinition(
    name="automation",
    target=dg.AssetSelection.all(),
    minimum_interval_seconds=20,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Rebuilds what is new, what was edited, and what depends on either.",
)


def day_of(moment: datetime) -> date:
    """The UTC day that a moment belongs to."""
    return moment.astimezone(UTC).date()
