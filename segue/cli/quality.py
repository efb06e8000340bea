"""`segue quality`: whether the data can be believed."""

from typing import Annotated

import typer

from segue.cli.console import AsOf, Format, OutputFormat, moment, out, print_rows, settings, warehouse

app = typer.Typer(no_args_is_help=True, help="Whether the data can be believed.")


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="quality")


@app.command()
def report(
    as_of: AsOf = None,
    format: OutputFormat = Format.table,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 when there is an error among them.")] = False,
) -> None:
    """Examine the data now: volume, freshness, drift, missing values, duplicates, clocks, identifiers, references."""
    from segue.events import load_contracts
    from segue.quality import examine, load_limits

    current = settings()
    with warehouse().read() as con:
        found = examine(
            con,
            as_of=moment(as_of),
            limits=load_limits(current.dbt_project / "quality.yml"),
            contracts=load_contracts(current.dbt_project / "contracts"),
        )
    rows = [(f.weight, f.check, f.subject, f.first_date, f.last_date, f.sentence) for f in found.findings]
    if format is Format.table:
        checks = [(r.check, "✓" if r.passed else "✗", len(r.findings), r.description) for r in found.results]
        print_rows(["check", "", "findings", "what has to hold"], checks, format)
        if rows:
            print_rows(["weight", "check", "since", "sentence"], [(r[0], r[1], r[3], r[5]) for r in rows], format)
        else:
            out.print("nothing is out of the usual")
    else:
        print_rows(["weight", "check", "subject", "first_date", "last_date", "sentence"], rows, format)
    if strict and any(f.weight == "error" for f in found.findings):
        raise typer.Exit(2)


@app.command()
def incidents(format: OutputFormat = Format.table) -> None:
    """Faults of the data with one cause each, latest first, and how many KPI incidents each explains."""
    from segue.quality import data_incidents, explained

    with warehouse().read() as con:
        found, causes = data_incidents(con), list(explained(con).values())
    columns = ["incident_id", "since", "until", "status", "severity", "owner", "source", "explains", "what"]
    rows = [
        (
            i.incident_id, i.first_date, i.last_date, i.status, i.severity, i.owner, i.source,
            causes.count(i.incident_id), i.lead.sentence,
        )
        for i in found
    ]  # fmt: skip
    print_rows(columns, rows, format)
