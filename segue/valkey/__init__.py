"""Valkey: the server of the log and the serving store, started for you.

Promises: one server for each home, on a Unix socket that only this user can open; what it has acknowledged is on
disk; it evicts nothing; a second start finds the first; of a server elsewhere it is said what it does not promise.
Never: listens on the network; stops a server that somebody else started; decides what is kept in it.
"""

from segue.valkey.client import check_safety, connect, connect_async, is_running, warn_if_unsafe
from segue.valkey.server import SERVED_BY_ANOTHER, running, serve_command, socket_path

__all__ = [
    "SERVED_BY_ANOTHER",
    "check_safety",
    "connect",
    "connect_async",
    "is_running",
    "running",
    "serve_command",
    "socket_path",
    "warn_if_unsafe",
]
