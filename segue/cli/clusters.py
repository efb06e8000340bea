"""`segue clusters`: what the last discovery found."""

import typer

from segue.cli.console import Format, OutputFormat, print_rows, warehouse

app = typer.Typer(no_args_is_help=True, help="Discovered clusters: names, sizes, profiles.")


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="clusters")


@app.command("list")
def list_clusters(format: OutputFormat = Format.table) -> None:
    """The clusters of the last run, largest first."""
    columns = ["method", "cluster_name", "person_count", "share", "profile"]
    with warehouse().read() as con:
        rows = con.execute(
            f"select {', '.join(columns)} from clusters.profiles order by method desc, person_count desc"
        ).fetchall()
    print_rows(columns, rows, format)
