"""Which column comes from which: read off the compiled SQL, without a database.

Results are kept in a folder, one file per model and text, so a model is analysed once.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage

log = logging.getLogger(__name__)

_DIALECT = "duckdb"

#: `schema.table`, as in asset keys.
Relation = str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelColumns:
    """The columns of one model, each with the upstream columns it is made of."""

    parents: Mapping[str, tuple[tuple[Relation, str], ...]]  # column → (relation, column) of direct parents

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parents)


def trace(sql: str, parents: Mapping[Relation, Sequence[str]], *, cache: Path | None = None) -> ModelColumns | None:
    """The columns of a query.

    Args:
        sql: compiled SQL of one model.
        parents: the columns of each relation it reads, where known.
        cache: folder in which results are kept.

    Returns:
        None when the SQL cannot be analysed: lineage is a help, never a reason to fail.
    """
    note = None
    if cache is not None:
        digest = hashlib.sha1(json.dumps([1, sql, dict(parents)], sort_keys=True).encode(), usedforsecurity=False)
        note = cache / f"{digest.hexdigest()}.json"
        if note.exists():
            return _from_json(note.read_text())
    try:
        columns = _trace(sql, parents)
    except (SqlglotError, ValueError, KeyError, AttributeError, RecursionError) as error:
        log.debug("no column lineage: %s", error)
        return None
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(columns.parents))
    return columns


def _from_json(text: str) -> ModelColumns:
    return ModelColumns(
        parents={
            column: tuple((relation, name) for relation, name in sources)
            for column, sources in json.loads(text).items()
        }
    )


def _trace(sql: str, parents: Mapping[Relation, Sequence[str]]) -> ModelColumns:
    query = sqlglot.parse_one(sql, dialect=_DIALECT)
    for table in query.find_all(exp.Table):
        # The catalog in front of a name is the same everywhere; asset keys do without.
        table.set("catalog", None)
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for relation, names in parents.items():
        folder, _, table_name = relation.partition(".")
        schema.setdefault(folder, {})[table_name] = dict.fromkeys(names, "unknown")
    nodes = lineage(None, query, schema, dialect=_DIALECT, trim_selects=False, copy=False)
    return ModelColumns(parents={column: _leaves(node) for column, node in nodes.items()})


def _leaves(node: Node) -> tuple[tuple[Relation, str], ...]:
    found = set()
    # Nodes are shared between columns: walk each once.
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        waiting.extend(current.downstream)
        if not current.downstream and isinstance(current.expression, exp.Table) and current.expression.db:
            table = current.expression
            found.add((f"{table.db}.{table.name}", exp.to_column(current.name).name.lower()))
    return tuple(sorted(found))
