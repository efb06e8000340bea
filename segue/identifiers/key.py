"""The key of an installation's hashes: from the environment, or made on first use and kept for the owner alone."""

import os
import secrets

from segue.durable import sync
from segue.errors import BadSettingError
from segue.settings import Settings, make_folder

_SHORTEST = 16  # characters: fewer can be guessed


def load_key(settings: Settings) -> bytes:
    """SEGUE_IDENTITY_KEY, else the content of HOME/keys/identity.key, which is made when there is none.

    Whoever loses the key loses the connection between addresses and people; so it belongs into the backup of the home.

    Raises:
        BadSettingError: when the key is too short, or its file cannot be read or made.
    """
    if settings.identity_key is not None:
        key = settings.identity_key.get_secret_value().strip()
        if len(key) < _SHORTEST:
            raise BadSettingError(
                f"SEGUE_IDENTITY_KEY has {len(key)} characters, which can be guessed",
                fix="use 32 random bytes: `openssl rand -hex 32`",
            )
        return key.encode()
    path = settings.home / "keys" / "identity.key"
    try:
        if not path.exists():
            make_folder(path.parent)
            fresh = path.with_name(f".identity.{os.getpid()}.{secrets.token_hex(4)}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                # Of two processes that start at once, one makes the key and both use it.
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            sync(path.parent)  # before anything is hashed with it
        key = path.read_text().strip()
    except OSError as error:
        raise BadSettingError(
            f"the key of the e-mail hashes, {path}, cannot be used: {error}",
            fix="mend its permissions (0600), or set SEGUE_IDENTITY_KEY",
        ) from error
    if len(key) < _SHORTEST:
        raise BadSettingError(f"{path} holds no key", fix="restore it from the backup, or set SEGUE_IDENTITY_KEY")
    return key.encode()
