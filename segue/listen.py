"""What every process that answers HTTP does alike: open its socket, answer, and end as asked."""

import asyncio
import signal
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from segue.errors import BadSettingError

#: Connections that wait until they are taken. Whoever reads the address of a process may connect at once.
BACKLOG = 1024

#: A connection whose header is not whole by then is closed.
_HEADER_SECONDS = 15.0
_HEADER_BYTES = 64 * 1024


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


def answer(config: uvicorn.Config, listener: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends on these, and passes them on when it is done: to end as asked is no failure.
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, with what it leaves open: how long a header may take to come, and how large it may be."""

    _deadline: asyncio.TimerHandle | None = None
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

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_is_here()
        super().connection_lost(exc)

    def _expect_header(self) -> None:
        self._header_bytes = 0
        self._deadline = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)  # type: ignore[attr-defined]

    def _header_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
