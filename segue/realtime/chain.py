"""The models between staged events and segments, as the common table expressions of one statement."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.tokenizer_core import TokenType

from segue.errors import DefinitionError
from segue.models import Model, Project
from segue.models.project import quote
from segue.realtime.sql import NEEDLESS, Prepared, memory, reads, rewrite
from segue.realtime.staging import Staging, empty_relation
from segue.warehouse import Connection

#: Whose rows are served as features.
FEATURES = "marts.person_features"

#: What is served beside the features, where the project makes it; a score that is not known is left out.
SCORES = "marts.person_scores"

IDENTIFIERS = "identity.identifiers"

#: Columns of `identity.identifiers` as the engine gives them.
IDENTIFIER_SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("identifier_type", "identifier_value", "person_id")],
        *[(name, pa.timestamp("us")) for name in ("first_seen_at", "last_seen_at", "assigned_at")],
    ]
)

#: Segments per column of the answer: bits of a positive bigint.
BITS = 62


class Chain:
    """The models that lead to some segments, as one statement.

    Args:
        project: whose models.
        segments: names, in the order of the bits of the answer.
        staging: says what staged events look like.
        held: answers with a relation that is not evaluated here: a population model, or a source, as it stands
            in the warehouse; None when it is not there.
        has_features: whether the answer has features, where the project makes them.

    Raises:
        DefinitionError: when the statement cannot be made.
    """

    def __init__(
        self,
        project: Project,
        segments: Sequence[str],
        staging: Staging,
        held: Callable[[str], pa.Table | None],
        *,
        has_features: bool = True,
    ) -> None:
        self.segments = tuple(segments)
        self._staging = staging
        by_relation = {model.relation: model for model in project.models}
        targets = [project.by_name[name] for name in segments]
        self._has_features = has_features and FEATURES in by_relation
        if self._has_features:
            targets.append(by_relation[FEATURES])
        has_scores = self._has_features and SCORES in by_relation
        if has_scores:
            targets.append(by_relation[SCORES])
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
            scored = f" left join {names[SCORES]} s on s.person_id = f.person_id" if has_scores else ""
            said = "to_json(s)" if has_scores else "null"
            tail += (
                f"select coalesce(b.person_id, f.person_id::varchar) as person_id, {masks},"
                f" case when f.person_id is not null then to_json(f)::varchar end as features,"
                f" {said}::varchar as scores"
                f" from {names[FEATURES]} f{scored} full join bits_now b on b.person_id = f.person_id::varchar"
            )
        else:
            tail += f"select b.person_id, {masks}, null::varchar as features, null::varchar as scores from bits_now b"
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
        """person_id, m0, m1, … (bits of segments), features and scores (JSON text or null); one row per person.

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
            if inner is not None and not inner.is_population:
                self._visit(inner, by_relation, names, order, con, project, held)
                continue
            table = held(relation)
            if table is None:
                table = empty_relation(project, relation)
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
        con.execute(f"set disabled_optimizers = '{NEEDLESS},statistics_propagation,empty_result_pullup'")
        try:
            plan = con.execute(f"explain (format json) {statement}").fetchall()[0][1]
        except duckdb.Error:
            self.reads_sightings = True
            return list(self._staging.types)
        finally:
            con.execute(f"drop table rows_now; drop table identifiers_now; set disabled_optimizers = '{NEEDLESS}'")
        # Any word counts: a filter may be written in any way, and a column too many costs little.
        words = set(re.findall(r"\w+", json.dumps(list(_scans(json.loads(plan))))))
        self.reads_sightings = bool(words & {"last_seen_at", "first_seen_at"})
        return [name for name in self._staging.types if words.intersection(re.findall(r"\w+", name))]


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
