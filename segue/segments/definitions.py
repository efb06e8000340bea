"""What a segment's YAML says about it, validated."""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from segue.errors import DefinitionError
from segue.keys import NAME
from segue.models import Model, Project

DEFAULT_PRIORITY = 100
DEFAULT_MIN_SHARE = 0.01

_KEYS = ("priority", "exclusive_group", "min_share", "realtime", "on_change")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment as its analyst defined it."""

    name: str
    description: str = ""
    owner: str = ""
    priority: int = DEFAULT_PRIORITY  # in its exclusive group; the lower number wins
    exclusive_group: str | None = None  # nobody is in two segments of one group
    min_share: float = DEFAULT_MIN_SHARE  # of active people, 0–1; less is worth a warning
    realtime: bool = True
    on_change: tuple[str, ...] = ()  # names of webhooks that are called when somebody enters or leaves
    definition_hash: str = ""  # changes when the rule, or who it gives way to, changes
    relation: str = ""  # schema.table that dbt builds
    path: str = ""  # relative to the dbt project


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """The segments that can be used, and what is wrong with the others."""

    segments: tuple[Segment, ...]  # by name
    errors: Mapping[str, DefinitionError]  # by segment, of those that cannot be used

    @property
    def by_name(self) -> Mapping[str, Segment]:
        """Segments by name."""
        return {segment.name: segment for segment in self.segments}


def definitions(project: Project) -> Definitions:
    """Every segment of the project. A wrong entry in one segment's YAML takes out that segment only."""
    segments: list[Segment] = []
    errors: dict[str, DefinitionError] = {}
    for model in project.segments:
        try:
            segments.append(_segment(model))
        except DefinitionError as error:
            errors[model.name] = error
    return Definitions(segments=tuple(_hashed(s, segments) for s in segments), errors=errors)


def _segment(model: Model) -> Segment:
    where = f"segment {model.name} ({model.path})"
    said = model.meta.get("segue") or {}
    if not isinstance(said, Mapping):
        raise DefinitionError(f"{where}: meta.segue is {said!r}, not a mapping", fix="write `segue: {priority: 10}`")
    for key in said:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, n=1)
            raise DefinitionError(
                f"{where}: meta.segue has the unknown key {key!r}",
                fix=f"did you mean {close[0]}?" if close else f"known keys: {', '.join(_KEYS)}",
            )
    realtime = _flag(said.get("realtime", True), where)
    return Segment(
        name=model.name,
        description=model.description,
        owner=_owner(model),
        priority=_priority(said.get("priority", DEFAULT_PRIORITY), where),
        exclusive_group=_group(said.get("exclusive_group"), where),
        min_share=_share(said.get("min_share", DEFAULT_MIN_SHARE), where),
        realtime=realtime,
        on_change=_called(said.get("on_change"), realtime, where),
        definition_hash=model.definition_hash,
        relation=model.relation,
        path=model.path,
    )


def _priority(value: Any, where: str) -> int:
    if type(value) is not int:  # a bool is an int to isinstance
        raise DefinitionError(f"{where}: priority is {value!r}, not a whole number", fix="write `priority: 20`")
    return value


def _group(value: Any, where: str) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise DefinitionError(
            f"{where}: exclusive_group is {value!r}, not a name", fix="write `exclusive_group: engagement`"
        )
    return value


def _share(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DefinitionError(f"{where}: min_share is {value!r}, not between 0 and 1", fix="1 % is `min_share: 0.01`")
    return float(value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise DefinitionError(f"{where}: realtime is {value!r}, not true or false", fix="write `realtime: true`")
    return value


def _called(value: Any, realtime: bool, where: str) -> tuple[str, ...]:
    """Names only: an address may hold a secret, and differs from one installation to the next."""
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        raise DefinitionError(f"{where}: on_change is {value!r}, not a list of names", fix="write `on_change: [crm]`")
    for name in names:
        if isinstance(name, str) and "://" in name:
            raise DefinitionError(
                f"{where}: on_change holds an address",
                fix="name the webhook, `on_change: [crm]`, and give its address with `segue webhooks add crm URL`",
            )
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise DefinitionError(
                f"{where}: on_change holds {name!r}, which cannot be the name of a webhook",
                fix="use letters, digits, dots, dashes: `on_change: [crm]`",
            )
    if names and not realtime:
        raise DefinitionError(
            f"{where}: on_change calls at once, and `realtime: false` says that nothing is known at once",
            fix="remove one of the two",
        )
    return tuple(dict.fromkeys(names))


def _owner(model: Model) -> str:
    dagster = model.meta.get("dagster")
    owners = dagster.get("owners") if isinstance(dagster, Mapping) else None
    return str(owners[0]) if isinstance(owners, list) and owners else str(model.meta.get("owner") or "")


def _hashed(segment: Segment, segments: list[Segment]) -> Segment:
    """Within a group, who is in depends on the others' priorities too."""
    if segment.exclusive_group is None:
        return segment
    rivals = sorted(f"{s.priority} {s.name}" for s in segments if s.exclusive_group == segment.exclusive_group)
    text = "\0".join([segment.definition_hash, *rivals])
    return replace(segment, definition_hash=hashlib.sha256(text.encode()).hexdigest()[:16])
