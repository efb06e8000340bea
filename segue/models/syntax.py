"""Where things stand in a parsed query."""

from collections.abc import Iterable
from functools import cache

import duckdb
from sqlglot import exp

from segue.models.bound import function_name


def parts_of(node: exp.Expr) -> list[exp.Expr]:
    """The expressions of a select, apart from its tables."""
    parts = [*node.expressions]
    for key in ("where", "having", "qualify", "group", "order", "distinct"):
        if node.args.get(key) is not None:
            parts.append(node.args[key])
    tables = [node.args["from_"].this] if node.args.get("from_") is not None else []
    joins = [*(node.args.get("joins") or ()), *(j for t in tables for j in t.args.get("joins") or ())]
    parts += [j.args["on"] for j in joins if j.args.get("on") is not None]
    return parts


def within(part: exp.Expr) -> Iterable[exp.Expr]:
    """The expressions of this select alone: a nested query is given, not entered."""
    pending = [part]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, exp.Query) or isinstance(node, exp.Subquery):
            pending += reversed(list(node.iter_expressions()))


def listed(node: exp.Expr) -> list[exp.Expr]:
    """The members of a tuple, or the expression itself."""
    node = node.unnest()
    return list(node.expressions) if isinstance(node, exp.Tuple) else [node]


def partition(window: exp.Window, select: exp.Expr) -> list[exp.Expr]:
    """What a window is partitioned by, named windows followed."""
    by = window.args.get("partition_by") or []
    name = window.args.get("alias")
    if by or name is None:
        return list(by)
    named = next((w for w in select.args.get("windows") or () if w.name.lower() == name.name.lower()), None)
    return partition(named, select) if named is not None else []


def is_condition(node: exp.Expr) -> bool:
    """Whether a null answer is as good as a false one: it stands in a WHERE, joined by AND and OR only."""
    place = node.parent
    while isinstance(place, exp.And | exp.Or | exp.Paren):
        place = place.parent
    return isinstance(place, exp.Where | exp.Having | exp.Qualify)


def is_aggregate(node: exp.Expr) -> bool:
    """Whether a function makes one answer of many rows, other than in a window."""
    if not isinstance(node, exp.Func) or isinstance(node, exp.Cast | exp.Case | exp.And | exp.Or):
        return False
    if not isinstance(node, exp.AggFunc) and function_name(node) not in _aggregates():
        return False
    place = node.parent
    while isinstance(place, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls | exp.Order):
        place = place.parent
    return not isinstance(place, exp.Window)


@cache
def _aggregates() -> frozenset[str]:
    with duckdb.connect(":memory:") as con:
        rows = con.execute("select distinct function_name from duckdb_functions() where function_type = 'aggregate'")
        return frozenset(row[0].lower() for row in rows.fetchall())
