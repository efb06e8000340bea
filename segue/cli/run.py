"""`segue refresh`, `segue up`, `segue demo`: hand over to Dagster, which the core itself never imports."""

import os
import sys
from typing import Annotated

import typer

from segue.cli.console import AsOf, moment
from segue.settings import PROJECT_ROOT

Port = Annotated[
    int | None, typer.Option("--port", help="Port of the Dagster UI. Default: the first free one from 3000.")
]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.command("demo")(demo)
    root.command("up")(up)
    root.command("refresh")(refresh)


def refresh(as_of: AsOf = None) -> None:
    """Run the whole graph once through Dagster, without the UI. Exits non-zero when an asset fails.

    Reads what waits in the landing zone, rebuilds what depends on it, and fills in the days of segment
    history that are missing.
    """
    if as_of is not None:
        moment(as_of)  # a wrong time is said here, before Dagster is loaded
    become("refresh", *(["--as-of", as_of] if as_of is not None else []))


def up(port: Port = None) -> None:
    """Start Dagster and real time on your own data. Ctrl-C stops all of it."""
    become("up", *(["--port", str(port)] if port is not None else []))


def demo(
    port: Port = None,
    people: Annotated[int, typer.Option(help="How many people to simulate.")] = 300,
    days: Annotated[int, typer.Option(help="How many days of history; ends today.")] = 60,
) -> None:
    """Make a history of events, run the whole graph, open the Dagster UI. In a home of its own."""
    become("demo", "--people", str(people), "--days", str(days), *(["--port", str(port)] if port is not None else []))


def become(module: str, *arguments: str) -> None:
    """Replace this process by one of orchestration, so that signals and the exit code are those of the module."""
    path = os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH")]))
    sys.stdout.flush()
    os.execve(
        sys.executable,
        [sys.executable, "-m", f"orchestration.{module}", *arguments],
        {**os.environ, "PYTHONPATH": path},
    )
