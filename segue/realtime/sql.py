"""Compiled SQL under other names, as statements that are planned once.

The text of a model stays as dbt compiled it, but for two things that are found by the tokenizer: names of relations,
and `getvariable('as_of')`. The variable would be folded into a prepared plan, and a statement parameter makes DuckDB
plan anew each time, which is half of what a small batch costs. So the time stands at the end of the text that executes
the plan, which is the one thing about an execution that an expression can ask for.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.tokenizer_core import Token, TokenType

from segue.clock import to_warehouse
from segue.models import Model
from segue.models.check import empty_lake
from segue.models.project import quote
from segue.warehouse import ArrowSlot, Connection, patience
from segue.warehouse.connect import LAKE

#: What takes the place of `getvariable('as_of')`: the 16 digits (2001 to 2286) that `Prepared.run` writes last.
_CLOCK = "make_timestamp(right(current_query(), 16)::bigint)"


#: A list of constants stays a comparison: to join with it, as DuckDB would, costs more than to compare a few rows.
NEEDLESS = "in_clause"

#: How long a statement may take: at the least, and for each row that it is given. A hundred times what it should
#: take: whoever wrote SQL that does not end must not hold up all other segments.
_SECONDS, _SECONDS_A_ROW = 60.0, 1e-4


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


class Prepared:
    """One statement that is planned once and reads Arrow streams.

    Args:
        sql: with `getvariable('as_of')` where it needs the time.
        streams: name in the SQL → an empty table with the columns.
        con: an in-memory connection of the caller's; None: one of its own.
    """

    def __init__(self, sql: str, streams: Mapping[str, pa.Table], *, con: Connection | None = None) -> None:
        self.con = con or memory()
        self._streams = {name: ArrowSlot(table) for name, table in streams.items()}
        for name, stream in self._streams.items():
            self.con.register(name, stream)
        self._is_planned = True
        try:
            text = rewrite(sql, _Same(), clock=_CLOCK)
            self.con.execute(f"prepare statement_now as {text}")
        except duckdb.Error:
            # Some places of SQL take a constant only: there the statement is planned each time.
            self._is_planned = False
            self._sql = sql
            self.con.execute("set variable as_of = timestamp '2026-01-01'")
            self.con.execute(f"prepare statement_now as {sql}")
            self.con.execute("deallocate statement_now")

    def run(self, tables: Mapping[str, pa.Table], as_of: datetime) -> pa.Table:
        """The answer as of a time (aware).

        Raises:
            duckdb.Error: when the database refuses it, or it does not end.
        """
        rows = sum(table.num_rows for table in tables.values())
        with patience(self.con, _SECONDS + _SECONDS_A_ROW * rows):
            return self._run(tables, as_of)

    def _run(self, tables: Mapping[str, pa.Table], as_of: datetime) -> pa.Table:
        for name, table in tables.items():
            self._streams[name].table = table
        moment = to_warehouse(as_of)
        if self._is_planned:
            return self.con.execute(f"execute statement_now -- {_micros(moment):016}").to_arrow_table()
        self.con.execute("set variable as_of = $1::timestamp", [moment])
        return self.con.execute(self._sql).to_arrow_table()


class _Same(dict[str, str]):
    def __missing__(self, relation: str) -> str:
        return '"' + LAKE + '".' + ".".join(quote(part) for part in relation.split("."))


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001 — naive UTC


def memory() -> Connection:
    """An in-memory DuckDB on one thread: two use more processor for the same small statement."""
    con = empty_lake()
    con.execute(f"set threads = 1; set enable_progress_bar = false; set disabled_optimizers = '{NEEDLESS}'")
    con.execute("set variable window_start = null::timestamp; set variable window_end = null::timestamp")
    return con


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly these columns, nulls for those that it lacks."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
