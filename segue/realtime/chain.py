"""The analyst's SQL as one prepared statement over the rows of some people.

The models between staged events and segments become the CTEs of one statement. Their text stays as dbt compiled it,
but for two things that are found by the tokenizer: names of relations, and `getvariable('as_of')`. The variable would
be folded into a prepared plan, and a statement parameter makes DuckDB plan anew each time; a one-row relation does
neither, and planning is half of what a small batch costs.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.tokens import Token, TokenType

from segue.clock import to_warehouse
from segue.errors import DefinitionError
from segue.models import Model, Project
from segue.models.check import empty_lake
from segue.models.project import quote
from segue.models.tables import TABLES
from segue.warehouse.connect import LAKE, Connection

#: Whose rows are served as features.
FEATURES = "marts.person_features"

IDENTIFIERS = "identity.identifiers"
RAW = "raw.events"

#: Columns of `identity.identifiers` as the engine gives them.
IDENTIFIER_SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("identifier_type", "identifier_value", "person_id")],
        *[(name, pa.timestamp("us")) for name in ("first_seen_at", "last_seen_at", "assigned_at")],
    ]
)

#: Segments per column of the answer: bits of a positive bigint.
BITS = 62


class Stream:
    """An Arrow table under a name that DuckDB has planned with: another table of the same schema may take its place."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def references(sql: str) -> list[tuple[int, int, str]]:
    """Where compiled SQL names relations of the warehouse: start, end, `schema.table`."""
    tokens = DuckDB().tokenize(sql)
    found = []
    for at in range(len(tokens) - 4):
        catalog, dot, schema, other_dot, table = tokens[at : at + 5]
        is_name = catalog.text == LAKE and dot.token_type == other_dot.token_type == TokenType.DOT
        if is_name and catalog.token_type in (TokenType.IDENTIFIER, TokenType.VAR):
            found.append((catalog.start, table.end + 1, f"{schema.text}.{table.text}"))
    return found


def reads(model: Model) -> list[str]:
    """`schema.table` of the relations that the compiled SQL of a model names, each once."""
    return list(dict.fromkeys(relation for _, _, relation in references(model.compiled_sql)))


def rewrite(sql: str, names: Mapping[str, str], *, clock: str | None = None) -> str:
    """The SQL with other names for its relations, and with `clock` where it asks for `getvariable('as_of')`.

    Raises:
        KeyError: when a relation has no name.
    """
    edits = [(start, end, names[relation]) for start, end, relation in references(sql)]
    if clock is not None:
        edits += [(start, end, clock) for start, end in _clock_calls(DuckDB().tokenize(sql))]
    for start, end, text in sorted(edits, reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def _clock_calls(tokens: list[Token]) -> list[tuple[int, int]]:
    return [
        (tokens[at].start, tokens[at + 3].end + 1)
        for at in range(len(tokens) - 3)
        if tokens[at].text.lower() == "getvariable"
        and tokens[at + 1].token_type == TokenType.L_PAREN
        and tokens[at + 2].token_type == TokenType.STRING
        and tokens[at + 2].text == "as_of"
        and tokens[at + 3].token_type == TokenType.R_PAREN
    ]


def per_event_model(project: Project) -> Model:
    """The model that cleans each event by itself, from which everything else is made.

    Raises:
        DefinitionError: when there is none, or there are several.
    """
    found = [m for m in project.models if m.is_append_only and m.sources == (RAW,) and not m.depends_on]
    if len(found) != 1:
        raise DefinitionError(
            f"real time needs one append-only model of {RAW}; the project has {len(found)}",
            fix="make staging.stg_events incremental with the strategy append",
        )
    return found[0]


class Prepared:
    """One statement that is planned once and reads Arrow streams.

    Args:
        sql: with `getvariable('as_of')` where it needs the time.
        streams: name in the SQL → an empty table with the columns.
        con: an in-memory connection of the caller's; None: one of its own.
    """

    def __init__(self, sql: str, streams: Mapping[str, pa.Table], *, con: Connection | None = None) -> None:
        self.con = con or memory()
        self._streams = {name: Stream(table) for name, table in streams.items()}
        for name, stream in self._streams.items():
            self.con.register(name, stream)
        self._clock = Stream(_moment(datetime(2026, 1, 1)))  # noqa: DTZ001 — naive UTC, as in the warehouse
        self.con.register("clock_now", self._clock)
        self._is_planned = True
        try:
            text = rewrite(sql, _Same(), clock="(select as_of from clock_now)")
            self.con.execute(f"prepare statement_now as {text}")
        except duckdb.Error:
            # Some places of SQL take no sub-query: there the statement is planned each time.
            self._is_planned = False
            self._sql = sql
            self.con.execute("set variable as_of = timestamp '2026-01-01'")
            self.con.execute(f"prepare statement_now as {sql}")
            self.con.execute("deallocate statement_now")

    def run(self, tables: Mapping[str, pa.Table], as_of: datetime) -> pa.Table:
        """The answer as of a time (aware)."""
        for name, table in tables.items():
            self._streams[name].table = table
        moment = to_warehouse(as_of)
        if self._is_planned:
            self._clock.table = _moment(moment)
            return self.con.execute("execute statement_now").to_arrow_table()
        self.con.execute("set variable as_of = $1::timestamp", [moment])
        return self.con.execute(self._sql).to_arrow_table()


class _Same(dict[str, str]):
    def __missing__(self, relation: str) -> str:
        return '"' + LAKE + '".' + ".".join(quote(part) for part in relation.split("."))


def _moment(moment: datetime) -> pa.Table:
    return pa.table({"as_of": pa.array([moment], pa.timestamp("us"))})


def memory() -> Connection:
    """An in-memory DuckDB on one thread: two use more processor for the same small statement."""
    con = empty_lake()
    con.execute("set threads = 1; set enable_progress_bar = false")
    con.execute("set variable window_start = null::timestamp; set variable window_end = null::timestamp")
    return con


class Staging:
    """From `raw.events` to staged events, and from those to identifiers and links.

    Attributes:
        schema: of the staged events, all columns.
    """

    def __init__(self, project: Project) -> None:
        self.model = per_event_model(project)
        raw = _empty(project, RAW)
        self.raw_schema = raw.schema
        self.sql = rewrite(self.model.compiled_sql, {RAW: "raw_now"})
        self._stage = Prepared(self.sql, {"raw_now": raw})
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
        self._identity = {name: Prepared(sql, {"staged_now": empty}) for name, sql in self.identity_sql.items()}

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


_SOME_TIME = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly these columns, nulls for those that it lacks."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _empty(project: Project, relation: str) -> pa.Table:
    """No rows of a relation that dbt does not build, with the columns that are known of it."""
    columns = {**project.source_columns.get(relation, {}), **TABLES.get(relation, {})}
    listed = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in columns.items())
    with duckdb.connect(":memory:") as con:
        return con.execute(f"select {listed} where false").to_arrow_table()


class Chain:
    """The models that lead to some segments, as one statement.

    Args:
        project: whose models.
        segments: names, in the order of the bits of the answer.
        staging: says what staged events look like.
        held: answers with a relation that is not evaluated here: a population model, or a source, as it stands
            in the warehouse; None when it is not there.

    Raises:
        DefinitionError: when the statement cannot be made.
    """

    def __init__(
        self, project: Project, segments: Sequence[str], staging: Staging, held: Callable[[str], pa.Table | None]
    ) -> None:
        self.segments = tuple(segments)
        self._staging = staging
        by_relation = {model.relation: model for model in project.models}
        targets = [project.by_name[name] for name in segments]
        self._has_features = FEATURES in by_relation
        if self._has_features:
            targets.append(by_relation[FEATURES])
        con = memory()
        names = {staging.model.relation: "staged_rows", IDENTIFIERS: "identifiers_now"}
        order: list[Model] = []
        self.held: list[str] = []
        for target in targets:
            self._visit(target, by_relation, names, order, con, project, held)
        bodies = [f"{names[m.relation]} as (\n{rewrite(m.compiled_sql, names)}\n)" for m in order]
        members = [
            f"select person_id::varchar as person_id, {n // BITS} as slot, {1 << n % BITS}::bigint as bit"
            f" from {names[project.by_name[name].relation]}"
            for n, name in enumerate(segments)
        ] or ["select null::varchar as person_id, 0 as slot, 0::bigint as bit where false"]
        self.slots = max(1, -(-len(self.segments) // BITS))
        slots = ", ".join(f"coalesce(bit_or(bit) filter (where slot = {n}), 0) as m{n}" for n in range(self.slots))
        tail = f"members_now as ({' union all '.join(members)}),\n"
        tail += (
            f"bits_now as (select person_id, {slots} from members_now where person_id is not null group by person_id)\n"
        )
        masks = ", ".join(f"coalesce(b.m{n}, 0)::bigint as m{n}" for n in range(self.slots))
        if self._has_features:
            tail += (
                f"select coalesce(b.person_id, f.person_id::varchar) as person_id, {masks},"
                " case when f.person_id is not null then to_json(f)::varchar end as features"
                f" from {names[FEATURES]} f full join bits_now b on b.person_id = f.person_id::varchar"
            )
        else:
            tail += f"select b.person_id, {masks}, null::varchar as features from bits_now b"
        identifiers = IDENTIFIER_SCHEMA.empty_table()
        inlined = _inline(self._statement(list(staging.types), bodies, tail))
        self.columns = self._needed(con, inlined, staging.schema.empty_table(), identifiers)
        self.schema = pa.schema([staging.schema.field(name) for name in self.columns])
        text = self._statement(self.columns, bodies, tail)
        try:
            self._prepared = Prepared(
                text, {"rows_now": self.schema.empty_table(), "identifiers_now": identifiers}, con=con
            )
        except duckdb.Error as error:
            raise DefinitionError(
                f"the models cannot be put into one statement: {error}", fix="`segue check` names the model"
            ) from error

    def evaluate(self, rows: pa.Table, identifiers: pa.Table, as_of: datetime) -> pa.Table:
        """person_id, m0, m1, … (bits of segments), features (JSON text or null); one row per person.

        Args:
            rows: staged events with the columns `columns`.
            identifiers: as IDENTIFIER_SCHEMA; whose events these are.
            as_of: aware.
        """
        return self._prepared.run({"rows_now": rows, "identifiers_now": identifiers}, as_of)

    def _visit(
        self,
        model: Model,
        by_relation: Mapping[str, Model],
        names: dict[str, str],
        order: list[Model],
        con: Connection,
        project: Project,
        held: Callable[[str], pa.Table | None],
    ) -> None:
        if model.relation in names:
            return
        for relation in reads(model):
            if relation in names:
                continue
            inner = by_relation.get(relation)
            if inner is not None and not is_population(inner):
                self._visit(inner, by_relation, names, order, con, project, held)
                continue
            table = held(relation)
            if table is None:
                table = _empty(project, relation)
            name = quote(f"held {relation}")
            con.register("arriving", table)
            con.execute(f"create table memory.main.{name} as from arriving")
            con.unregister("arriving")
            names[relation] = f"memory.main.{name}"
            self.held.append(relation)
        names[model.relation] = quote(f"model {model.relation}")
        order.append(model)

    def _statement(self, columns: Sequence[str], bodies: Sequence[str], tail: str) -> str:
        known = set(columns)
        # Columns that nobody needs are there as nulls: SQL that names them in passing still binds.
        listed = ", ".join(
            f"{quote(name) if name in known else 'null'}::{kind} as {quote(name)}"
            for name, kind in self._staging.types.items()
        )
        parts = [f"staged_rows as (select {listed} from rows_now)", *bodies, tail]
        return "with " + ",\n".join(parts)

    def _needed(self, con: Connection, statement: str, rows: pa.Table, identifiers: pa.Table) -> list[str]:
        """The columns of staged events that the answer depends on, as DuckDB's planner sees it."""
        # Tables of DuckDB's own: only for these does the plan say which columns are read.
        for name, table in (("rows_now", rows), ("identifiers_now", identifiers)):
            con.register("arriving", table)
            con.execute(f"create table {name} as from arriving")
            con.unregister("arriving")
        con.execute("set variable as_of = timestamp '2026-01-01'")
        # The planner would answer from empty tables at once.
        con.execute("set disabled_optimizers = 'statistics_propagation,empty_result_pullup'")
        try:
            plan = con.execute(f"explain (format json) {statement}").fetchall()[0][1]
        except duckdb.Error:
            self.reads_sightings = True
            return list(self._staging.types)
        finally:
            con.execute("drop table rows_now; drop table identifiers_now; set disabled_optimizers = ''")
        # Any word counts: a filter may be written in any way, and a column too many costs little.
        words = set(re.findall(r"\w+", json.dumps(list(_scans(json.loads(plan))))))
        self.reads_sightings = bool(words & {"last_seen_at", "first_seen_at"})
        return [name for name in self._staging.types if words.intersection(re.findall(r"\w+", name))]


def is_population(model: Model) -> bool:
    """Whether a model looks at everyone, and is therefore held at its last value in the warehouse."""
    said = model.meta.get("segue")
    return isinstance(said, Mapping) and said.get("scope") == "population"


def _inline(statement: str) -> str:
    """The same with no common table expression kept as a table: the planner then sees through all of them."""
    tokens = DuckDB().tokenize(statement)
    places = [
        tokens[at + 1].end + 1
        for at in range(len(tokens) - 2)
        if tokens[at].token_type in (TokenType.VAR, TokenType.IDENTIFIER)
        and tokens[at + 1].token_type == TokenType.ALIAS
        and tokens[at + 2].token_type == TokenType.L_PAREN
    ]
    for place in reversed(places):
        statement = f"{statement[:place]} not materialized{statement[place:]}"
    return statement


def _scans(node: Any) -> Any:
    for item in node if isinstance(node, list) else [node]:
        if "SCAN" in item.get("name", "") and "CTE" not in item["name"]:
            projected = item["extra_info"].get("Projections", [])
            yield [projected] if isinstance(projected, str) else projected
            yield item["extra_info"].get("Filters", "")
        yield from _scans(item.get("children", []))
