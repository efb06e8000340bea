"""Whether the data can be believed, as checks."""

import dagster as dg

from orchestration import present
from orchestration.automation import REFRESH_WITH_WHAT_IS_THERE, WRITER
from orchestration.keys import EVENTS, QUALITY
from orchestration.resources import Clock, Turn, Warehouse
from segue import quality
from segue.events import load_contracts


@dg.asset(
    key=QUALITY,
    deps=[EVENTS, ["identity", "identifiers"], ["marts", "sessions"]],
    group_name="watch",
    kinds={"python", "duckdb"},
    owners=["team:data"],
    automation_condition=REFRESH_WITH_WHAT_IS_THERE,
    check_specs=[
        dg.AssetCheckSpec(name, asset=QUALITY, description=(run.__doc__ or "").splitlines()[0])
        for name, run in quality.CHECKS.items()
    ],
    pool=WRITER,
)
def findings(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn) -> dg.MaterializeResult:
    """What has changed in what arrives: volume, freshness, contracts, missing values, duplicates, clocks."""
    as_of = clock.as_of(context)
    project = warehouse.settings.dbt_project
    contracts = load_contracts(project / "contracts")
    with warehouse.write("data quality", as_of=as_of) as con:
        report = quality.examine(
            con,
            as_of=as_of,
            limits=quality.load_limits(project / "quality.yml"),
            contracts=contracts,
        )
        quality.record(con, report.findings, as_of=as_of)
        quality.note_contracts(con, contracts, as_of=as_of)
        open_count = quality.keep_incidents(con, contracts=contracts, as_of=as_of)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(report.findings),
            "open incidents": open_count,
            "findings": present.table(
                ["weight", "check", "since", "what"],
                [(f.weight, f.check, f.first_date, f.sentence) for f in report.findings],
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=result.check,
                passed=result.passed,
                # Never an error: people are told of the incident, together with the KPIs that it explains, once.
                severity=dg.AssetCheckSeverity.WARN,
                description=" ".join(f.sentence for f in result.findings) or None,
            )
            for result in report.results
        ],
    )
