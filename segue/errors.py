"""Errors a person can act on: what happened, with which value, and the fix."""


class SegueError(Exception):
    """Something the user can mend. `str(error)` is one readable message that ends with the fix.

    Args:
        message: what is wrong, naming the file, line or value.
        fix: what to do about it; shown after the message.
    """

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        self.message = message
        self.fix = fix
        super().__init__(message if fix is None else f"{message}\n  fix: {fix}")


class BadSettingError(SegueError):
    """A setting has a value that cannot work."""


class BadInputError(SegueError):
    """A file, mapping or argument cannot be used as it is."""


class WarehouseError(SegueError):
    """The warehouse cannot be opened, read or written."""


class BusyError(WarehouseError):
    """Another writer is at work, for longer than whoever asked would wait. Nothing was written; try again."""


class DefinitionError(SegueError):
    """A dbt model, segment or contract is not usable; names the file and the reason."""


class ValkeyError(SegueError):
    """The Valkey server of this home cannot be started or reached."""


class LogError(SegueError):
    """The event log cannot take or give entries just now; trying again later may work.

    Args:
        retry_after_seconds: when it is worth trying again.
    """

    def __init__(self, message: str, *, fix: str | None = None, retry_after_seconds: int = 1) -> None:
        super().__init__(message, fix=fix)
        self.retry_after_seconds = retry_after_seconds


class LogFullError(LogError):
    """The log has reached its ceiling: its readers are behind. Nothing was appended."""


class LogDownError(LogError):
    """The log cannot be reached. What was being appended may or may not be in it."""


class StaleError(SegueError):
    """A writer of the serving store that is not the newest, or not where it thinks it is. Nothing was written."""
