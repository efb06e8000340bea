"""The commands, in the order a newcomer meets them."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from segue.cli.console import AsOf, Format, OutputFormat, moment, out, print_error, print_rows, settings, warehouse
from segue.cli.usage import Group, UsageError, explained, is_help
from segue.errors import SegueError


class _Root(Group):
    """Shows a `SegueError` as one message, with exit code 2 when the command line cannot be followed, else 1.

    Any other exception is a defect and keeps its traceback.
    """

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _readable():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _readable():
            return super().invoke(ctx)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except SegueError as error:
        print_error(error)
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None
    except typer.TyperException as error:
        if is_help(error):
            raise
        print_error(explained(error))
        raise typer.Exit(error.exit_code) from None
    except BrokenPipeError:  # `segue sql … | head`
        sys.stderr.close()
        raise typer.Exit(0) from None


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Segments that move with the people in them.\n\n"
    "Start with [bold]segue demo[/], or bring your own events: [bold]segue import[/], then [bold]segue refresh[/].",
)


@app.callback()
def _main(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s" if verbose else "%(message)s",
    )


@app.command()
def config(format: OutputFormat = Format.table) -> None:
    """Every setting: its variable, its value in force, its meaning. Secrets are shown as stars."""
    current = settings()
    rows = [
        (
            f"SEGUE_{name.upper()}",
            "" if (value := getattr(current, name)) is None else current.without_secrets(str(value)),
            field.description,
        )
        for name, field in type(current).model_fields.items()
    ]
    print_rows(["variable", "value", "meaning"], rows, format)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A DuckDB query; `-` reads it from standard input.")],
    format: OutputFormat = Format.table,
    as_of: AsOf = None,
) -> None:
    """Read the warehouse, also while it is written.

    One committed state, read-only: `segue sql "from segments.memberships limit 5"`,
    `segue sql "show all tables"`, `segue sql "describe raw.events"`.
    """
    import duckdb

    from segue.errors import BadInputError

    text = sys.stdin.read() if query == "-" else query
    with warehouse().read(as_of=moment(as_of)) as con:
        try:
            answer = con.execute(text)
            columns = [column[0] for column in answer.description or []]
            print_rows(columns, answer.fetchall(), format)
        except duckdb.Error as error:
            raise BadInputError(
                f"the query failed: {error}", fix='`segue sql "show all tables"` lists what can be read'
            ) from None


@app.command()
def maintain() -> None:
    """Rewrite small files, forget old states, remove dead files and what the landing writer left long ago.

    Readers are not disturbed; Dagster does it daily.
    """
    from segue.events import remove_read_files
    from segue.warehouse import maintain as run

    report = run(warehouse(), as_of=moment(None))
    with warehouse().read() as con:
        landed = remove_read_files(warehouse().settings, con, as_of=moment(None))
    out.print(
        f"rewritten: {', '.join(report.rewritten) or 'nothing'}; "
        f"{report.expired_snapshots} old states forgotten; {report.removed_files} files removed; "
        f"{landed} files of the landing writer removed"
    )


def _add_rooms() -> None:
    from segue.cli import (
        alerts,
        api,
        clusters,
        collector,
        dashboard,
        engine,
        identity,
        ingest,
        keys,
        landing,
        propensity,
        quality,
        quarantine,
        realtime,
        run,
        segments,
        simulate,
        webhooks,
    )

    for room in (
        run,
        simulate,
        ingest,
        quarantine,
        quality,
        segments,
        identity,
        clusters,
        propensity,
        alerts,
        dashboard,
        api,
        realtime,
        engine,
        webhooks,
        collector,
        keys,
        landing,
    ):
        room.register(app)
    for group in app.registered_groups:
        group.cls = Group


_add_rooms()
