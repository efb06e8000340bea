"""The API as a process."""

import signal
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any

import uvicorn

from segue.collector import bound_log
from segue.errors import BadSettingError
from segue.serving.app import make_app
from segue.settings import Settings

_CONNECTIONS = 8_192
_IDLE_SECONDS = 30
_STOP_SECONDS = 3


def serve(
    settings: Settings, *, clock: Callable[[], datetime], port: int | None = None, told: Callable[[str], None] = print
) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Raises:
        BadSettingError: when the port cannot be opened.
    """
    wanted = settings.api_port if port is None else port
    listener = socket.socket(socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.api_host, wanted))
        listener.listen(1024)  # who reads the address below may connect at once
    except OSError as error:
        raise BadSettingError(
            f"the API cannot listen on {settings.api_host}:{wanted}: {error.strerror}",
            fix="stop what listens there, or set SEGUE_API_PORT",
        ) from None
    bound_log()
    address = f"http://{settings.api_host}:{listener.getsockname()[1]}"
    told(f"API on {address}, documented at {address}/docs, live page at {address}/live")
    run_app(make_app(settings, clock), listener)


def run_app(app: Any, listener: socket.socket) -> None:
    """Serve an ASGI application on an open socket until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        loop="uvloop",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends on these, and passes them on when it is done: to end as asked is no failure.
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
