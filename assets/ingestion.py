"""From the landing zone into `raw`: every message is loaded, known already, or in quarantine."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration import present
from orchestration.automation import WRITER
from orchestration.keys import EVENTS, LANDING, LOG
from orchestration.resources import Clock, Turn, Warehouse
from segue import events
from segue.settings import load_settings
from segue.warehouse import row_count, scalar

#: Files that are listed in the UI; all of them are in `raw.loads`.
_FILES_SHOWN = 50

_COMMON: dict[str, Any] = {
    "group_name": "ingestion",
    "kinds": {"python", "duckdb"},
    "owners": ["team:data"],
    "deps": [LANDING],
}

landing = dg.AssetSpec(
    LANDING,
    deps=[LOG],
    group_name="ingestion",
    kinds={"file"},
    owners=["team:data"],
    description="The folder that event files are dropped into: NDJSON or Parquet of Segment-spec messages. "
    "What the collector takes arrives here every few seconds.",
)


@dg.multi_asset(
    name="ingest",
    specs=[
        dg.AssetSpec(EVENTS, description="Every accepted message, once, as it was sent.", **_COMMON),
        dg.AssetSpec(
            ["raw", "quarantine"],
            description="Messages that broke the spec or a contract, with the reason. `segue quarantine` replays them.",
            **_COMMON,
        ),
        dg.AssetSpec(
            ["raw", "loads"], description="The ledger of files: what each held and what became of it.", **_COMMON
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "read_is_accounted_for",
            asset=EVENTS,
            blocking=True,
            description="Messages read = loaded + duplicates + quarantined, for every file and in every table.",
        ),
        dg.AssetCheckSpec("every_file_was_readable", asset=EVENTS, description="No file was refused as a whole."),
        dg.AssetCheckSpec(
            "none_before_history", asset=EVENTS, description="No event lies before the first day of the graph."
        ),
    ],
    pool=WRITER,
)
def ingest(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> Iterator[dg.MaterializeResult]:
    """Reads what waits in the landing zone; each file once, whatever happens in between."""
    with warehouse.write("raw tables") as con:
        events.ensure_tables(con)
    report = events.ingest(warehouse.core(), as_of=clock.as_of(context))
    with warehouse.read() as con:
        books = events.accounting(con)
        counts = {table: row_count(con, f"raw.{table}") for table in ("events", "quarantine", "loads")}
        early = scalar(con, "select count(*) from raw.events where timestamp < $1", [load_settings().history_start])
    files = present.table(
        ["file", "read", "loaded", "duplicates", "quarantined"],
        [(f.file, f.read, f.loaded, f.duplicates, f.quarantined) for f in report.files[-_FILES_SHOWN:]],
    )
    yield dg.MaterializeResult(
        asset_key=EVENTS,
        metadata={
            "dagster/row_count": counts["events"],
            "read now": report.read,
            "loaded now": report.loaded,
            "duplicates now": report.duplicates,
            "quarantined now": report.quarantined_count,
            "files now": files,
            "left for the next time": ", ".join(report.still_written) or "nothing",
            "landing zone": present.link(load_settings().landing_zone),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="read_is_accounted_for",
                asset_key=EVENTS,
                passed=books.holds,
                description="; ".join(books.problems) or None,
                metadata=present.report(books),
            ),
            dg.AssetCheckResult(
                check_name="every_file_was_readable",
                asset_key=EVENTS,
                passed=not report.refused,
                description="; ".join(f"{file}: {reason}" for file, reason in report.refused.items()) or None,
            ),
            dg.AssetCheckResult(
                check_name="none_before_history",
                asset_key=EVENTS,
                passed=early == 0,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{early:,} events lie before SEGUE_HISTORY_START; KPIs of their days are not shown"
                if early
                else None,
            ),
        ],
    )
    yield dg.MaterializeResult(
        asset_key=["raw", "quarantine"],
        metadata={
            "dagster/row_count": counts["quarantine"],
            "now, by reason": present.table(["reason", "messages"], report.quarantined.items()),
        },
    )
    yield dg.MaterializeResult(asset_key=["raw", "loads"], metadata={"dagster/row_count": counts["loads"]})


ASSETS: list[dg.AssetSpec | dg.AssetsDefinition] = [landing, ingest]
