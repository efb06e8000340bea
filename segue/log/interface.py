"""What a log is, whatever keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: Where an entry stands in the log. Opaque; "" is the beginning, before every entry. Only the log compares two.
#: It is made of digits, letters and "-", so that it can stand in the name of a file.
Position = str

#: Who must be past an entry before it may go.
READERS = ("engine", "landing")


@dataclass(frozen=True, slots=True)
class Entry:
    """Stamped messages, one JSON object a line: of one request or of many."""

    position: Position
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a reader is behind."""

    entries: int
    bytes: int
    seconds: float  # age of the oldest entry that it has not committed; 0.0 when it has committed all


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """How full the log is, and how far its readers are."""

    entries: int
    bytes: int
    ceiling_bytes: int
    newest: Position
    lags: Mapping[str, Lag]  # by reader


class Log(Protocol):
    """An ordered, durable log with named readers.

    Every method raises `LogDownError` when the log cannot be reached; it works again by itself when the log is back.
    """

    async def append(self, payloads: Sequence[bytes]) -> None:
        """Put payloads at the end, all or none, and return when they are durable.

        Args:
            payloads: lines of JSON, each payload ending with a line end. Several may become one entry.

        Raises:
            LogFullError: over the ceiling; nothing was appended.
            LogDownError: whether they are in the log is not known. Sending again is harmless: messages have ids.
        """
        ...

    def read(self, after: Position, *, limit_bytes: int, wait_seconds: float) -> list[Entry]:
        """The entries after a position, oldest first.

        Args:
            limit_bytes: stop before more payload than this; one entry is always given.
            wait_seconds: how long to wait for the first entry.

        Returns:
            Empty when nothing came in time.
        """
        ...

    def commit(self, reader: str, position: Position) -> None:
        """The reader is past this position, for good. An earlier one than the last changes nothing."""
        ...

    def committed(self, reader: str) -> Position:
        """The last position that the reader committed; "" when none."""
        ...

    def trim(self) -> None:
        """Drop what every reader in `READERS` is past."""
        ...

    def status(self) -> LogStatus:
        """How full it is, and each reader's lag."""
        ...
