"""The API as a process."""

from collections.abc import Callable
from datetime import datetime

from segue.listen import address, answer, listen
from segue.serving.app import make_app
from segue.settings import Settings


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
    wanted = settings.api_port if port is None else port
    listener = listen(settings.api_host, wanted, who="the API", setting="SEGUE_API_PORT")
    url = address(settings.api_host, listener)
    told(f"API on {url}, documented at {url}/docs, live page at {url}/live")
    answer(make_app(settings, clock), listener)
