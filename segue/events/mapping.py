"""The mapping of an import: which column of somebody's table is which field of a message."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from segue.errors import BadInputError
from segue.events.spec import TYPES
from segue.yaml_file import Section, read_yaml

#: Fields of a message that a column can give.
FIELDS = (
    "user_id",
    "anonymous_id",
    "event",
    "timestamp",
    "received_at",
    "type",
    "message_id",
    "previous_id",
    "group_id",
)

_KEYS = ("source", "columns", "timestamp", "properties", "traits", "context", "constants", "rename", "types")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMapping:
    """A mapping file, checked on its own; `check_columns` holds it against a table."""

    path: Path
    source: str
    columns: Mapping[str, str]  # field → column
    lines: Mapping[str, int]  # column → line of the mapping that names it, for messages
    timestamp_format: str | None  # of strptime; None: ISO 8601
    timestamp_zone: str  # of times without an offset
    properties: Mapping[str, str] | None  # property → column; None: every column that is not used elsewhere
    traits: Mapping[str, str]  # trait → column, for identify
    context: Mapping[str, str]  # dotted path below context → column
    constants: Mapping[str, Any]  # dotted path of the message → value
    rename: Mapping[str, str]  # event as it is called → as it shall be called
    types: Mapping[str, tuple[str, ...]]  # type → names of the events that are of this type; the others are track

    def check_columns(self, existing: Collection[str], table: Path) -> None:
        """Hold the mapping against the columns of a table.

        Raises:
            BadInputError: naming a column that is missing, and those that exist.
        """
        for column, line in self.lines.items():
            if column not in existing:
                near = difflib.get_close_matches(column, list(existing), n=1)
                raise BadInputError(
                    f"{self.path}, line {line}: {table.name} has no column `{column}`",
                    fix=f"{f'did you mean `{near[0]}`? ' if near else ''}Its columns: {', '.join(existing)}",
                )


def load_mapping(path: Path) -> FieldMapping:
    """Read a mapping file.

    Raises:
        BadInputError: naming file, line and fix.
    """
    top = read_yaml(path, BadInputError, "the mapping")
    fields = top.mapping(_KEYS, required=("columns",))
    lines: dict[str, int] = {}

    def names(section: Section | None) -> dict[str, str]:
        """Names → columns, from a mapping or from a list of columns that keep their name."""
        if section is None:
            return {}
        pairs = {e.text(): e for e in section} if section.is_list() else section.mapping()
        for column in pairs.values():
            lines.setdefault(column.text(), column.line)
        return {name: column.text() for name, column in pairs.items()}

    columns_section = fields["columns"]
    columns = columns_section.mapping(
        FIELDS, required=("event" if "type" not in columns_section.mapping() else "type", "timestamp")
    )
    if "user_id" not in columns and "anonymous_id" not in columns:
        raise columns_section.wrong(
            "neither `user_id` nor `anonymous_id` is mapped, so nobody can be told apart",
            fix="add the column that names the person",
        )
    for column in columns.values():
        lines.setdefault(column.text(), column.line)
    stamp = fields["timestamp"].mapping(("format", "zone")) if "timestamp" in fields else {}
    zone = stamp["zone"].text() if "zone" in stamp else "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise stamp["zone"].wrong(f"there is no time zone `{zone}`", fix="write it like UTC or Europe/Berlin") from None
    properties: dict[str, str] | None = None
    if "properties" in fields:
        section = fields["properties"]
        if section.is_list() or section.is_mapping():
            properties = names(section)
        else:
            section.choice(("rest",))
    return FieldMapping(
        path=path,
        source=fields["source"].text() if "source" in fields else "import",
        columns={name: column.text() for name, column in columns.items()},
        lines=lines,
        timestamp_format=stamp["format"].text() if "format" in stamp else None,
        timestamp_zone=zone,
        properties=properties,
        traits=names(fields.get("traits")),
        context=names(fields.get("context")),
        constants={k: v.value() for k, v in fields["constants"].mapping().items()} if "constants" in fields else {},
        rename={k: v.text() for k, v in fields["rename"].mapping().items()} if "rename" in fields else {},
        types={
            kind: tuple(entry.text() for entry in section)
            for kind, section in (fields["types"].mapping(TYPES).items() if "types" in fields else ())
        },
    )
