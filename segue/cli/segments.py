"""`segue segments`, `segue check`, `segue dbt`: who is in which segment, and whether the definitions work."""

from datetime import datetime
from typing import Annotated

import typer

from segue.cli.console import AsOf, Format, OutputFormat, err, moment, out, print_rows, settings, warehouse
from segue.errors import BadInputError

#: Commands of dbt that change tables.
_WRITES = frozenset({"build", "run", "run-operation", "retry", "seed", "snapshot", "clone"})

app = typer.Typer(no_args_is_help=True, help="Segments: sizes, members, and the history of a person.")


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="segments")
    root.command("check")(check)
    root.command(
        "dbt", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    )(dbt)


@app.command("list")
def list_segments(as_of: AsOf = None, format: OutputFormat = Format.table) -> None:
    """Every segment with its size; `share` is per person seen in `share_days`, above 1 when most members were not."""
    from segue.segments import sizes

    with warehouse().read() as con:
        found = sizes(con, moment(as_of))
    print_rows(
        ["segment", "member_count", "share", "evaluated_at", "is_held"],
        [
            (s.segment, s.member_count, None if s.share is None else round(s.share, 4), s.evaluated_at, s.is_held)
            for s in found
        ],
        format,
        none="no segment has been evaluated by then: segue refresh",
    )


@app.command("members")
def list_members(
    name: Annotated[str, typer.Argument(help="The segment.")],
    as_of: AsOf = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows; in order of person_id.", min=0)] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Who is in a segment, as of any time."""
    from segue.segments import members

    with warehouse().read() as con:
        found = members(con, name, moment(as_of), limit=limit)
    rows = [(m.person_id, m.entered_at) for m in found]
    print_rows(["person_id", "entered_at"], rows, format, none="nobody is in it at that time")


@app.command("preview")
def show_preview(
    name: Annotated[str, typer.Argument(help="The segment.")],
    as_of: AsOf = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows.", min=0)] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Who would be in a segment as of any time, by its SQL as it stands now. Writes nothing."""
    from segue.models import prepare
    from segue.segments import preview

    columns, rows = preview(warehouse(), prepare(settings()), name, as_of=moment(as_of), limit=limit)
    print_rows(columns, rows, format, none="nobody would be in it at that time")


@app.command("history")
def show_history(
    person: Annotated[str, typer.Argument(help="A person_id.")], format: OutputFormat = Format.table
) -> None:
    """Every segment a person entered or left, and why; ids that were merged into the person included."""
    from segue.segments import person_history

    with warehouse().read() as con:
        changes = person_history(con, person)
    print_rows(
        ["effective_at", "segment", "change", "is_member", "cause", "person_id", "recorded_at"],
        [(c.effective_at, c.segment, c.change, c.is_member, c.cause, c.person_id, c.recorded_at) for c in changes],
        format,
    )


def check() -> None:
    """Say of every dbt model and segment whether it works, before any data does. Exit code 1 when one does not."""
    from segue.models import prepare, warehouse_only, without_model
    from segue.segments import definitions
    from segue.watch import kpis_of

    current = settings()
    project = prepare(current)
    known = definitions(project)
    faults = [(b.reason, b.fix) for b in project.broken]
    faults += without_model(current.dbt_project)
    faults += [(e.message, e.fix or "") for e in [*known.errors.values(), *kpis_of(project)[1]]]
    for reason, fix in faults:
        err.print("[bold red]broken[/]", end=" ")
        err.print(f"{reason}\n  fix: {fix}", markup=False, highlight=False)
    for name, refusal in warehouse_only(project).items():
        err.print("[bold yellow]not in real time[/]", end=" ")
        err.print(f"{name}: {refusal.reason}\n  fix: {refusal.fix}", markup=False, highlight=False)
    out.print(f"{len(project.models)} models, {len(known.segments)} of them segments, work; {len(faults)} broken")
    if faults:
        raise typer.Exit(1)


def dbt(context: typer.Context, as_of: AsOf = None) -> None:
    """Run dbt on the project with Segue's clock, warehouse and folders: `segue dbt build --select power_users`."""
    import os
    import sys

    from segue.models import dbt_environment
    from segue.settings import dbt_child_environment

    current, clock = settings(), moment(as_of)
    if _WRITES.intersection(context.args):
        _refuse_the_past(clock)
    environment = dbt_child_environment(
        dbt_environment(current, as_of=clock) | {"DBT_PROJECT_DIR": str(current.dbt_project)}
    )
    # Replaces this process, so that dbt's exit code and signals are its own.
    program = "from dbt.cli.main import cli; cli(prog_name='segue dbt')"
    os.execve(sys.executable, [sys.executable, "-c", program, *context.args], environment)


def _refuse_the_past(clock: datetime) -> None:
    """The tables below a model are of the last refresh, and what was appended to them since stays: no past is in them.

    Raises:
        BadInputError: when the warehouse holds a later state.
    """
    from segue.identity import stitched_as_of

    with warehouse().read() as con:
        state = stitched_as_of(con)
    if state is not None and clock < state:
        raise BadInputError(
            f"the warehouse is as of {state:%Y-%m-%d %H:%M:%S} UTC: dbt would mix what came until then with "
            f"{clock:%Y-%m-%d %H:%M:%S}, and write that over what is true now",
            fix="`segue segments preview NAME --as-of TIME` evaluates a segment as of any time and writes nothing; "
            "`segue refresh --as-of TIME` takes everything back",
        )
