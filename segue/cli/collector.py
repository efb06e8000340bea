"""`segue collector`: take events from Segment's SDKs."""

from typing import Annotated

import typer

from segue.cli.console import err, log_aloud, settings


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.command("collector")(collector)


def collector(
    port: Annotated[int | None, typer.Option(help="Port. Default: SEGUE_COLLECTOR_PORT; 0: any free one.")] = None,
) -> None:
    """Take events over HTTP as Segment does, and put them into the event log.

    Give an SDK this address and a key of [bold]segue keys create[/]. An event is acknowledged when it is on disk.
    Runs in the foreground; [bold]segue up[/] starts it together with everything else.
    """
    from segue.collector import serve
    from segue.valkey import warn_if_unsafe

    log_aloud()
    current = settings()
    warn_if_unsafe(current)
    serve(current, port=port, told=lambda text: err.print(text, markup=False, highlight=False))
