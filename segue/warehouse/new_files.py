"""Data files on the disk before a commit names them.

DuckDB leaves what it writes to the kernel, and the catalog is synced at each commit: after a power cut it would name
files that are empty, and every read of their table would fail (docs/decisions/0003-delivery.md).
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from segue.durable import sync
from segue.errors import WarehouseError

#: The kernel writes its journal once for all that wait: twenty files together cost as much as three in a row.
_THREADS = 8


class NewFiles:
    """The files that one writer adds; made while it holds the writer lock, before it begins.

    By their names and not by their times, since a clock may be set back.

    Args:
        data_uri: the data path of the warehouse; object storage has acknowledged what was written and needs nothing.
    """

    def __init__(self, data_uri: str) -> None:
        self._root = None if "://" in data_uri else Path(data_uri).absolute()
        self._others = frozenset(self._files())
        self._synced: dict[str, int] = {}  # path → its size then: another thread may have been writing it still

    def sync(self) -> None:
        """To be called before each commit: what is new, and the folders that lead to it, are on the disk after it.

        Raises:
            WarehouseError: when the disk refuses.
        """
        new = {path: size for path in self._files() if path not in self._others and (size := _size(path)) is not None}
        due = {path: size for path, size in new.items() if self._synced.get(path) != size}
        if not due:
            return
        folders = {folder for path in due for folder in self._folders(Path(path))}
        try:
            with ThreadPoolExecutor(_THREADS, "sync") as pool:
                list(pool.map(_sync, [*map(Path, due), *folders]))
        except OSError as error:
            raise WarehouseError(
                f"the files of the warehouse cannot be brought to the disk: {error.strerror}",
                fix="look after the disk and its space; nothing of this write was committed",
            ) from error
        self._synced = new

    def _files(self) -> Iterator[str]:
        if self._root is not None:
            for folder, _, names in os.walk(self._root):
                yield from (os.path.join(folder, name) for name in names)  # noqa: PTH118 - of thousands

    def _folders(self, path: Path) -> Iterator[Path]:
        for folder in path.parents:
            yield folder
            if folder == self._root:
                yield folder.parent
                return


# A file that is not there any more is one of a transaction that was undone.


def _size(path: str) -> int | None:
    with suppress(FileNotFoundError):
        return os.stat(path).st_size  # noqa: PTH116 - of thousands
    return None


def _sync(path: Path) -> None:
    with suppress(FileNotFoundError):
        sync(path)
