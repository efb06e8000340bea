"""What Dagster's record says of builds: as of when a model was built, and which days a build has changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from orchestration.automation import DAYS
from segue.clock import parse_as_of

#: Says as of when a model was built.
AS_OF_METADATA = "segue/as_of"

#: Says from which moment on a build changed the past; KPIs of the days since then are stale.
CHANGED_SINCE = "segue/changed_since"
NEVER = "never"

#: After more builds than this without a build of the KPIs, all days are built.
_BUILDS_LOOKED_AT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The last time that a model was built."""

    as_of: datetime
    at: float  # seconds of the epoch


def last_build(instance: dg.DagsterInstance, key: dg.AssetKey) -> Build | None:
    """When a model was last built, and as of when; None when Dagster never built it."""
    entry = instance.get_latest_materialization_event(key)
    if entry is None or entry.asset_materialization is None:
        return None
    noted = entry.asset_materialization.metadata.get(AS_OF_METADATA)
    return Build(as_of=parse_as_of(str(noted.value)), at=entry.timestamp) if noted is not None else None


def is_before_last_build(context: dg.AssetExecutionContext, as_of: datetime) -> bool:
    """Whether any selected model holds a later state than `as_of`, so that incremental models must start over."""
    builds = (last_build(context.instance, key) for key in context.selected_asset_keys)
    return any(build is not None and build.as_of > as_of for build in builds)


def note_days(
    context: dg.AssetExecutionContext, key: dg.AssetKey, days: Iterable[date], metadata: Mapping[str, Any]
) -> None:
    """Mark days as materialised that were filled in beyond the partitions of the run; each day once."""
    known = context.instance.get_materialized_partitions(key)
    for day in days:
        if day.isoformat() not in known and DAYS.has_partition_key(day.isoformat()):
            context.log_event(dg.AssetMaterialization(asset_key=key, partition=day.isoformat(), metadata=metadata))


def changed_since(instance: dg.DagsterInstance, kpi: dg.AssetKey, upstream: Iterable[dg.AssetKey]) -> datetime | None:
    """The earliest midnight from which builds of `upstream` after the last build of a KPI have changed the past.

    None when it is unknown: all days must be built.
    """
    last = instance.fetch_materializations(kpi, limit=1).records
    if not last:
        return None
    moments = [last[0].event_log_entry.timestamp]
    for key in upstream:
        later = dg.AssetRecordsFilter(asset_key=key, after_storage_id=last[0].storage_id)
        records = instance.fetch_materializations(later, limit=_BUILDS_LOOKED_AT).records
        if len(records) == _BUILDS_LOOKED_AT:
            return None
        for record in records:
            noted = record.asset_materialization.metadata.get(CHANGED_SINCE) if record.asset_materialization else None
            if noted is None:
                return None
            if noted.value != NEVER:
                moments.append(datetime.fromisoformat(str(noted.value)).timestamp())
    return datetime.fromtimestamp(min(moments), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
