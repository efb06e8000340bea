"""Where the server of a home keeps its files."""

import hashlib
import os
import stat
from pathlib import Path

from segue.errors import ValkeyError
from segue.settings import Settings, make_folder

#: The kernel allows 107 bytes (103 on macOS) in the address of a Unix socket.
_LONGEST_SOCKET_PATH = 100


def data_directory(settings: Settings) -> Path:
    """The server's folder: append-only file, lock, log. Only this user may enter it."""
    return settings.home / "valkey"


def socket_path(settings: Settings) -> Path:
    """The socket of the home's server: under the home, or under /tmp when that path is too long for a socket."""
    path = data_directory(settings) / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(settings.home)).hexdigest()[:16]
    return Path(f"/tmp/segue-{os.getuid()}-{digest}/valkey.sock")  # noqa: S108 - the folder is checked below


def make_private(folder: Path) -> None:
    """Create the folder for this user alone.

    Raises:
        ValkeyError: when it belongs to somebody else, or is no folder.
    """
    make_folder(folder)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
        raise ValkeyError(f"{folder} belongs to somebody else", fix="remove it, or choose another SEGUE_HOME")
    folder.chmod(0o700)
