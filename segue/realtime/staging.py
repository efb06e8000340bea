"""From messages to staged events, and from those to identifiers and links: the analysts' models, event by event."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.dialects.duckdb import DuckDB

from segue.errors import DefinitionError
from segue.models import Model, Project
from segue.models.project import RAW, quote
from segue.models.tables import TABLES
from segue.realtime.sql import Prepared, conform, memory, rewrite
from segue.warehouse import Connection

_SOME_TIME = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def per_event_model(project: Project) -> Model:
    """The model that cleans each event by itself, from which everything else is made.

    Raises:
        DefinitionError: when there is none, or there are several.
    """
    found = [m for m in project.models if m.is_per_event]
    if len(found) != 1:
        raise DefinitionError(
            f"real time needs one append-only model of {RAW}; the project has {len(found)}",
            fix="make staging.stg_events incremental with the strategy append",
        )
    return found[0]


class Staging:
    """From `raw.events` to staged events, and from those to identifiers and links.

    Attributes:
        schema: of the staged events, all columns.
    """

    def __init__(self, project: Project) -> None:
        self.model = per_event_model(project)
        raw = empty_relation(project, RAW)
        self.raw_schema = raw.schema
        self.sql = rewrite(self.model.compiled_sql, {RAW: "raw_now"})
        self._stage = Prepared(self.sql, {"raw_now": raw}, con=_with_functions(project))
        empty = self._stage.run({"raw_now": raw}, as_of=_SOME_TIME)
        self.schema = empty.schema
        self._stage.con.register("described", empty)
        rows = self._stage.con.execute(f"describe {self.sql}").fetchall()
        self.types = {str(name): str(kind) for name, kind, *_ in rows}
        names = {self.model.relation: "staged_now"}
        self.identity_sql = {
            name: rewrite(project.by_name[name].compiled_sql, names)
            for name in ("stg_identifiers", "stg_links")
            if name in project.by_name
        }
        self._identity = {
            name: Prepared(sql, {"staged_now": empty}, con=_with_functions(project))
            for name, sql in self.identity_sql.items()
        }

    def identity_reads_more_than(self, columns: Collection[str]) -> bool:
        """Whether identifiers or links are made from any other column of staged events."""
        words = {token.text for sql in self.identity_sql.values() for token in DuckDB().tokenize(sql)}
        return bool(words & (self.types.keys() - columns))

    def stage(self, raw: pa.Table, as_of: datetime) -> pa.Table:
        """Staged events of messages with the columns of `raw.events`; missing ones are null."""
        return self._stage.run({"raw_now": conform(raw, self.raw_schema)}, as_of).combine_chunks()

    def identifiers(self, staged: pa.Table, as_of: datetime) -> list[dict[str, Any]]:
        """What the model stg_identifiers makes of these events alone."""
        return self._rows("stg_identifiers", staged, as_of)

    def links(self, staged: pa.Table, as_of: datetime) -> list[dict[str, Any]]:
        """What the model stg_links makes of these events alone."""
        return self._rows("stg_links", staged, as_of)

    def _rows(self, name: str, staged: pa.Table, as_of: datetime) -> list[dict[str, Any]]:
        if name not in self._identity:
            return []
        return list(self._identity[name].run({"staged_now": staged}, as_of).to_pylist())


def _with_functions(project: Project) -> Connection:
    con = memory()
    project.normaliser.register(con)
    return con


def empty_relation(project: Project, relation: str) -> pa.Table:
    """No rows of a relation that dbt does not build, with the columns that are known of it."""
    columns = {**project.source_columns.get(relation, {}), **TABLES.get(relation, {})}
    listed = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in columns.items())
    with duckdb.connect(":memory:") as con:
        return con.execute(f"select {listed} where false").to_arrow_table()
