"""The dashboard as a process."""

from collections.abc import Callable
from datetime import datetime

from segue.dashboard.app import make_app
from segue.listen import address, answer, listen
from segue.settings import Settings

_CONNECTIONS = 512


def serve(
    settings: Settings, *, clock: Callable[[], datetime], port: int | None = None, told: Callable[[str], None] = print
) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Args:
        port: instead of the one in the settings; 0 for any free one.
        told: gets the address once it is open.

    Raises:
        BadSettingError: when the port cannot be opened.
    """
    wanted = settings.dashboard_port if port is None else port
    listener = listen(settings.dashboard_host, wanted, who="the dashboard", setting="SEGUE_DASHBOARD_PORT")
    told(f"dashboard on {address(settings.dashboard_host, listener)}")
    answer(make_app(settings, clock), listener, limit_concurrency=_CONNECTIONS)
