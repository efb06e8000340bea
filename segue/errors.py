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


class DefinitionError(SegueError):
    """A dbt model, segment or contract is not usable; names the file and the reason."""
