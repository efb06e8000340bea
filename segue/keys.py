"""Keys: who may send events, and the name of the source they get; who may read. Only hashes are kept."""

import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segue.errors import BadInputError
from segue.private import changing_records, read_records
from segue.settings import Settings

#: What a source, a reader or a webhook may be called.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

#: The file is looked at this often at most.
_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Kind:
    """What keys open: the file they are kept in, what one is called, the command that manages them."""

    file: str
    noun: str
    command: str


WRITE = Kind("write_keys", "write key", "keys")
READ = Kind("read_tokens", "read token", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A write key or a read token as it is kept. Times are aware."""

    source: str  # of a read token: who reads
    hash: str  # SHA-256 of the key, in hex: a random key of 32 bytes needs no slower one
    created_at: datetime
    revoked_at: datetime | None = None


def create_key(settings: Settings, source: str, *, as_of: datetime, kind: Kind = WRITE) -> str:
    """A new key for a source, or for who reads. This is the only time that it can be seen.

    Raises:
        BadInputError: when the name is no name, or the source has a key.
    """
    if not NAME.fullmatch(source):
        raise BadInputError(
            f"{source!r} cannot be the name of a {kind.noun}", fix="use letters, digits, dots, dashes: `web`, `ios-app`"
        )
    key = secrets.token_urlsafe(32)
    with changing_records(_path(settings, kind), Key) as keys:
        if any(one.source == source and one.revoked_at is None for one in keys):
            raise BadInputError(
                f"{source} has a {kind.noun} already", fix=f"`segue {kind.command} revoke {source}` first"
            )
        keys.append(Key(source=source, hash=_hash(key), created_at=as_of))
    return key


def revoke_key(settings: Settings, source: str, *, as_of: datetime, kind: Kind = WRITE) -> None:
    """The source's key opens nothing from now on.

    Raises:
        BadInputError: when the source has no key.
    """
    with changing_records(_path(settings, kind), Key) as keys:
        for at, one in enumerate(keys):
            if one.source == source and one.revoked_at is None:
                keys[at] = Key(source=source, hash=one.hash, created_at=one.created_at, revoked_at=as_of)
                return
        raise BadInputError(f"{source} has no {kind.noun}", fix=f"`segue {kind.command} list` shows those there are")


def list_keys(settings: Settings, kind: Kind = WRITE) -> Sequence[Key]:
    """Every key that was ever made, oldest first."""
    return read_records(_path(settings, kind), Key)


class KeyRing:
    """The keys of a kind that are in force; follows the file within a quarter of a second."""

    def __init__(self, settings: Settings, kind: Kind = WRITE) -> None:
        self._path = _path(settings, kind)
        self._seen: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self._sources: dict[str, str] = {}

    def source_of(self, key: str) -> str | None:
        """The source whose key this is; None when it is nobody's."""
        self._follow()
        return self._sources.get(_hash(key))

    def __len__(self) -> int:
        self._follow()
        return len(self._sources)

    def _follow(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            state = self._path.stat()
            seen = (state.st_ino, state.st_mtime_ns, state.st_size)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            self._sources = {one.hash: one.source for one in read_records(self._path, Key) if one.revoked_at is None}
            self._seen = seen


def _path(settings: Settings, kind: Kind) -> Path:
    return settings.home / "keys" / f"{kind.file}.json"


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
