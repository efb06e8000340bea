"""The event log: what the collector accepted, in order, until every reader is past it.

Promises: `append` returns when the entries are on disk; entries keep their order and position; nothing is dropped
before every reader in `READERS` has committed past it; over its ceiling it refuses and keeps what it has.
Never: looks into a payload; lets the server's own ideas out: a position is opaque, and only the log compares two.
"""

from segue.errors import LogDownError, LogError, LogFullError
from segue.log.interface import READERS, Entry, Lag, Log, LogStatus, Position
from segue.log.stream import open_log

__all__ = [
    "READERS",
    "Entry",
    "Lag",
    "Log",
    "LogDownError",
    "LogError",
    "LogFullError",
    "LogStatus",
    "Position",
    "open_log",
]
