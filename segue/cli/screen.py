"""The terminal: what comes from events is shown there, and obeyed by it never."""

import unicodedata
from typing import Any

from rich.console import Console

#: What lines and tables are made of, and what joins the parts of one sign.
_KEPT = "\n\t\u200c\u200d"


def visible(text: str) -> str:
    """The text with every character written out that a terminal would obey: escapes, bells, turns of direction."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(c) if c not in _KEPT and unicodedata.category(c) in ("Cc", "Cf") else c for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


class Screen(Console):
    """A console that prints texts so; its own colours come from markup and styles."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(one) if isinstance(one, str) else one for one in objects), **options)
