"""What every command shares: settings, the warehouse, the clock, tables in three formats."""

import csv
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from segue.cli.screen import Screen, visible
from segue.clock import parse_as_of, system_time
from segue.errors import SegueError
from segue.settings import Settings, load_settings
from segue.warehouse import Warehouse

#: Answers go to stdout; progress and hints to stderr, so that output can be piped.
#: What is piped gets wide lines: a table squeezed into 80 columns is of use to nobody.
out = Screen(width=None if sys.stdout.isatty() else 200)
err = Screen(stderr=True, soft_wrap=True)


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    csv = "csv"


AsOf = Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="UTC time, ISO 8601. Default: this moment.")]
OutputFormat = Annotated[Format, typer.Option("--format", "-f", help="How to print the rows.")]


def log_aloud() -> None:
    """For a process that runs for long: say what it does, and when (UTC). Whoever runs it looks at its log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("segue").setLevel(logging.INFO)


def print_error(error: SegueError) -> None:
    """What went wrong, as a person reads it; nothing in it is taken for markup."""
    err.print("[bold red]error[/]", end=" ")
    err.print(str(error), markup=False, highlight=False, soft_wrap=True)


def settings() -> Settings:
    """The settings in force."""
    return load_settings()


def warehouse() -> Warehouse:
    """The warehouse of the settings in force."""
    return Warehouse(load_settings())


def moment(as_of: str | None) -> datetime:
    """The time a command works with: what was passed, else the system's."""
    return system_time() if as_of is None else parse_as_of(as_of)


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    format: Format = Format.table,
    *,
    title: str | None = None,
    none: str = "no rows",
) -> None:
    """Rows as a table for people, or as JSON (one array) or CSV for programs; times as ISO 8601 UTC.

    Args:
        none: said beside an empty table, so that nobody wonders whether something went wrong; best with what to do.
    """
    if format is Format.json:
        sys.stdout.write(
            json.dumps([dict(zip(columns, map(_plain, row), strict=True)) for row in rows], indent=2, default=str)
            + "\n"
        )
    elif format is Format.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        show = visible if sys.stdout.isatty() else str
        writer.writerows([_csv_cell(_plain(value), show) for value in row] for row in rows)
    else:
        table = Table(title=title, title_justify="left", header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            # Values come from events: never let them be read as markup.
            table.add_row(*(_cell(value) for value in row))
        out.print(table)
        if not table.row_count:
            err.print(none, markup=False, highlight=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value


def _csv_cell(value: Any, show: Callable[[str], str]) -> Any:
    return show(value) if isinstance(value, str) else value


def _cell(value: Any) -> str:
    from rich.markup import escape

    return (
        ""
        if value is None
        else escape(
            f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else visible(str(_plain(value)))
        )
    )
