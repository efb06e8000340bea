"""The collector as a process: one event loop that takes requests and appends what they bring."""

import asyncio
import logging
import resource
import sys
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from segue.collector.app import Collector
from segue.keys import KeyRing
from segue.listen import address, answer, listen
from segue.log import open_log
from segue.settings import Settings

_log = logging.getLogger(__name__)

#: A connection whose header is not whole by then is closed.
_HEADER_SECONDS = 15.0
_HEADER_BYTES = 64 * 1024
#: Connections that may be open. Each costs little; a client that only holds them open must not keep others out.
_CONNECTIONS = 16_384
_STOP_SECONDS = 5


def serve(settings: Settings, *, port: int | None = None, told: Callable[[str], None] = print) -> None:
    """Take events until SIGTERM or Ctrl-C; what was being taken is finished first.

    Args:
        port: instead of the one in the settings; 0 for any free one.
        told: gets the address once it is open.

    Raises:
        BadSettingError: when the port cannot be opened.
    """
    wanted = settings.collector_port if port is None else port
    listener = listen(settings.collector_host, wanted, who="the collector", setting="SEGUE_COLLECTOR_PORT")
    _raise_file_limit()
    told(f"collector on {address(settings.collector_host, listener)}")
    answer(
        Collector(open_log(settings), KeyRing(settings)),
        listener,
        http=_BoundedProtocol,
        lifespan="off",
        date_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )


class _BoundedProtocol(HttpToolsProtocol):
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


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * _CONNECTIONS)
    if soft != resource.RLIM_INFINITY and soft < wanted and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
