"""`segue realtime`: the processes of real time as one thing, and how they stand."""

import fcntl
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from segue.cli.console import Format, OutputFormat, err, print_rows, settings
from segue.cli.run import become

app = typer.Typer(
    invoke_without_command=True,
    help="Collector, event log, engine, landing writer, API and webhooks, without Dagster.",
)


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(app, name="realtime")


@app.callback()
def run(context: typer.Context) -> None:
    """Start everything that real time needs; Ctrl-C stops all of it.

    What dies is started again, after pauses that grow. Each process writes to SEGUE_HOME/realtime/NAME.log.
    [bold]segue up[/] starts the same beside Dagster.
    """
    if context.invoked_subcommand is None:
        become("services")


@app.command()
def status(
    format: OutputFormat = Format.table,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the exit code.")] = False,
) -> None:
    """Each process, and how far the readers of the log are behind. Exit code 1 when one is not up."""
    from segue.errors import LogError
    from segue.log import open_log

    current = settings()
    known = _state(current.home / "realtime")
    if not quiet:
        print_rows(
            ["process", "is_up", "pid", "restarts", "url", "last_end"],
            [(n, s["is_up"], s["pid"] or None, s["restarts"], s["url"], s["last_end"]) for n, s in known.items()],
            format,
        )
        try:
            log = open_log(current).status()
            for reader, lag in log.lags.items():
                err.print(f"{reader}: {lag.entries:,} entries, {lag.seconds:.1f} s behind", highlight=False)
            err.print(f"log: {log.bytes:,} of {log.ceiling_bytes:,} bytes", highlight=False)
        except LogError:
            err.print("the log does not answer: [bold]segue realtime[/] starts it")
    if not known or not all(s["is_up"] for s in known.values()):
        raise typer.Exit(1)


def _state(folder: Path) -> dict[str, dict[str, Any]]:
    """What the supervisor wrote, if it is alive: it holds the lock until it ends, however it does."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return {}
    except BlockingIOError:
        pass
    except FileNotFoundError:
        return {}
    try:
        return dict(json.loads((folder / "state.json").read_text()))
    except (OSError, ValueError):
        return {}
