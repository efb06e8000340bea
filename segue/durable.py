"""What a power cut must not take away is asked of the disk: a file's content, and its name in its folder."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk.

    Raises:
        OSError: when the disk refuses; what it has then is not known.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it that are missing, so that none goes again; what is there stays as it is."""
    if not folder.exists():
        make_folder(folder.parent, mode=mode)
        folder.mkdir(mode=mode, exist_ok=True)
        sync(folder.parent)
