"""From the landing zone into `raw`: every message is loaded, known already, or in quarantine."""

from collections.abc import Iterator

import dagster as dg

from orchestration import present
from orchestration.automation import DAYS, WRITER
from orchestration.resources import Clock, Turn, Warehouse
from segue import events

LANDING = dg.AssetKey(["landing"])
EVENTS = dg.AssetKey(["raw", "events"])
_COMMON = {"group_name": "ingestion", "kinds": {"python", "duckdb"}, "owners": ["team:data"], "deps": [LANDING]}

landing = dg.AssetSpec(
    LANDING,
    group_name="ingestion",
    kinds={"file"},
    owners=["team:data"],
    description="The folder that event files are dropped into: NDJSON or Parquet of Segment-spec messages.",
)


@dg.multi_asset(
    name="ingest",
    specs=[
        dg.AssetSpec(EVENTS, description="Every accepted message, once, as it was sent.", **_COMMON),
        dg.AssetSpec(
            ["raw", "quarantine"],
            description="Messages that break the spec or their contract, with the reason. `segue quarantine` shows and replays them.",
            **_COMMON,
        ),
        dg.AssetSpec(["raw", "loads"], description="The ledger of files: what each held and what became of it.", **_COMMON),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "read_is_accounted_for",
            asset=EVENTS,
            blocking=True,
            description="Messages read = loaded + duplicates + quarantined, for every file.",
        ),
        dg.AssetCheckSpec("none_before_history", asset=EVENTS, description="No event lies before the first day of the graph."),
    ],
    pool=WRITER,
)
def ingest(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> Iterator[dg.MaterializeResult]:
    """Reads what waits in the landing zone; each file once, whatever happens in between."""
    report = events.ingest(warehouse.core(), as_of=clock.as_of(context))
    for n in ("events","quarantine","loads"): yield dg.MaterializeResult(asset_key=["raw",n])


ASSETS = [landing, ingest]
