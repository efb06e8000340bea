"""The landing zone: which files are there, which were read, which are still being written."""

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from segue.errors import BadInputError
from segue.events.tables import has_tables
from segue.settings import Settings
from segue.warehouse import Connection

#: Names that writers use while they write. Hidden files are left alone too.
_UNFINISHED = (".tmp", ".part", ".partial", ".inprogress", ".crdownload", ".filepart", "~")

#: A file that changed this recently, seen from `as_of`, is watched for a moment before it is read.
_YOUNG = timedelta(seconds=5)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: What makes a file the same file: name, size, time of last change in microseconds.
Identity = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EventFile:
    """A file of events as it was when it was seen."""

    name: str  # relative to the landing zone, or absolute when it lies elsewhere
    path: Path
    size: int
    modified_us: int  # microseconds since 1970, UTC

    @property
    def identity(self) -> Identity:
        """What tells this state of the file from others, and from other files."""
        return (self.name, self.size, self.modified_us)

    @property
    def modified_at(self) -> datetime:
        """Aware UTC."""
        return _EPOCH + timedelta(microseconds=self.modified_us)

    def again(self) -> "EventFile":
        """The same path, looked at now.

        Raises:
            BadInputError: when it is gone.
        """
        return look(self.path, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFiles:
    """What waits in the landing zone."""

    files: tuple[EventFile, ...]
    fingerprint: str  # changes whenever a file comes or grows; the same after a restart; "" when nothing waits


def look(path: Path, name: str) -> EventFile:
    """Size and time of a file.

    Raises:
        BadInputError: when it is not there.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be read: {error.strerror}", fix="check the path and its permissions"
        ) from None
    return EventFile(name=name, path=path, size=state.st_size, modified_us=state.st_mtime_ns // 1000)


def files_in(zone: Path) -> tuple[EventFile, ...]:
    """Every finished event file in the landing zone and its folders, by name. No zone: none."""
    return _walk(zone, zone)


def files_at(paths: Iterable[Path], zone: Path) -> tuple[EventFile, ...]:
    """The given files, and what is in the given folders.

    Raises:
        BadInputError: when a path does not exist.
    """
    found: dict[str, EventFile] = {}
    for path in paths:
        full = path.expanduser().absolute()
        for file in _walk(full, zone) if full.is_dir() else (look(full, _name(full, zone)),):
            found[file.name] = file
    return tuple(sorted(found.values()))


def known_files(con: Connection) -> set[Identity]:
    """The files that the ledger `raw.loads` has."""
    if not has_tables(con):
        return set()
    ledger = con.execute("select file, file_size, epoch_us(file_modified_at) as changed from raw.loads").fetchnumpy()
    sizes, changed = (np.ma.filled(ledger[name], -1).tolist() for name in ("file_size", "changed"))
    return set(zip(ledger["file"].tolist(), sizes, changed, strict=True))


def pending_files(settings: Settings, con: Connection | None) -> PendingFiles:
    """The files that the next ingest would read. Cheap; writes nothing.

    Args:
        con: the warehouse, for reading its ledger; None when there is no warehouse yet.
    """
    known = known_files(con) if con is not None else set()
    waiting = tuple(file for file in files_in(settings.landing_zone) if file.identity not in known)
    digest = hashlib.sha256(repr([file.identity for file in waiting]).encode()).hexdigest()[:32]
    return PendingFiles(files=waiting, fingerprint=digest if waiting else "")


def settled(files: Sequence[EventFile], *, as_of: datetime, seconds: float) -> tuple[list[EventFile], list[EventFile]]:
    """Files that nobody writes any more, and files that changed while we watched.

    Waits for `seconds` once when any file is young; older ones are taken as they are.
    """
    young = [file for file in files if file.modified_at > as_of - _YOUNG]
    if not young or seconds <= 0:
        return list(files), []
    time.sleep(seconds)
    moving = set()
    for file in young:
        try:
            if file.again() != file:
                moving.add(file)
        except BadInputError:  # moved away
            moving.add(file)
    return [file for file in files if file not in moving], sorted(moving)


def _walk(folder: Path, zone: Path) -> tuple[EventFile, ...]:
    found: list[EventFile] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        # A folder that we may not look into counts as a file that cannot be read: it is told, and tried again.
        for closed in [name for name in folders if not os.access(Path(parent, name), os.R_OK | os.X_OK)]:
            folders.remove(closed)
            with suppress(BadInputError):
                found.append(look(Path(parent, closed), _name(Path(parent, closed), zone)))
        inner = _name(Path(parent), zone)
        prefix = "" if inner == "." else f"{inner}/"
        for name in names:
            # `_SUCCESS` and the like are notes of the program that wrote the folder.
            if name.startswith((".", "_")) or name.lower().endswith(_UNFINISHED):
                continue
            path = Path(parent, name)
            try:
                state = path.stat()
            except OSError:  # went away while we looked
                continue
            # Not by `look`, which takes twice as long: a tick of the sensor looks at every file.
            changed = state.st_mtime_ns // 1000
            found.append(EventFile(name=prefix + name, path=path, size=state.st_size, modified_us=changed))
    return tuple(sorted(found, key=lambda file: file.name))


def _name(path: Path, zone: Path) -> str:
    return str(path.relative_to(zone)) if path.is_relative_to(zone) else str(path)
