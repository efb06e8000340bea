"""One normal form per type of identifier."""

import hashlib
import hmac
from collections.abc import Callable
from functools import lru_cache

import duckdb

#: Normal forms that are remembered; most messages of a load are from people who sent others.
_REMEMBERED = 100_000


class Normaliser:
    """Normal forms of e-mail addresses and telephone numbers.

    Args:
        key: of the hashes; must be the same wherever hashes are compared.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.email: Callable[[str], str] = lru_cache(_REMEMBERED)(self._email)
        self.phone: Callable[[str, str], str | None] = lru_cache(_REMEMBERED)(_phone)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Normaliser) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return "Normaliser(…)"  # never the key

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Give a database the functions `segue_email(text)` and `segue_phone(text, country)` that staging uses."""
        con.create_function("segue_email", lambda text: self.email(text), ["VARCHAR"], "VARCHAR")
        con.create_function("segue_phone", lambda text, country: self.phone(text, country), ["VARCHAR"] * 2, "VARCHAR")

    def _email(self, address: str) -> str:
        """HMAC-SHA-256 of the address in lower case without blanks around it, in hexadecimal."""
        return hmac.new(self._key, address.strip().lower().encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _phone(text: str, country: str) -> str | None:
    """E.164, for instance +4915112345678; None when it is no number that can exist.

    Args:
        country: where a number without a country code is from; two letters.
    """
    import phonenumbers  # loads slowly, and most worlds have no telephone numbers

    try:
        number = phonenumbers.parse(text, country.upper())
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
