"""`segue dashboard`: the pages for stakeholders."""

from typing import Annotated

import typer

from segue.cli.console import err, settings


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.command("dashboard")(dashboard)


def dashboard(
    port: Annotated[int | None, typer.Option(help="Port. Default: SEGUE_DASHBOARD_PORT; 0: any free one.")] = None,
) -> None:
    """Show KPIs, incidents, segments, clusters, scores, retention and the health of the data in a browser.

    Listens on this machine only and shows sums only. [bold]segue up[/] starts it together with everything else.
    """
    from segue.clock import system_time
    from segue.dashboard import serve

    serve(settings(), clock=system_time, port=port, told=lambda text: err.print(text, markup=False, highlight=False))
