"""Metadata that a person wants to see: tables, pictures, times."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from segue.cli.screen import visible

_SPECIAL = re.compile(r"[\\|\[\]<>`&]")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """Rows as a Markdown table."""
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return dg.MetadataValue.md("\n".join([*head, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]))


def picture(png: bytes, *, title: str) -> dg.MarkdownMetadataValue:
    """A PNG, shown inline."""
    return dg.MetadataValue.md(f"![{_text(title)}](data:image/png;base64,{base64.b64encode(png).decode()})")


def link(path: Path) -> dg.PathMetadataValue:
    """A folder or file on this machine."""
    return dg.MetadataValue.path(str(path))


def report(value: Any, *, leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """The plain fields of a report: numbers, texts, times."""
    assert is_dataclass(value)
    found: dict[str, Any] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if field.name in leave_out:
            continue
        if isinstance(content, datetime):
            found[field.name] = dg.MetadataValue.text(f"{content:%Y-%m-%d %H:%M:%S} UTC")
        elif isinstance(content, date):
            found[field.name] = dg.MetadataValue.text(content.isoformat())
        elif isinstance(content, bool | int | float | str | Path):
            found[field.name] = content
    return found


def percent(share: float | None) -> str:
    """`12.3 %`; empty when unknown."""
    return "" if share is None else f"{100 * share:.1f} %"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return _text(str(value))


def _text(text: str) -> str:
    """A text in Markdown, as it is: no name of an event or a slice is a link, a picture from elsewhere or HTML.

    A bar would also end the cell, a line break the row.
    """
    return _SPECIAL.sub(r"\\\g<0>", visible(" ".join(text.split())))
