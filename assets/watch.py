"""KPIs that were not as expected."""

import dagster as dg

from orchestration import present
from orchestration.automation import REFRESH_WITH_WHAT_IS_THERE, WRITER
from orchestration.keys import ANOMALIES, BACKTEST, DAILY, QUALITY
from orchestration.project import PROJECT
from orchestration.resources import Clock, Turn, Warehouse
from segue import quality, watch

#: Anomalies that are shown with a picture of their own.
_PICTURES = 4


@dg.asset(
    key=ANOMALIES,
    deps=[DAILY, QUALITY],
    group_name="watch",
    kinds={"python", "prophet"},
    owners=["team:data"],
    automation_condition=REFRESH_WITH_WHAT_IS_THERE,
    pool=WRITER,
    check_specs=[
        dg.AssetCheckSpec(
            "no_series_failed", asset=ANOMALIES, description="Every series was judged, or has too little."
        )
    ],
)
def anomalies(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> dg.MaterializeResult:
    """Stretches of days on which a KPI left the range that a forecast from the days before gave it."""
    as_of = clock.as_of(context)
    calendar = watch.load_calendar(warehouse.settings.dbt_project / "calendar.yml")
    with warehouse.write("anomalies", as_of=as_of) as con:
        watch.register(con, PROJECT)
        report = watch.detect(
            con, as_of=as_of, country=warehouse.settings.country, calendar=calendar, progress=context.log.info
        )
        inside = watch.look_inside(con, PROJECT, as_of=as_of, since=report.first_date)
        explained = quality.explain_incidents(con)
    with warehouse.read(as_of=as_of) as con:
        precision = watch.precision(con)
        found = sorted(
            watch.anomalies(con), key=lambda a: (a.last_date, watch.SEVERITIES.index(a.severity)), reverse=True
        )
        pictures = {
            f"{number}. {watch.name_of(a.kpi, a.slice, a.label)}": present.picture(
                watch.plot_anomaly(con, a.anomaly_id, as_of=as_of), title=watch.describe(a)
            )
            for number, a in enumerate(found[:_PICTURES], start=1)
        }
        latest = [
            (a.first_date, a.last_date, watch.describe(a), a.severity, watch.explain(con, a).words) for a in found[:20]
        ]
        overview = present.picture(watch.plot_overview(con, as_of=as_of), title="anomalies of the last weeks")
    failed = [
        f"{watch.name_of(kpi, slice_)}: {why}" for kpi, slice_, status, why in report.left_out if status == "failed"
    ]
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(
                check_name="no_series_failed",
                passed=not failed,
                # Not an error: what was found in the others is to be told.
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(failed) or None,
            )
        ],
        metadata={
            "dagster/row_count": len(found),
            **present.report(report),
            "anomalies of slices divided further": inside,
            "incidents explained by the data": explained,
            "precision, by what people dismissed": present.table(
                ["KPI", "found", "dismissed", "precision"],
                [(p.kpi, p.found_count, p.dismissed_count, present.percent(p.precision)) for p in precision],
            ),
            "overview": overview,
            "latest": present.table(["since", "until", "what", "severity", "moved most"], latest),
            **pictures,
        },
    )


@dg.asset(
    key=BACKTEST,
    deps=[ANOMALIES],
    group_name="watch",
    kinds={"python"},
    owners=["team:data"],
    automation_condition=REFRESH_WITH_WHAT_IS_THERE,
    pool=WRITER,
)
def backtest(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn) -> dg.MaterializeResult:
    """How each setting of the detector would have done on the days that were judged."""
    as_of = clock.as_of(context)
    with warehouse.write("backtest", as_of=as_of) as con:
        found = watch.backtest(con, as_of=as_of)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(found),
            "settings": present.table(
                [
                    "setting",
                    "days",
                    "ordinary days in the band",
                    "median error",
                    "told without cause",
                    "disturbed days told",
                ],
                [
                    (
                        b.setting,
                        b.day_count,
                        present.percent(b.inside_share),
                        present.percent(b.median_error),
                        b.quiet_found_count,
                        present.percent(b.disturbed_found_share),
                    )
                    for b in found
                ],
            ),
            "picture": present.picture(watch.plot_backtest(found), title="settings on the past"),
        }
    )
