"""Every dbt model, as few dbt processes as Python's place between them allows: each costs seconds."""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import dbt_assets

from orchestration import builds, dbt, present
from orchestration.automation import DAYS, WRITER
from orchestration.follow_up import ALONE
from orchestration.keys import DAILY, EVALUATIONS, FUNNEL, KPIS_STEP, RETENTION, SEGMENTS_STEP, TOUCHED
from orchestration.project import PROJECT
from orchestration.resources import WHOLE_TAG, Clock, Turn, Warehouse
from segue import watch
from segue.clock import from_warehouse
from segue.models import stale_since
from segue.settings import load_settings
from segue.warehouse import Connection

_log = logging.getLogger(__name__)

_BEGINNING = datetime.combine(load_settings().history_start, datetime.min.time(), UTC)

_MANIFEST: dict[str, Any] = json.loads(PROJECT.manifest_path.read_text())
_TRANSLATOR = dbt.Translator(PROJECT, load_settings())
_OPTIONS: dict[str, Any] = {
    "manifest": _MANIFEST,
    "dagster_dbt_translator": _TRANSLATOR,
    "pool": WRITER,
}


def _folder(name: str) -> str:
    """dbt's selection of the models in a folder."""
    return f"fqn:{_MANIFEST['metadata']['project_name']}.{name}"


#: Scores need the features, which training learns from, and the model that training puts in force.
_SCORES = _folder("marts.person_scores")


@dbt_assets(name="dbt_staging", select=_folder("staging"), **_OPTIONS)
def staging(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn) -> Iterator[Any]:
    """Events, identifiers and links, cleaned."""
    yield from _build(context, warehouse, clock)


@dbt_assets(
    name="dbt_marts",
    select="fqn:*",
    exclude=" ".join([*map(_folder, ("staging", "segments", "kpis")), _SCORES]),
    **_OPTIONS,
)
def marts(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn) -> Iterator[Any]:
    """Sessions and person features."""
    yield from _build(context, warehouse, clock, more=_changed_since)


@dbt_assets(name=SEGMENTS_STEP, select=f"{_folder('segments')} {_SCORES}", **_OPTIONS)
def segments(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn) -> Iterator[Any]:
    """Everybody's scores, and one table per segment, one row per member."""
    yield from _build(context, warehouse, clock)


@dbt_assets(
    name=KPIS_STEP,
    select=_folder("kpis"),
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    **_OPTIONS,
)
def kpis(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn) -> Iterator[Any]:
    """One row per KPI, slice and day: the days asked for, and those that late events or merges have changed."""
    # A run can cover many days: `partition_key` would raise.
    days = context.partition_time_window
    first = min(days.start, builds.changed_since(context.instance, DAILY, [TOUCHED, EVALUATIONS]) or _BEGINNING)
    earlier = _days_with_sessions(warehouse, first, days.start)
    for event in _build(context, warehouse, clock, window=(first, days.end), more=_heat_maps):
        if isinstance(event, dg.Output):
            key = context.assets_def.keys_by_output_name[event.output_name]
            builds.note_days(context, key, earlier, {builds.AS_OF_METADATA: clock.as_of(context).isoformat()})
        yield event


def _build(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, **options: Any) -> Iterator[Any]:
    as_of = clock.as_of(context)
    is_last = context.op_execution_context.op.name == KPIS_STEP
    return dbt.build(
        context,
        project=PROJECT,
        warehouse=warehouse.core(),
        as_of=as_of,
        full_refresh=builds.is_before_last_build(context, as_of),
        another_follows=WHOLE_TAG in context.run.tags and not is_last,
        **options,
    )


def _days_with_sessions(warehouse: Warehouse, first: datetime, end: datetime) -> list[date]:
    """The days from one midnight up to another, from the first session on; at most as many as a refresh looks back."""
    first = max(first, end - timedelta(days=warehouse.settings.history_days))
    with warehouse.read() as con:
        row = con.execute("select min(started_at) from marts.sessions").fetchone()
    if not row or row[0] is None:
        return []
    first = max(first, from_warehouse(row[0]).replace(hour=0, minute=0, second=0, microsecond=0))
    return [first.date() + timedelta(days=n) for n in range((end - first).days)]


def _changed_since(con: Connection, key: dg.AssetKey) -> Mapping[str, Any]:
    """The earliest moment from which this build changed anybody's past: KPIs of the days since then are stale."""
    if key != TOUCHED:
        return {}
    moment = stale_since(con, PROJECT.project_dir)
    return {builds.CHANGED_SINCE: moment.isoformat() if moment else builds.NEVER}


def _heat_maps(con: Connection, key: dg.AssetKey) -> Mapping[str, Any]:
    """Cohorts and funnel as pictures."""
    found: dict[str, bytes | None] = {}
    try:
        if key == RETENTION:
            found = {f"retention by {period}": watch.plot_retention(con, period) for period in ("week", "day")}
        elif key == FUNNEL:
            found = {"funnel by day": watch.plot_funnel(con)}
    except duckdb.Error:  # an analyst has given the model other columns: its table is there all the same
        _log.exception("%s has no picture", key.to_user_string())
    return {title: present.picture(png, title=title) for title, png in found.items() if png is not None}


def _broken(name: str, path: str, reason: str, fix: str) -> dg.AssetsDefinition:
    """A definition that cannot be used: on the graph, and red when it is run, with the reason."""
    folder = dbt.folder_of({"original_file_path": path})

    @dg.asset(
        key=[folder, name],
        group_name=folder if folder.isidentifier() else "dbt",
        kinds={"dbt"},
        owners=["team:data"],
        tags={"segue/broken": ""},
        description=f"**Not usable**: {reason}\n\nFile: `{path}`. Fix: {fix}",
    )
    def broken() -> None:
        raise dg.Failure(
            f"{reason}\n  fix: {fix}", metadata={"file": dg.MetadataValue.path(path), ALONE: True}, allow_retries=False
        )

    return broken


def _unique_broken() -> list[dg.AssetsDefinition]:
    """A second file of the same name can be broken while the first one works: the key then is the first one's."""
    taken = {model.relation for model in PROJECT.models}
    found: dict[str, dg.AssetsDefinition] = {}
    for item in PROJECT.broken:
        folder, name = dbt.folder_of({"original_file_path": item.path}), item.name
        while f"{folder}.{name}" in taken:
            name += "_again"
        taken.add(f"{folder}.{name}")
        found[name] = _broken(name, item.path, item.reason, item.fix)
    return list(found.values())


_BROKEN = _unique_broken()

ASSETS: list[dg.AssetsDefinition] = [stage for stage in (staging, marts, segments, kpis) if stage.keys] + _BROKEN
