"""What every process that answers HTTP does alike: open its socket, answer, and end as asked."""

import signal
import socket

import uvicorn

from segue.errors import BadSettingError

#: Connections that wait until they are taken. Whoever reads the address of a process may connect at once.
BACKLOG = 1024


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
