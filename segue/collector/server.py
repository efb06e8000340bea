"""The collector as a process: one event loop that takes requests and appends what they bring."""

import logging
from collections.abc import Callable

from segue.collector.app import Collector
from segue.keys import KeyRing
from segue.listen import address, answer, listen
from segue.log import open_log
from segue.settings import Settings

_log = logging.getLogger(__name__)

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
    told(f"collector on {address(settings.collector_host, listener)}")
    answer(
        Collector(open_log(settings), KeyRing(settings)),
        listener,
        loggers=["segue.collector.app"],
        lifespan="off",
        date_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
