"""Telling people: each anomaly once, over every channel."""

import dagster as dg

from orchestration import present
from orchestration.automation import WRITER
from orchestration.keys import ANNOUNCEMENTS, ANOMALIES
from orchestration.resources import Clock, Turn, Warehouse
from segue import alerts
from segue.warehouse import has_table, row_count


# No automation: the sensor `anomalies` knows better, since what was not delivered is tried again later.
@dg.asset(
    key=ANNOUNCEMENTS,
    deps=[ANOMALIES],
    group_name="alerts",
    kinds={"python", "slack"},
    owners=["team:data"],
    check_specs=[
        dg.AssetCheckSpec(
            "every_alert_delivered", asset=ANNOUNCEMENTS, description="Every channel took what it was sent."
        )
    ],
    pool=WRITER,
)
def announcements(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> dg.MaterializeResult:
    """The ledger of alerts: what was sent to whom, when, and what waits to be tried again."""
    settings = warehouse.settings
    report = alerts.announce(
        warehouse.core(), settings, as_of=clock.as_of(context), run_url=f"{settings.dagster_url}/runs/{context.run_id}"
    )
    with warehouse.read() as con:
        count = row_count(con, "alerts.announcements") if has_table(con, "alerts", "announcements") else 0
    refused = [f"{n.channel}: {n.reason}" for n in report.not_sent]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": count,
            "sent": present.table(
                ["channel", "alert", "about", "where"],
                [(s.channel, s.title, s.subject_count, s.where) for s in report.sent],
            ),
            "previews": present.link(settings.home / "alerts"),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="every_alert_delivered",
                passed=not refused,
                # Not an error: announcing it would meet the same closed door.
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(refused) or None,
            )
        ],
    )
