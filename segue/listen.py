"""What every process that answers HTTP does alike: open its socket, answer, say little of rubbish, and end as asked."""

import asyncio
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from segue.errors import BadSettingError

#: Connections that wait until they are taken. Whoever reads the address of a process may connect at once.
BACKLOG = 1024

#: Connections that may be open.
_CONNECTIONS = 8_192
#: A connection that nobody uses is closed.
_IDLE_SECONDS = 30
_STOP_SECONDS = 3

#: Loggers on which a request can put a line. uvicorn warns of each request that is none, asyncio of each lost client.
_LOGGERS = ("uvicorn.error", "asyncio")
_LINE_SECONDS = 60.0
_LINES = 1_000
#: A connection whose header is not whole by then is closed.
_HEADER_SECONDS = 15.0
_HEADER_BYTES = 64 * 1024
#: And one whose body is not, read or not. Who reads it refuses it sooner, and says why.
_BODY_SECONDS = 30.0


def listen(host: str, port: int, *, who: str, setting: str) -> socket.socket:
    """An open socket; port 0: any free one.

    Args:
        who: what listens, for the message.
        setting: the environment variable that says the port.

    Raises:
        BadSettingError: when the port cannot be opened.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BadSettingError(
            f"{who} cannot listen on {host}:{port}: {error.strerror}",
            fix=f"stop what listens there, or set {setting}",
        ) from None
    return listener


def address(host: str, listener: socket.socket) -> str:
    """Where it answers."""
    return f"http://{host}:{listener.getsockname()[1]}"


def answer(app: Any, listener: socket.socket, *, loggers: Sequence[str] = (), **options: Any) -> None:
    """Serve an ASGI application on an open socket until SIGTERM or Ctrl-C.

    Args:
        loggers: further ones on which whoever asks can cause lines.
        options: of `uvicorn.Config`, where a process differs from the others.
    """
    for name in (*_LOGGERS, *loggers):
        logging.getLogger(name).addFilter(BoundedLog())
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends on these, and passes them on when it is done: to end as asked is no failure.
        signal.signal(number, lambda *_: None)
    alike: dict[str, Any] = {
        "http": BoundedProtocol,
        "ws": "none",
        "loop": "uvloop",
        "interface": "asgi3",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "backlog": BACKLOG,
        "limit_concurrency": _CONNECTIONS,
        "timeout_keep_alive": _IDLE_SECONDS,
        "timeout_graceful_shutdown": _STOP_SECONDS,
    }
    config = uvicorn.Config(app, **(alike | options))
    _raise_file_limit(config.limit_concurrency or _CONNECTIONS)
    uvicorn.Server(config).run(sockets=[listener])


def _raise_file_limit(connections: int) -> None:
    """Let so many be open: where fewer files may be, nobody is answered once they are used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections if hard == resource.RLIM_INFINITY else min(hard, 2 * connections)
    if soft != resource.RLIM_INFINITY and soft < wanted and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class BoundedLog(logging.Filter):
    """Lets one kind of line through once a minute, and says then how many were left out.

    Whoever sends rubbish must not fill a disk, or a pipe that nobody reads.

    Args:
        now: seconds of a clock that never steps back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        now, text = self._now(), str(record.msg)
        at, left_out = self._said.get(text, (now - _LINE_SECONDS, 0))
        if now - at < _LINE_SECONDS:
            self._said[text] = (at, left_out + 1)
            return False
        if len(self._said) >= _LINES:
            self._said.clear()
        self._said[text] = (now, 0)
        if left_out:
            record.msg = f"{text} (and {left_out} times before)"
        return True


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, with what it leaves open: how long a header and a body may take, and how large the first is."""

    _deadline: asyncio.TimerHandle | None = None
    _body_deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None:
            self._header_bytes += len(data)
            if self._header_bytes > _HEADER_BYTES:
                self.transport.abort()  # type: ignore[attr-defined]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._expect_header()

    def on_headers_complete(self) -> None:
        self._header_is_here()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._body_deadline is None:
            self._body_deadline = self.loop.call_later(_BODY_SECONDS, self.transport.abort)  # type: ignore[attr-defined]
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_is_here()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_is_here()
        self._body_is_here()
        super().connection_lost(exc)

    def _expect_header(self) -> None:
        self._header_bytes = 0
        self._deadline = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)  # type: ignore[attr-defined]

    def _header_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _body_is_here(self) -> None:
        if self._body_deadline is not None:
            self._body_deadline.cancel()
            self._body_deadline = None
