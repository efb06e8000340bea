"""`segue simulate`: a history of events to try everything on, with its truth."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from segue.cli.console import err, moment, out


class FileKind(StrEnum):
    """The formats of `segue.events.simulator.FileFormat`, which is too slow to import for a `--help`."""

    ndjson = "ndjson"
    ndjson_gz = "ndjson.gz"
    ndjson_zst = "ndjson.zst"
    parquet = "parquet"


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.command("simulate")(simulate)


def simulate(
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new or empty folder: gets DIR/events and DIR/truth.")
    ],
    people: Annotated[int, typer.Option("--people", metavar="N", help="How many people ever come.")] = 2000,
    days: Annotated[int, typer.Option("--days", metavar="N", help="Length of the history.")] = 120,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same seed makes the same bytes.")] = 1,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="DATE",
            help="End of the history, UTC, ISO 8601; nothing is received then or later. Default: the start of today.",
        ),
    ] = None,
    file_format: Annotated[
        FileKind, typer.Option("--format", "-f", help="How the files are written.")
    ] = FileKind.ndjson_gz,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the simulation that is in DIR; other files stay.")
    ] = False,
) -> None:
    """Make a history of events of an invented shop, and the truth about it.

    DIR/events gets one file of Segment-spec messages for each day on which they
    were received. DIR/truth says who is who, which days were disturbed, who was
    about to leave, and which messages are duplicate, late or broken.

    People have several devices, lose cookies, share a family computer, are
    anonymous before they sign up, and live by planted habits. There is a weekly
    season, growth, holidays and, in a history of 16 days or more, an outage and
    a promotion shortly before its end.

    Example: `segue simulate --people 200 --days 60 --seed 7 --out history`,
    then `segue ingest history/events`.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from segue.events.simulator import FileFormat
    from segue.events.simulator import simulate as run

    end = _end(until)
    lines_so_far = TextColumn("{task.fields[lines]:,} messages")
    columns = (TextColumn("{task.description}"), BarColumn(), lines_so_far, TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("simulating", total=None, lines=0)

        def progress(day: int, count: int, lines: int) -> None:
            bar.update(task, completed=day, total=count, lines=lines, description=f"day {day} of {count}")

        report = run(
            folder, people=people, days=days, seed=seed, until=end, progress=progress,
            file_format=FileFormat(file_format.value), force=force,
        )  # fmt: skip
    out.print(
        f"[bold]{report.lines:,}[/] messages of {report.people:,} people "
        f"from {report.first_day} until {end:%Y-%m-%d %H:%M} UTC",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    broken = ", ".join(f"{count:,} {reason}" for reason, count in report.broken.items())
    out.print(
        f"  {report.accepted:,} good ones ({report.late:,} late, {report.wrong_clock:,} from wrong clocks), "
        f"{report.duplicates:,} duplicates, {report.broken_count:,} that break the spec or a contract"
        + (f" ({broken})" if broken else ""),
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for day in report.disturbed:
        out.print(f"  {day.date}: {day.kind} ({day.name})", highlight=False)
    out.print(f"{report.files:,} files, {report.bytes / 1e6:,.1f} MB: {report.events}", highlight=False, soft_wrap=True)
    out.print(f"the truth about them: {report.truth}", highlight=False, soft_wrap=True)
    out.print(f"next: [bold]segue ingest {report.events}[/]", highlight=False, soft_wrap=True)


def _end(until: str | None) -> datetime:
    now = moment(None)
    if until is None:
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = moment(until)
    if end > now:
        err.print(
            f"--until {end:%Y-%m-%d %H:%M} is in the future: an ingest before then puts messages that are too far "
            "ahead into quarantine",
            style="yellow", highlight=False,
        )  # fmt: skip
    return end
