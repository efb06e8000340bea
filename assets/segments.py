"""The history of segments: who entered and left when."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

import dagster as dg

from orchestration import builds, dbt, present
from orchestration.automation import DAYS, REFRESH_TODAY, REFRESH_WITH_WHAT_IS_THERE, WRITER
from orchestration.keys import EVALUATIONS, MEMBERSHIPS, TRANSITIONS
from orchestration.project import PROJECT
from orchestration.resources import Clock, Turn, Warehouse
from segue import segments as core
from segue.clock import end_of_day
from segue.segments.audit import exclusive_group_errors, fold_errors
from segue.segments.gaps import missing_days
from segue.warehouse import row_count

_SEGMENTS = [dg.AssetKey(model.relation.split(".")) for model in PROJECT.segments]
_COMMON: dict[str, Any] = {"group_name": "segments", "kinds": {"python", "duckdb"}, "owners": ["team:data"]}

#: Changes when a segment comes, goes or gets another name: one that is gone has no asset whose edit would say so.
_DEFINED = dbt.digest(sorted([*(m.name for m in PROJECT.segments), *(b.name for b in PROJECT.broken)]))


@dg.multi_asset(
    name="memberships",
    specs=[
        dg.AssetSpec(
            TRANSITIONS,
            deps=[*_SEGMENTS, ["identity", "merges"]],
            description="Every change, kept for ever: a person entered, left, or was merged into another.",
            automation_condition=REFRESH_WITH_WHAT_IS_THERE,
            code_version=_DEFINED,
            **_COMMON,
        ),
        dg.AssetSpec(
            MEMBERSHIPS,
            deps=[*_SEGMENTS, ["identity", "merges"]],
            description="Each stay of a person in a segment, from when to when; the fold of the transitions.",
            automation_condition=REFRESH_WITH_WHAT_IS_THERE,
            code_version=_DEFINED,
            **_COMMON,
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "fold_of_transitions", asset=MEMBERSHIPS, description="Memberships say the same as the transitions."
        ),
        dg.AssetCheckSpec(
            "exclusive_groups_hold", asset=MEMBERSHIPS, description="Nobody is in two segments of one group."
        ),
        dg.AssetCheckSpec(
            "minimum_share", asset=MEMBERSHIPS, description="Each segment has its minimum share of active people."
        ),
        dg.AssetCheckSpec("every_segment_recorded", asset=MEMBERSHIPS, description="No segment was left as it was."),
    ],
    pool=WRITER,
)
def memberships(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> Iterator[dg.MaterializeResult]:
    """Records what the segments' tables say now."""
    as_of, stale = what_is_new(context.instance, fallback=clock.as_of(context))
    with warehouse.write("segment memberships", as_of=as_of) as con:
        report = core.refresh_memberships(con, PROJECT, as_of=as_of, failed=stale)
    with warehouse.read() as con:
        counts = {t: row_count(con, f"segments.{t}") for t in ("transitions", "memberships")}
        fold, groups = fold_errors(con), exclusive_group_errors(con, core.definitions(PROJECT).segments)
    changes = present.report(report)
    yield dg.MaterializeResult(asset_key=TRANSITIONS, metadata={"dagster/row_count": counts["transitions"], **changes})
    small = [s for s in report.shares if not s.is_enough]
    yield dg.MaterializeResult(
        asset_key=MEMBERSHIPS,
        metadata={
            "dagster/row_count": counts["memberships"],
            **changes,
            "segments": present.table(
                ["segment", "members", "per active person", "minimum"],
                [
                    (s.segment, s.member_count, present.percent(s.share), present.percent(s.min_share))
                    for s in report.shares
                ],
            ),
        },
        check_results=[
            _check("fold_of_transitions", fold),
            _check("exclusive_groups_hold", groups),
            _check("minimum_share", [f"{s.segment} has {present.percent(s.share)}" for s in small], warn=True),
            _check("every_segment_recorded", [f"{name}: {reason}" for name, reason in report.left_out], warn=True),
        ],
    )


@dg.asset(
    key=EVALUATIONS,
    deps=[MEMBERSHIPS],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    automation_condition=REFRESH_TODAY,
    pool=WRITER,
    **_COMMON,
)
def evaluations(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> dg.MaterializeResult:
    """How large each segment was at each day's end; fills the days of segment history that are missing.

    A backfill evaluates its days again, with the segments as they are defined now. Today counts as of the run.
    """
    as_of = clock.as_of(context)
    asked = [date.fromisoformat(key) for key in context.partition_keys]
    # What ends at the clock of this run, the memberships have recorded.
    complete = [day for day in asked if end_of_day(day) < as_of]
    _, stale = what_is_new(context.instance, fallback=as_of)
    current = [s.name for s in core.definitions(PROJECT).segments if s.name not in stale]
    with warehouse.read() as con:
        missing = missing_days(con, current, as_of=as_of, history_days=warehouse.settings.history_days)
    filled = {day: names for day, names in missing.items() if day not in complete}
    reports = core.backfill(warehouse.core(), PROJECT, complete)
    reports += core.backfill_missing(warehouse.core(), PROJECT, filled)
    # A KPI of a segment has a figure on the days on which the segment was evaluated.
    first = min([*complete, *filled], default=None)
    changed = {builds.CHANGED_SINCE: f"{first}T00:00:00+00:00" if first else builds.NEVER}
    builds.note_days(context, EVALUATIONS, sorted(filled), changed)
    with warehouse.read() as con:
        count = row_count(con, "segments.evaluations")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": count,
            **changed,
            "days asked for": len(asked),
            "missing days filled": len(filled),
            "transitions written": sum(r.added_count for r in reports),
            "transitions removed": sum(r.removed_count for r in reports),
        }
    )


def what_is_new(instance: dg.DagsterInstance, *, fallback: datetime) -> tuple[datetime, Mapping[str, str]]:
    """The time the segment tables were last built as of, and the segments of another time, with the reason.

    After one segment was edited, only that one is of the new time; after one could not be built, only that one is of
    an old time. What is not new stays as it was recorded.
    """
    built = {key.path[-1]: builds.last_build(instance, key) for key in _SEGMENTS}
    known = [build for build in built.values() if build is not None]
    if not known:
        return fallback, {}
    newest = max(known, key=lambda build: build.at).as_of
    return newest, {
        name: "it has never been built" if build is None else f"its table is of {build.as_of:%Y-%m-%d %H:%M} UTC"
        for name, build in built.items()
        if build is None or build.as_of != newest
    }


def _check(name: str, wrong: list[str], *, warn: bool = False) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=MEMBERSHIPS,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
        description="; ".join(wrong) or None,
    )
