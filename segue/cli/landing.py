"""`segue landing`: the event log into files for the warehouse."""

import signal
import threading

import typer

from segue.cli.console import log_aloud, settings


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.command("landing")(landing)


def landing() -> None:
    """Write what the collector took into files of the landing zone, each event once.

    Runs in the foreground; [bold]segue up[/] starts it together with everything else.
    """
    from segue.collector import LandingWriter
    from segue.log import open_log

    log_aloud()
    current = settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    LandingWriter(open_log(current), current).run(stop.is_set)
