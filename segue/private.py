"""Lists of records under HOME/keys: only this user can open them, and one process at a time changes them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from segue.errors import BadInputError
from segue.settings import cannot_write, make_folder

Record = TypeVar("Record")


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """What the file holds; nothing when there is none.

    Raises:
        BadInputError: when it is damaged, or not to be opened.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[kind])  # type: ignore[valid-type]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}", fix="check whose it is") from error
    except msgspec.MsgspecError as error:
        raise BadInputError(
            f"{path} is damaged: {error}", fix="restore it, or remove it and make what it held anew"
        ) from error


@contextmanager
def changing_records(path: Path, kind: type[Record]) -> Iterator[list[Record]]:
    """The records, to be changed in the block; written as a whole when it ends well.

    Raises:
        BadInputError: when the file is damaged.
        BadSettingError: when the home cannot be written.
    """
    try:
        make_folder(path.parent)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read_records(path, kind)
        yield known
        fresh = path.with_suffix(".tmp")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
            file.write(msgspec.json.format(msgspec.json.encode(known), indent=1))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
