"""The rules of identity, read from the variable `identity` of `dbt_project.yml`: staging reads the same lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from segue.errors import DefinitionError
from segue.variables import read_variables, wrong_variable

#: The types that staging knows by name; `context.externalIds` brings others.
TYPES = ("user_id", "email", "phone", "advertising_id", "device_id", "anonymous_id")

#: Column of staged events → type of identifier: as the macro `identifier_columns` says.
ID_COLUMNS = {
    "user_id": "user_id",
    "anonymous_id": "anonymous_id",
    "device_id": "device_id",
    "advertising_id": "advertising_id",
    "email_hash": "email",
    "phone": "phone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRule:
    """What holds for identifiers of one type."""

    priority: int = 50  # of links of one moment, those of a lower number are judged first
    max_per_person: int = 5
    window_days: int | None = None  # the limit counts values first seen within so many days; None: all
    blocked: tuple[str, ...] = ()  # SQL patterns in lower case


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The whole variable."""

    default_country: str = "US"
    longest_value: int = 256  # characters
    largest_person: int = 500  # identifiers
    shared_device_users: int = 2  # a device that so many accounts have signed in on joins no browsers
    device_wait: timedelta = timedelta(hours=1)
    types: Mapping[str, TypeRule] = field(
        default_factory=lambda: {
            "user_id": TypeRule(priority=1, max_per_person=1),
            "email": TypeRule(priority=2),
            "phone": TypeRule(priority=3),
            "advertising_id": TypeRule(priority=5),
            "device_id": TypeRule(priority=6),
            "anonymous_id": TypeRule(priority=7, window_days=1),
        }
    )
    other: TypeRule = TypeRule(priority=4)  # of context.externalIds

    def of(self, kind: str) -> TypeRule:
        """What holds for a type."""
        return self.types.get(kind, self.other)


_WORLD = {"default_country": str, "longest_value": int, "largest_person": int, "shared_device_users": int}
_TYPE = {"priority": int, "max_per_person": int}


def load_rules(project: Path) -> Rules:
    """The rules of a dbt project; the shipped ones where it says nothing.

    Raises:
        DefinitionError: naming the setting that cannot be used.
    """
    said = read_variables(project).get("identity", {})
    if not isinstance(said, Mapping):
        raise _wrong("identity", said, "a mapping")
    known = {*_WORLD, "device_wait_minutes", "types", "blocked"}
    _no_others("identity", said, known)
    values: dict[str, Any] = {
        name: _checked(f"identity.{name}", said[name], kind, least=2 if name == "shared_device_users" else 1)
        for name, kind in _WORLD.items()
        if name in said
    }
    if "device_wait_minutes" in said:
        minutes = _checked("identity.device_wait_minutes", said["device_wait_minutes"], int, least=0)
        values["device_wait"] = timedelta(minutes=minutes)
    everywhere = _patterns("identity.blocked", said.get("blocked", []))
    types = {name: _type_rule(name, one or {}, everywhere) for name, one in (said.get("types") or {}).items()}
    other = types.pop("other", Rules().other)
    return Rules(**values, types={**Rules().types, **types}, other=other)


def _type_rule(name: str, said: Any, everywhere: tuple[str, ...]) -> TypeRule:
    where = f"identity.types.{name}"
    if not isinstance(said, Mapping):
        raise _wrong(where, said, "a mapping")
    _no_others(where, said, {*_TYPE, "window_days", "blocked"})
    values: dict[str, Any] = {
        key: _checked(f"{where}.{key}", said[key], kind) for key, kind in _TYPE.items() if key in said
    }
    if said.get("window_days") is not None:
        values["window_days"] = _checked(f"{where}.window_days", said["window_days"], int)
    own = _patterns(f"{where}.blocked", said.get("blocked", []))
    return TypeRule(**values, blocked=everywhere + own)


def _patterns(where: str, said: Any) -> tuple[str, ...]:
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise _wrong(where, said, "a list of texts; put quotes around values such as null")
    return tuple(said)


def _no_others(where: str, said: Mapping[str, Any], known: set[str]) -> None:
    for name in said:
        if name not in known:
            raise _wrong(f"{where}.{name}", said[name], f"nothing: known are {', '.join(sorted(known))}")


def _checked(where: str, value: Any, kind: type, *, least: int = 1) -> Any:
    is_small = isinstance(value, int) and value < least
    if not isinstance(value, kind) or isinstance(value, bool) or is_small:
        raise _wrong(where, value, f"a whole number from {least}" if kind is int else "a text")
    return value


def _wrong(where: str, value: Any, wanted: str) -> DefinitionError:
    return wrong_variable(where, value, f"{wanted}; docs/data-engineer.md explains each")
