"""`segue ingest` and `segue import`: bring events in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segue.cli.console import AsOf, err, moment, out, settings, warehouse

if TYPE_CHECKING:
    from segue.events import FileReport, IngestReport


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.command("ingest")(ingest)
    root.command("import")(import_events)


def ingest(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders. Default: the landing zone.", readable=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Where these events come from; stands in raw.events.source.")
    ] = None,
    as_of: AsOf = None,
) -> None:
    """Read files of Segment-spec messages into the warehouse, each file once.

    NDJSON or Parquet, plain, gzip or zstd. What breaks the spec or a contract goes to the quarantine.
    """
    from segue.events import ingest as run

    report = run(warehouse(), paths or None, as_of=moment(as_of), source=source, progress=_progress)
    _tell(report)
    if report.refused:
        raise typer.Exit(1)


def import_events(
    file: Annotated[
        Path, typer.Argument(help="A table of events: CSV, NDJSON or Parquet, also packed.", readable=False)
    ],
    mapping: Annotated[
        Path, typer.Option("--mapping", "-m", help="YAML: which column is which field.", readable=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the first messages and write nothing.")] = False,
    as_of: AsOf = None,
) -> None:
    """Turn any table of events into messages and load them. Importing the same file again adds nothing."""
    from segue.events import import_file, load_mapping, preview

    fields = load_mapping(mapping)
    if dry_run:
        seen = preview(file, fields, settings())
        out.print(f"{seen.row_count:,} rows, nothing written")
        for what, count in seen.event_counts.items():
            out.print(f"{count:>12,}  {what}", markup=False, highlight=False)
        for message in seen.messages:
            out.print_json(message)
        return
    _tell(import_file(warehouse(), file, fields, as_of=moment(as_of), progress=_progress))


def _progress(one: "FileReport") -> None:
    err.print(f"{one.file}: {one.read:,} read, {one.loaded:,} loaded", markup=False, highlight=False)


def _tell(report: "IngestReport") -> None:
    out.print(
        f"read {report.read:,} = loaded {report.loaded:,} + duplicates {report.duplicates:,} "
        f"+ quarantined {report.quarantined_count:,}, from {len(report.files):,} files",
        highlight=False,
    )
    for reason, count in report.quarantined.items():
        out.print(f"{count:>12,}  {reason}", highlight=False)
    if report.quarantined:
        out.print("`segue quarantine list` shows them", highlight=False)
    if not report.loaded and any(one.file.removesuffix(".gz").endswith(".csv") for one in report.files if one.read):
        err.print("a table of events is brought in by `segue import FILE --mapping MAPPING.yaml`", highlight=False)
    empty = [one.file for one in report.files if one.read == 0]
    for names, what in (
        (report.already_read, "already read, not read again"),
        (report.still_written, "still being written, left for the next time"),
        (empty, "empty"),
    ):
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            err.print(f"{what}: {', '.join(names[:3])}{more}", markup=False, highlight=False)
    for why in report.refused.values():
        err.print("not read:", why, style="red", markup=False, highlight=False)
