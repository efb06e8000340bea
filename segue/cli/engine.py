"""`segue engine`: the real-time evaluation as a process in the foreground."""

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

import typer

from segue.cli.console import log_aloud, settings

if TYPE_CHECKING:
    from segue.models import Project


def register(root: typer.Typer) -> None:
    """Add this room's command to `segue`."""
    root.command("engine")(engine)


def engine() -> None:
    """Keep everybody's segments true while events arrive; until Ctrl-C or SIGTERM.

    Runs the SQL of your dbt models for just the people that new events touch, and writes who is in which segment to
    the serving store, where [bold]segue api[/] reads it. `segue up` starts it for you. A second one waits, and takes
    over when the first one stops. Edited models are picked up while it runs.
    """
    from segue.clock import system_time
    from segue.log import open_log
    from segue.realtime import ContractJudge, Service
    from segue.store import open_store
    from segue.valkey import running, warn_if_unsafe

    log_aloud()
    current = settings()

    with running(current):
        warn_if_unsafe(current)
        judge = ContractJudge(current, system_time)
        service = Service(
            current,
            open_log(current),
            open_store(current),
            judge,
            clock=system_time,
            refused=_refused,
            owner=f"engine {os.getpid()}",
            contract_error=judge.error,
        )

        def stop(_number: int, _frame: FrameType | None) -> None:
            service.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        service.run()


def _refused(project: "Project") -> dict[str, str]:
    """Models that look at everyone → why."""
    from segue.models import person_local

    return {name: refusal.reason for name, refusal in person_local(project).items()}
