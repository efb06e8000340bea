"""The API as a process."""

import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any

import uvicorn

from segue.collector import bound_log
from segue.listen import BoundedProtocol, address, answer, listen
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
    listener = listen(settings.api_host, wanted, who="the API", setting="SEGUE_API_PORT")
    bound_log()
    url = address(settings.api_host, listener)
    told(f"API on {url}, documented at {url}/docs, live page at {url}/live")
    run_app(make_app(settings, clock), listener)


def run_app(app: Any, listener: socket.socket) -> None:
    """Serve an ASGI application on an open socket until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
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
    answer(config, listener)
