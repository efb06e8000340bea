"""Who is called when somebody enters or leaves: endpoints, kept in a file that only this user can read."""

import base64
import binascii
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from segue.errors import BadInputError
from segue.keys import NAME
from segue.private import changing_records, read_records
from segue.settings import Settings

#: Standard Webhooks asks for a key of 24 to 64 bytes.
_SECRET_BYTES = range(24, 65)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One receiver.

    It gets what `segments` lists, or everything when that is empty, and each segment whose YAML names it. The secret,
    in the form of Standard Webhooks (`whsec_…`), stands in `secret`, or in the environment variable that `secret_env`
    names.
    """

    name: str
    url: str
    created_at: datetime | None = None  # None: it comes from the environment
    segments: tuple[str, ...] = ()
    named_only: bool = False  # only segments whose YAML names it
    secret: str = ""
    secret_env: str = ""

    def signing_secret(self) -> str:
        """The secret itself.

        Raises:
            BadInputError: when the environment does not have it, or it is none.
        """
        found = self.secret or os.environ.get(self.secret_env, "")  # the one secret that a user names
        if not found:
            raise BadInputError(
                f"the secret of webhook {self.name} is not in the environment", fix=f"set {self.secret_env}"
            )
        try:
            size = len(base64.b64decode(found.removeprefix("whsec_"), validate=True))
        except binascii.Error:
            size = 0
        if not found.startswith("whsec_") or size not in _SECRET_BYTES:
            raise BadInputError(
                f"the secret of webhook {self.name} is none",
                fix="it is `whsec_` and 24 to 64 random bytes in base64: `echo whsec_$(openssl rand -base64 32)`",
            )
        return found


def variables_of(name: str) -> tuple[str, str]:
    """The variables that give address and secret of a webhook which a segment's YAML names."""
    stem = "SEGUE_WEBHOOK_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
    return f"{stem}_URL", f"{stem}_SECRET"


def endpoint_of_environment(name: str) -> Endpoint | None:
    """The endpoint that the environment describes; None when it does not.

    Raises:
        BadInputError: when its address is none.
    """
    url, secret = variables_of(name)
    if not os.environ.get(url):
        return None
    _check_address(os.environ[url])
    return Endpoint(name=name, url=os.environ[url], named_only=True, secret_env=secret)


def add_endpoint(settings: Settings, endpoint: Endpoint) -> None:
    """Have it called from now on.

    Raises:
        BadInputError: when the name or the address is none, or the name is taken.
    """
    if not NAME.fullmatch(endpoint.name):
        raise BadInputError(f"{endpoint.name!r} cannot be a name", fix="use letters, digits, dots, dashes: `crm`")
    _check_address(endpoint.url)
    with changing_records(_path(settings), Endpoint) as known:
        if any(one.name == endpoint.name for one in known):
            raise BadInputError(f"there is a webhook {endpoint.name}", fix=f"`segue webhooks remove {endpoint.name}`")
        known.append(endpoint)


def remove_endpoint(settings: Settings, name: str) -> None:
    """Call it no more.

    Raises:
        BadInputError: when there is none of that name.
    """
    with changing_records(_path(settings), Endpoint) as known:
        known.remove(_named(known, name))


def endpoint(settings: Settings, name: str) -> Endpoint:
    """The endpoint of that name.

    Raises:
        BadInputError: when there is none.
    """
    return _named(endpoints(settings), name)


def endpoints(settings: Settings) -> Sequence[Endpoint]:
    """All of them, oldest first."""
    return read_records(_path(settings), Endpoint)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    # A password would be kept and sent in the clear; of tabs and line ends `urlsplit` says nothing.
    is_odd = not url.isascii() or not url.isprintable() or " " in url
    if not is_one or "@" in parts.netloc or parts.fragment or is_odd:
        shown = "an address with a user or password" if "@" in url else repr(url)
        raise BadInputError(f"{shown} is no address of a receiver", fix="give https://host/path")


def _named(known: Sequence[Endpoint], name: str) -> Endpoint:
    for one in known:
        if one.name == name:
            return one
    raise BadInputError(f"there is no webhook {name}", fix="`segue webhooks list` shows those there are")


def _path(settings: Settings) -> Path:
    return settings.home / "keys" / "webhooks.json"
