"""`segue quarantine`: what was refused, why, and the way back."""

from pathlib import Path
from typing import Annotated

import typer

from segue.cli.console import AsOf, Format, OutputFormat, moment, out, print_rows, warehouse

app = typer.Typer(no_args_is_help=True, help="Messages that broke the spec or their contract.")

Reason = Annotated[str | None, typer.Option("--reason", "-r", help="Only this reason code.")]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="quarantine")


@app.command("list")
def list_messages(
    reason: Reason = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    format: OutputFormat = Format.table,
) -> None:
    """What waits in quarantine, the newest first."""
    from segue.events import list_quarantined

    with warehouse().read() as con:
        found = list_quarantined(con, reason=reason, limit=limit)
    if format is Format.table:
        rows = [(one.quarantine_id[:8], one.reason, Path(one.file).name, one.detail) for one in found]
        print_rows(["id", "reason", "file", "detail"], rows, none="nothing is in quarantine")
        return
    columns = ["quarantine_id", "reason", "detail", "file", "line", "received_at", "payload"]
    print_rows(columns, [[getattr(one, column) for column in columns] for one in found], format)


@app.command()
def show(quarantine_id: Annotated[str, typer.Argument(help="The id, or its first letters.")]) -> None:
    """One message: why it was refused, and its original text."""
    from segue.events import show_quarantined

    with warehouse().read() as con:
        one = show_quarantined(con, quarantine_id)
    state = f"put back at {one.replayed_at}" if one.replayed_at else "waits"
    out.print(
        f"{one.quarantine_id} ({state})\n{one.reason}: {one.detail}\nfrom {one.file}, line {one.line}",
        markup=False,
        highlight=False,
    )
    out.print(one.payload, markup=False, highlight=False, soft_wrap=True)


@app.command()
def replay(
    reason: Reason = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this message; may be repeated.")] = None,
    as_of: AsOf = None,
) -> None:
    """Check again with today's contracts, and load what is good now."""
    from segue.events import replay as run

    report = run(warehouse(), as_of=moment(as_of), reason=reason, ids=ids or ())
    remaining = sum(report.remaining.values())
    out.print(
        f"tried {report.tried:,}: {report.loaded:,} loaded, {report.duplicates:,} were there already, "
        f"{remaining:,} stay",
        highlight=False,
    )
    for name, count in report.remaining.items():
        out.print(f"{count:>12,}  {name}", highlight=False)
    if report.not_whole:
        out.print(f"{report.not_whole:,} were not tried: only a piece of them was kept", highlight=False)
