"""Groups that nobody defined: found in how people behave."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration import present
from orchestration.automation import REFRESH, WRITER
from orchestration.project import PROJECT
from orchestration.resources import Clock, Turn, Warehouse
from segue.warehouse import row_count

_COMMON: dict[str, Any] = {
    "group_name": "clusters",
    "kinds": {"python", "scikitlearn"},
    "owners": ["team:data"],
    "deps": [["marts", "person_features"]],
    "automation_condition": REFRESH,
}


@dg.multi_asset(
    name="clusters",
    specs=[
        dg.AssetSpec(["clusters", "assignments"], description="The cluster of each person, per method.", **_COMMON),
        dg.AssetSpec(
            ["clusters", "profiles"],
            description="What each cluster is like: a name, a sentence, how many people, what sets them apart.",
            **_COMMON,
        ),
        dg.AssetSpec(
            ["clusters", "runs"], description="How each discovery chose its clusters, and how good they are.", **_COMMON
        ),
        dg.AssetSpec(
            ["clusters", "events"], description="What happened to clusters: born, split, merged, died.", **_COMMON
        ),
    ],
    pool=WRITER,
)
def discovery(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> Iterator[dg.MaterializeResult]:
    """K-Means and HDBSCAN on scaled behaviour."""
    from segue import clusters  # loads scikit-learn: a second and a half that would delay every start of the graph

    as_of = clock.as_of(context)
    with warehouse.write("clusters", as_of=as_of) as con:
        report = clusters.discover(con, as_of=as_of, features=clusters.features_of(PROJECT))
    with warehouse.read() as con:
        counts = {table: row_count(con, f"clusters.{table}") for table in ("assignments", "profiles", "runs", "events")}
        sizes = clusters.plot_sizes(con)
        told = con.execute(
            "select as_of, method, event, explanation from clusters.events order by as_of desc, method desc limit 20"
        ).fetchall()
    rows = [
        (found.method, p.cluster_name, p.person_count, present.percent(p.share), p.profile)
        for found in report.methods
        for p in found.profiles
    ]
    yield dg.MaterializeResult(
        asset_key=["clusters", "assignments"],
        metadata={
            "dagster/row_count": counts["assignments"],
            "people compared": report.person_count,
            "people left out": report.left_out_count,
            "features": report.feature_count,
            "note": report.note or "clusters were found",
            "map": present.picture(clusters.plot(report), title="people by cluster"),
        },
    )
    yield dg.MaterializeResult(
        asset_key=["clusters", "profiles"],
        metadata={
            "dagster/row_count": counts["profiles"],
            "profiles": present.table(["method", "cluster", "people", "share", "profile"], rows),
            "picture": present.picture(clusters.plot_profiles(report), title="profiles of the clusters"),
        },
    )
    yield dg.MaterializeResult(
        asset_key=["clusters", "runs"],
        metadata={
            "dagster/row_count": counts["runs"],
            **{f"silhouette, {m.method}": m.silhouette for m in report.methods if m.silhouette is not None},
            **{f"criterion, {m.method}": m.criterion for m in report.methods},
            **{f"decision, {m.method}": m.decision for m in report.methods},
        },
    )
    yield dg.MaterializeResult(
        asset_key=["clusters", "events"],
        metadata={
            "dagster/row_count": counts["events"],
            "latest": present.table(["as of", "method", "event", "what happened"], told),
            "sizes": present.picture(sizes, title="sizes of the clusters over time"),
        },
    )
