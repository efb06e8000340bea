"""The real-time side on the graph: what runs outside of Dagster, watched by a sensor; and the audit."""

import dagster as dg

from orchestration import present
from orchestration.keys import AUDIT, EVENTS, LOG, SERVED, WEBHOOKS
from orchestration.project import PROJECT
from orchestration.resources import Warehouse
from segue.clock import system_time
from segue.models import prepare
from segue.realtime import ContractJudge
from segue.realtime.audit import CAUSES, AuditReport, Cause, audit_and_repair
from segue.segments import definitions

_GROUP = "realtime"
_OWNERS = ["team:data"]
_CHECK = "serves_what_the_models_say"
_SHOWN = 50

_SEGMENTS = [s.relation.split(".") for s in definitions(PROJECT).segments if s.realtime]

log = dg.AssetSpec(
    LOG,
    group_name="ingestion",  # files are made of it: with the memberships, the groups would go in a circle
    kinds={"valkey"},
    owners=_OWNERS,
    description="Events that the collector has acknowledged. The landing writer makes files of them, the engine "
    "evaluates them; it is trimmed when both are past.",
)

served = dg.AssetSpec(
    SERVED,
    deps=[LOG, EVENTS, *_SEGMENTS],
    group_name=_GROUP,
    kinds={"valkey", "duckdb"},
    owners=_OWNERS,
    description="Who is in which segment now, as the API answers it. The engine runs the SQL of these segments for "
    "just the people that events touch; observations say how it is doing.",
)

webhooks = dg.AssetSpec(
    WEBHOOKS,
    deps=[SERVED],
    group_name=_GROUP,
    kinds={"valkey"},
    owners=_OWNERS,
    description="Changes of segments on their way to those who asked to be called. `segue webhooks` manages them.",
)


@dg.asset(
    key=AUDIT,
    deps=[SERVED],
    group_name=_GROUP,
    kinds={"python", "duckdb"},
    owners=_OWNERS,
    check_specs=[
        dg.AssetCheckSpec(
            _CHECK,
            asset=AUDIT,
            description="What is served is what the same models say, run for everyone as of the same moment.",
        )
    ],
)
def audit(warehouse: Warehouse) -> dg.MaterializeResult:
    """Holds what is served against the models, run for everyone; the engine corrects and tells what differs."""
    settings = warehouse.settings
    return tell(audit_and_repair(settings, prepare(settings), ContractJudge(settings, system_time)))


def tell(report: AuditReport) -> dg.MaterializeResult:
    """What an audit has found."""
    by_cause: dict[Cause, int] = {}
    for difference in report.differences:
        by_cause[difference.cause] = by_cause.get(difference.cause, 0) + 1
    rows = [(d.person_id, d.segment, "store" if d.is_served else "models", d.cause) for d in report.faults[:_SHOWN]]
    said = ", ".join(f"{by_cause[cause]:,} × {cause}" for cause in sorted(by_cause))
    return dg.MaterializeResult(
        metadata={
            **present.report(report),
            "segments compared": len(report.segments),
            "not compared": present.table(["segment", "why"], report.not_compared.items()),
            "differences": present.table(
                ["cause", "memberships", "meaning"], [(c, n, CAUSES[c]) for c, n in sorted(by_cause.items())]
            ),
            "faults": present.table(["person", "segment", "only in", "cause"], rows),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=_CHECK,
                passed=not report.faults,
                # What the engine has corrected, it has told: somebody should look why, nobody needs to hurry.
                severity=dg.AssetCheckSeverity.ERROR if report.left else dg.AssetCheckSeverity.WARN,
                description=report.postponed or f"{said or 'no difference'}; {report.repaired:,} repaired",
            )
        ],
    )


ASSETS: list[dg.AssetSpec | dg.AssetsDefinition] = [log, served, webhooks, audit]
