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
    help="Collector, event log, engine, landing writer, API, dashboard and webhooks, without Dagster.",
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
            [(n, s["is_up"], _pid(s["pid"], format), s["restarts"], s["url"], s["last_end"]) for n, s in known.items()],
            format,
            none="nothing runs: segue up, or segue realtime without Dagster",
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


def _pid(pid: int, format: Format) -> int | str | None:
    """A number for programs; for people without commas, so that it can be copied into `kill`."""
    return None if not pid else str(pid) if format is Format.table else pid


@app.command()
def audit(
    format: OutputFormat = Format.table,
    repair: Annotated[bool, typer.Option(help="Have the engine look again at whom it is wrong about.")] = True,
) -> None:
    """Hold what is served against the models, run for everyone as of the same moment. Exit code 1 on a fault.

    The engine corrects what is wrong, and tells it as changes of the cause [bold]audit[/]. Dagster does this hourly.
    """
    from segue.clock import system_time
    from segue.models import prepare
    from segue.realtime import ContractJudge
    from segue.realtime.audit import CAUSES, audit, audit_and_repair

    current = settings()
    compare = audit_and_repair if repair else audit
    report = compare(current, prepare(current), ContractJudge(current, system_time))
    if report.postponed:
        err.print(f"nothing is compared: {report.postponed}", markup=False, highlight=False)
        return
    rows = [(d.person_id, d.segment, d.is_served, d.cause, CAUSES[d.cause]) for d in report.differences]
    print_rows(["person_id", "segment", "is_served", "cause", "meaning"], rows, format)
    err.print(
        f"{report.membership_count:,} memberships of {len(report.segments)} segments as of "
        f"{report.as_of:%Y-%m-%d %H:%M:%S} UTC; {report.not_landed:,} messages are not in the warehouse yet; "
        f"{len(report.faults):,} faults, {report.repaired:,} repaired",
        highlight=False,
    )
    if report.left:
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
