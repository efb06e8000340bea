"""Contracts: what the properties of an event must be. One YAML file each in `dbt_project/contracts/`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segue.errors import DefinitionError
from segue.yaml_file import Section, read_yaml

#: Word in a contract → the names DuckDB's `json_type` has for it.
JSON_TYPES: Mapping[str, tuple[str, ...]] = {
    "string": ("VARCHAR",),
    "number": ("UBIGINT", "BIGINT", "HUGEINT", "DOUBLE"),
    "integer": ("UBIGINT", "BIGINT", "HUGEINT"),
    "boolean": ("BOOLEAN",),
    "object": ("OBJECT",),
    "array": ("ARRAY",),
}

#: Message types whose contract describes `traits` instead of `properties`.
_TRAIT_TYPES = ("identify", "group")
_CONTRACT_TYPES = ("page", "screen", *_TRAIT_TYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of an event (or trait of an identify or group)."""

    name: str
    type: str
    required: bool = False
    allowed: tuple[str, ...] = ()
    pii: bool = False  # said for people to find; nothing here treats the value otherwise
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a message must bring. `event` is the name of a track event; None for the other types."""

    path: Path
    type: str
    event: str | None
    description: str
    owner: str
    properties: tuple[Property, ...]

    @property
    def name(self) -> str:
        """What it is found by: the name of the event; its type where there is none."""
        return self.event or self.type

    @property
    def column(self) -> str:
        """The column of `raw.events` that the contract is about."""
        return "traits" if self.type in _TRAIT_TYPES else "properties"


def load_contracts(folder: Path) -> tuple[Contract, ...]:
    """Every `*.yml` and `*.yaml` of the folder, by name. No folder: no contracts.

    Raises:
        DefinitionError: naming file, line and fix.
    """
    if not folder.is_dir():
        return ()
    contracts: dict[str, Contract] = {}
    for path in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        contract = _read(path)
        if contract.name in contracts:
            raise DefinitionError(
                f"{path}: the contract of `{contract.name}` is already in {contracts[contract.name].path.name}",
                fix="keep one file for each event",
            )
        contracts[contract.name] = contract
    return tuple(contracts.values())


def _read(path: Path) -> Contract:
    top = read_yaml(path, DefinitionError, "the contract")
    fields = top.mapping(("event", "type", "description", "owner", "properties"), required=("description", "owner"))
    if ("event" in fields) == ("type" in fields):
        raise top.wrong(
            "a contract is either for an event or for a type of message",
            fix="write `event: Order Completed`, or `type: identify` (page, screen, identify, group)",
        )
    return Contract(
        path=path,
        type=fields["type"].choice(_CONTRACT_TYPES) if "type" in fields else "track",
        event=fields["event"].text() if "event" in fields else None,
        description=fields["description"].text(),
        owner=fields["owner"].text(),
        properties=tuple(
            _property(name, section)
            for name, section in (fields["properties"].mapping() if "properties" in fields else {}).items()
        ),
    )


def _property(name: str, section: Section) -> Property:
    fields = section.mapping(("type", "required", "allowed", "pii", "description"), required=("type",))
    kind = fields["type"].choice(JSON_TYPES)
    allowed: tuple[str, ...] = ()
    if "allowed" in fields:
        if kind not in ("string", "number", "integer"):
            raise fields["allowed"].wrong(
                f"`allowed` cannot be used with type {kind}", fix="use it with string, number or integer"
            )
        allowed = tuple(entry.text() for entry in fields["allowed"])
        if not allowed:
            raise fields["allowed"].wrong(
                "`allowed` lists no value, so nothing could ever pass", fix="list the values or remove it"
            )
    return Property(
        name=name,
        type=kind,
        required="required" in fields and fields["required"].flag(),
        allowed=allowed,
        pii="pii" in fields and fields["pii"].flag(),
        description=fields["description"].text() if "description" in fields else "",
    )
