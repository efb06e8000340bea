"""`segue clusters`: what discovery found, what became of it, and how a cluster becomes a segment."""

from typing import Annotated, Any

import typer

from segue.cli.console import Format, OutputFormat, err, out, print_rows, settings, warehouse

app = typer.Typer(no_args_is_help=True, help="Discovered clusters: names, sizes, profiles, and how they are adopted.")

_NONE = "no clusters have been looked for yet: segue refresh"


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="clusters")


@app.command("list")
def list_clusters(format: OutputFormat = Format.table) -> None:
    """The clusters of the last run, largest first."""
    columns = ["method", "cluster_id", "cluster_name", "person_count", "share", "profile"]
    rows = _rows(
        "select method, cluster_id, cluster_name, person_count, round(share, 4), profile from clusters.profiles"
        " order by method desc, person_count desc"
    )
    print_rows(columns, rows, format, none=_NONE)


@app.command("events")
def list_events(format: OutputFormat = Format.table) -> None:
    """What happened to clusters: born, split, merged, died; newest first."""
    rows = _rows(
        "select as_of, method, event, cluster_id, explanation from clusters.events"
        " order by as_of desc, method desc, cluster_id"
    )
    print_rows(["as_of", "method", "event", "cluster_id", "explanation"], rows, format, none=_NONE)


def _rows(query: str) -> list[tuple[Any, ...]]:
    """What the query gives; nothing before clusters were looked for."""
    import duckdb

    with warehouse().read() as con:
        try:
            return con.execute(query).fetchall()
        except duckdb.CatalogException:
            return []


@app.command("adopt")
def adopt_cluster(
    name: Annotated[str, typer.Argument(help="The cluster: its name or its number.")],
    as_segment: Annotated[str | None, typer.Option("--as", help="Name of the segment; else after the cluster.")] = None,
    method: Annotated[str, typer.Option(help="kmeans or hdbscan.")] = "kmeans",
) -> None:
    """Write a cluster down as a segment in SQL, which is yours to edit and works in real time as any other."""
    from segue import clusters
    from segue.clusters.discover import MIN_EVENTS
    from segue.models import prepare
    from segue.segments import definitions

    current = settings()
    project = prepare(current)
    priority = max((s.priority for s in definitions(project).segments), default=0) + 1
    with warehouse().read() as con:
        adoption = clusters.adopt(
            con, name, segment=as_segment, features=clusters.features_of(project), priority=priority,
            min_events=MIN_EVENTS, method=method,
        )  # fmt: skip
    path, _ = clusters.write(adoption, current.dbt_project)
    rules = adoption.rules
    out.print(adoption.sql, markup=False, highlight=False)
    out.print(
        f"written to {path}: precision {rules.precision:.2f}, recall {rules.recall:.2f}, F1 {rules.f1:.2f}",
        markup=False,
        highlight=False,
    )
    if rules.f1 < clusters.FAITHFUL:
        err.print(
            f"few predicates cannot say what this cluster is (F1 below {clusters.FAITHFUL}): "
            "read the SQL before you rely on it",
            markup=False,
        )
