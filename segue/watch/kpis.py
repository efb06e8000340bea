"""What the project says of its KPIs and segments: their words, their unit, who answers for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from segue.errors import DefinitionError
from segue.models import Model, Project
from segue.warehouse import Connection, has_table, insert_rows

Unit = Literal["share", "seconds", "count", "money"]
Better = Literal["up", "down", "none"]

_COLUMNS = ("kind", "name", "label", "unit", "better", "owner", "description")
_KEYS = ("name", "label", "unit", "better")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """One KPI as its analyst defined it."""

    name: str  # as in kpis.daily
    label: str
    unit: Unit = "count"
    better: Better = "none"
    owner: str = ""
    description: str = ""


def kpis_of(project: Project) -> tuple[list[Kpi], list[DefinitionError]]:
    """The KPIs of the project, by name, and what is wrong in their YAML; such a KPI goes by its name."""
    found: list[Kpi] = []
    errors: list[DefinitionError] = []
    for model in project.models:
        if "kpi" not in (model.meta.get("segue") or {}):
            continue
        try:
            found.append(_kpi(model))
        except DefinitionError as error:
            errors.append(error)
            found.append(Kpi(name=model.name, label=model.name.replace("_", " ").capitalize(), owner=_owner(model)))
    return sorted(found, key=lambda kpi: kpi.name), errors


def register(con: Connection, project: Project) -> None:
    """Keep in `watch.registry` what the project says of KPIs and segments; writes only what has changed."""
    con.execute("create schema if not exists watch")
    con.execute(
        "create table if not exists watch.registry (kind varchar, name varchar, label varchar, unit varchar,"
        " better varchar, owner varchar, description varchar)"
    )
    rows: list[tuple[str, ...]] = [
        ("kpi", k.name, k.label, k.unit, k.better, k.owner, k.description) for k in kpis_of(project)[0]
    ]
    rows += [
        ("segment", m.name, m.name.replace("_", " "), "count", "none", _owner(m), m.description)
        for m in project.segments
    ]
    before = con.execute(f"select {', '.join(_COLUMNS)} from watch.registry").fetchall()
    if sorted(rows) != sorted(before):
        con.execute("delete from watch.registry")
        insert_rows(con, "watch.registry", _COLUMNS, rows)


def registered_kpis(con: Connection) -> dict[str, Kpi]:
    """By name, the KPIs of the last registration."""
    if not has_table(con, "watch", "registry"):
        return {}
    rows = con.execute(f"select {', '.join(_COLUMNS[1:])} from watch.registry where kind = 'kpi'").fetchall()
    return {r[0]: Kpi(name=r[0], label=r[1], unit=r[2], better=r[3], owner=r[4], description=r[5]) for r in rows}


def owner_of(con: Connection, kpi: str, slice_: str) -> str:
    """Who answers for a series: the owner of its segment, else of its KPI; empty when nobody is named."""
    if not has_table(con, "watch", "registry"):
        return ""
    dimension, _, value = slice_.partition("=")
    rows = con.execute(
        """
        select owner from watch.registry
        where (kind = 'segment' and $1 = 'segment' and name = $2) or (kind = 'kpi' and name = $3)
        order by kind = 'segment' desc
        """,
        [dimension, value, kpi],
    ).fetchall()
    return next((str(owner) for (owner,) in rows if owner), "")


def _kpi(model: Model) -> Kpi:
    said: Any = model.meta["segue"]["kpi"]
    where = f"KPI {model.name} ({model.path})"
    if not isinstance(said, Mapping):
        raise DefinitionError(f"{where}: kpi is {said!r}, not a mapping", fix="write `kpi: {unit: count}`")
    for key in said:
        if key not in _KEYS:
            raise DefinitionError(f"{where}: kpi has the unknown key {key!r}", fix=f"known keys: {', '.join(_KEYS)}")
    name = str(said.get("name", model.name))
    for key, known in (("unit", get_args(Unit)), ("better", get_args(Better))):
        if key in said and said[key] not in known:
            raise DefinitionError(f"{where}: {key} is {said[key]!r}", fix=f"one of {', '.join(known)}")
    words = name.replace("_", " ")
    return Kpi(
        name=name,
        label=str(said.get("label", words[:1].upper() + words[1:])),
        unit=said.get("unit", "count"),
        better=said.get("better", "none"),
        owner=_owner(model),
        description=model.description,
    )


def _owner(model: Model) -> str:
    owners = (model.meta.get("dagster") or {}).get("owners") if isinstance(model.meta, Mapping) else None
    return str(owners[0]) if isinstance(owners, list) and owners else ""
