"""The collector as a process: one event loop, and the HTTP parsing in a thread of its own beside it."""

import asyncio
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from segue.collector.app import Collector
from segue.collector.keys import KeyRing
from segue.errors import BadSettingError
from segue.log import open_log
from segue.settings import Settings

_log = logging.getLogger(__name__)

#: A connection that has sent no whole header by then is closed; so is one that nobody uses.
_HEADER_SECONDS = 15
#: Connections that may be open. Each costs little; a client that only holds them open must not keep others out.
_CONNECTIONS = 16_384
_STOP_SECONDS = 5.0


def serve(settings: Settings, *, port: int | None = None, told: Callable[[str], None] = print) -> None:
    """Take events until SIGTERM or Ctrl-C; what was being taken is finished first.

    Args:
        port: instead of the one in the settings; 0 for any free one.
        told: gets the address once it is open.

    Raises:
        BadSettingError: when the port cannot be opened.
    """
    chosen = _free(settings.collector_host, settings.collector_port if port is None else port)
    _raise_file_limit()
    app = Collector(open_log(settings), KeyRing(settings))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(app, settings.collector_host, chosen, told))


async def _run(app: Any, host: str, port: int, told: Callable[[str], None]) -> None:
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        backpressure=_CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_SECONDS * 1000, max_buffer_size=65_536),
        log_enabled=False,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve())
    told(f"collector on http://{host}:{port}")
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait({serving}, timeout=_STOP_SECONDS)
    stopping.cancel()
    if serving.done():
        serving.result()


def _free(host: str, port: int) -> int:
    """The port, once it is known that it can be opened."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadSettingError(
                f"the collector cannot listen on {host}:{port}: {error.strerror}",
                fix="stop what listens there, or set SEGUE_COLLECTOR_PORT",
            ) from None
        return int(probe.getsockname()[1])


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * _CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
