"""The dashboard as a process."""

import signal
import socket
from collections.abc import Callable
from datetime import datetime

import uvicorn

from segue.dashboard.app import make_app
from segue.errors import BadSettingError
from segue.settings import Settings


def serve(
    settings: Settings, *, clock: Callable[[], datetime], port: int | None = None, told: Callable[[str], None] = print
) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Raises:
        BadSettingError: when the port cannot be opened.
    """
    wanted = settings.dashboard_port if port is None else port
    listener = socket.socket(socket.AF_INET6 if ":" in settings.dashboard_host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.dashboard_host, wanted))
    except OSError as error:
        raise BadSettingError(
            f"the dashboard cannot listen on {settings.dashboard_host}:{wanted}: {error.strerror}",
            fix="stop what listens there, or set SEGUE_DASHBOARD_PORT",
        ) from None
    told(f"dashboard on http://{settings.dashboard_host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        make_app(settings, clock),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends on these, and passes them on when it is done: to end as asked is no failure.
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
