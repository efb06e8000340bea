"""The dashboard as a process."""

from collections.abc import Callable
from datetime import datetime

import uvicorn

from segue.collector import bound_log
from segue.dashboard.app import make_app
from segue.listen import BoundedProtocol, address, answer, listen
from segue.settings import Settings

_CONNECTIONS = 512


def serve(
    settings: Settings, *, clock: Callable[[], datetime], port: int | None = None, told: Callable[[str], None] = print
) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Raises:
        BadSettingError: when the port cannot be opened.
    """
    wanted = settings.dashboard_port if port is None else port
    listener = listen(settings.dashboard_host, wanted, who="the dashboard", setting="SEGUE_DASHBOARD_PORT")
    bound_log()
    told(f"dashboard on {address(settings.dashboard_host, listener)}")
    config = uvicorn.Config(
        make_app(settings, clock),
        http=BoundedProtocol,
        limit_concurrency=_CONNECTIONS,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    answer(config, listener)
