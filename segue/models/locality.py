"""Follows a query from table to answer: can it be run for some people alone, with the same answer for them?

It can when every step that brings rows together (a group, a window, a join, a set operation, a sub-query) does so by
a key of the person. The first step that does not is raised as `Mixes`. Where it cannot tell, it says that it mixes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sqlglot import exp

from segue.models.bound import (
    Col,
    Env,
    Rel,
    conjuncts,
    function_name,
    has_nullable_key,
    is_key,
    narrow_nulls,
    value,
)
from segue.models.join_graph import JoinGraph, connect
from segue.models.syntax import is_aggregate, is_condition, listed, partition, parts_of, within

#: Functions whose answer changes by itself.
_OWN_CLOCK = (
    exp.Rand, exp.Uuid, exp.CurrentDate, exp.CurrentTimestamp, exp.CurrentTime, exp.CurrentDatetime,
)  # fmt: skip
_OWN_CLOCK_NAMES = {
    "now", "today", "random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "get_current_timestamp", "current_date",
    "get_current_time", "transaction_timestamp", "current_localtimestamp", "current_localtime", "nextval", "currval",
    "localtimestamp", "localtime", "current_timestamp", "current_time",
}  # fmt: skip
_SAMPLES = "sample"


class Mixes(Exception):
    """A step that needs other people's rows.

    Attributes:
        node: the expression.
        reason: what it does, as the end of a sentence about it.
        fix: what to write instead.
    """

    def __init__(self, node: exp.Expr, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.node, self.reason, self.fix = node, reason, fix


_POPULATION = "put it into a model of its own with `meta: segue: scope: population`, which keeps its warehouse value"
_BY_PERSON = "do it by person_id, or " + _POPULATION


@dataclass
class _Cte:
    query: exp.Expr
    names: list[str]
    ctes: "Mapping[str, _Cte]"
    outer: Env | None
    known: Rel | None = None


class Follower:
    """One model's SQL.

    Args:
        lookup: `schema.table` → what is known of that relation.
    """

    def __init__(self, lookup: Callable[[str], Rel]) -> None:
        self._lookup = lookup

    def query(self, node: exp.Expr, ctes: Mapping[str, _Cte] | None = None, outer: Env | None = None) -> Rel:
        """The answer's columns.

        Raises:
            Mixes: at the first step that brings people together.
        """
        ctes = self._with(node, dict(ctes or {}), outer)
        if isinstance(node, exp.Subquery):
            if isinstance(node.this, exp.Table):
                inner: exp.Expr = exp.Select(expressions=[exp.Star()], from_=exp.From(this=node.this))
                inner.set("joins", node.args.get("joins"))
                return self._select(inner, ctes, outer)
            found = self.query(node.this, ctes, outer)
            self._limited(node, found)
            return self._renamed(found, node)
        if isinstance(node, exp.Select):
            return self._select(node, ctes, outer)
        if isinstance(node, exp.SetOperation):
            left, right = self.query(node.left, ctes, outer), self.query(node.right, ctes, outer)
            found = self._set(node, left, right)
            self._limited(node, found)
            return found
        if isinstance(node, exp.Table):
            return self._table(node, ctes, outer)
        if isinstance(node, exp.Values):
            return Rel(None, False)
        raise Mixes(node, "is a statement that cannot be followed", "write it as a select")

    def _with(self, node: exp.Expr, ctes: dict[str, _Cte], outer: Env | None) -> Mapping[str, _Cte]:
        clause = node.args.get("with_")
        for cte in clause.expressions if clause else ():
            names = [c.name.lower() for c in cte.args["alias"].columns]
            made = _Cte(cte.this, names, dict(ctes), outer)
            if clause is not None and clause.args.get("recursive"):
                made.known = self._recursive(cte.alias.lower(), made)
            ctes[cte.alias.lower()] = made
        return ctes

    def _recursive(self, name: str, cte: _Cte) -> Rel | None:
        body = cte.query
        if not isinstance(body, exp.Union) or not any(t.name.lower() == name for t in body.find_all(exp.Table)):
            return None
        assumed = self.query(body.left, cte.ctes, cte.outer).named(cte.names)
        # What is known of the columns only grows less, so this ends.
        while True:
            itself = _Cte(body, [], {}, None, known=assumed)
            step = self.query(body.right, {**cte.ctes, name: itself}, cte.outer)
            found = self._set(body, assumed, step).named(cte.names)
            if found.cols == assumed.cols:
                return found
            assumed = found

    def _table(self, node: exp.Table, ctes: Mapping[str, _Cte], outer: Env | None) -> Rel:
        if node.args.get("sample") is not None:
            raise Mixes(node, "takes a sample of the rows", "choose by a hash of person_id, if it must be a share")
        if not isinstance(node.this, exp.Identifier):
            if function_name(node.this) in ("query", "query_table"):
                raise Mixes(node, "runs SQL that is only known later", "name the table")
            return Rel(None, False)
        cte = ctes.get(node.name.lower()) if not node.db else None
        if cte is not None:
            if cte.known is None:
                cte.known = self.query(cte.query, cte.ctes, cte.outer).named(cte.names)
            found = cte.known
        else:
            found = self._lookup(f"{node.db}.{node.name}" if node.db else node.name)
        for pivot in node.args.get("pivots") or ():
            if found.is_personal and not pivot.args.get("unpivot"):
                raise Mixes(node, "pivots everybody's rows", "write it with `case when` and `group by person_id`")
            found = Rel(None, False) if not found.is_personal else replace(found, cols=())
        return found

    def _renamed(self, rel: Rel, node: exp.Expr) -> Rel:
        alias = node.args.get("alias")
        return rel.named([c.name.lower() for c in alias.columns]) if isinstance(alias, exp.TableAlias) else rel

    # ── one select ──

    def _select(self, node: exp.Expr, ctes: Mapping[str, _Cte], outer: Env | None) -> Rel:
        env = Env(outer)
        env.aliases = {p.alias.lower(): p.this for p in node.expressions if isinstance(p, exp.Alias)}
        graph = JoinGraph(env)
        where = node.args["where"].this if node.args.get("where") else None
        joined: list[exp.Expr] = []
        if node.args.get("from_") is not None:
            joined = [node.args["from_"].this]
            joined += joined[0].args.get("joins") or []
        joined += [*(node.args.get("joins") or ()), *(node.args.get("laterals") or ())]
        tables = [(item, self._source(item, env, ctes, outer, graph)) for item in joined]
        connect(tables, conjuncts(where), env, graph, Mixes)
        narrow_nulls(conjuncts(where), env)
        is_personal = graph.is_personal
        pinned = graph.pinned
        mixes_rows = is_personal and not pinned
        self._expressions(node, env, ctes, mixes_rows)
        if mixes_rows:
            self._grouped(node, env)
        columns = self._columns(node, env)
        found = Rel(columns, is_personal, pinned)
        if mixes_rows and node.args.get("distinct") is not None:
            distinct = node.args["distinct"]
            on = distinct.args.get("on")
            cols = [value(e, env) for e in on.expressions or [on.unnest()]] if on is not None else columns or ()
            self._need_key(distinct if on is not None else node, cols, "drops rows that are alike (distinct)")
        self._limited(node, found)
        return found

    def _source(self, item: exp.Expr, env: Env, ctes: Mapping[str, _Cte], outer: Env | None, graph: JoinGraph) -> str:
        """Add a table of FROM or JOIN to what can be seen; its alias."""
        table = item.this if isinstance(item, exp.Join) else item
        if isinstance(table, exp.Lateral):
            table = table.this
        alias = ((item.this if isinstance(item, exp.Join) else item).alias_or_name or f"_{len(env.sources)}").lower()
        if isinstance(table, exp.Query | exp.Subquery):
            # A table in FROM may look at those before it.
            before = Env(outer, dict(env.sources), dict(env.merged)) if env.sources else outer
            rel = self.query(table, ctes, before)
            graph.pin(alias, rel, is_lateral=bool(env.sources))
        elif isinstance(table, exp.Table):
            rel = self._renamed(self._table(table, ctes, outer), table)
        else:  # unnest, a function of the row, values
            rel = self._renamed(Rel(None, False), table)
        env.sources[alias] = replace(rel, pinned=frozenset())
        return alias

    def _expressions(self, node: exp.Expr, env: Env, ctes: Mapping[str, _Cte], mixes_rows: bool) -> None:
        for part in parts_of(node):
            for item in within(part):
                if isinstance(item, exp.Query):
                    self._subquery(item, env, ctes)
                    continue
                if isinstance(item, _OWN_CLOCK) or function_name(item) in _OWN_CLOCK_NAMES:
                    raise Mixes(item, "gives another answer each time it is asked", "use {{ as_of() }} for the time")
                if mixes_rows and isinstance(item, exp.Window):
                    by = [value(e, env) for e in partition(item, node)]
                    self._need_key(item, by, "is a window over everyone's rows")
                if mixes_rows and isinstance(item, exp.Column) and item.name.lower() == "rowid":
                    raise Mixes(item, "is a row's place among everyone's", "use message_id or session_id")

    def _subquery(self, query: exp.Query, env: Env, ctes: Mapping[str, _Cte]) -> None:
        found = self.query(query, ctes, env)
        if not found.is_personal or found.pinned:
            return
        place = query.parent
        while isinstance(place, exp.Subquery | exp.Paren):
            place = place.parent
        if isinstance(place, exp.In):
            left = place.this.unnest()
            asked = [value(e, env) for e in (left.expressions if isinstance(left, exp.Tuple) else [left])]
            pairs = list(zip(asked, found.cols or (), strict=False))
            shared = {a.domain for a, b in pairs if a.domain is not None and a.domain == b.domain}
            plain = {d for d in shared if not d.startswith(("typed:", "type:"))}
            whole = plain or {d for d in shared if d.startswith("typed:") and f"type:{d[6:]}" in shared}
            never_null = all(not a.nullable and not b.nullable for a, b in pairs)
            if whole and (never_null or is_condition(place)):
                return
            if whole:
                raise Mixes(
                    place, "asks for somebody in a list that may hold nulls",
                    "add `where … is not null` to the sub-query, or use `exists`",
                )  # fmt: skip
        raise Mixes(
            place if place is not None and not isinstance(place, exp.Select) else query,
            "is a sub-query over everyone's rows", "tie it to the person (`where inner.person_id = outer.person_id`), "
            "or " + _POPULATION,
        )  # fmt: skip

    def _grouped(self, node: exp.Expr, env: Env) -> None:
        group = node.args.get("group")
        first = next((i for p in parts_of(node) for i in within(p) if is_aggregate(i)), None)
        if group is None:
            if first is not None:
                raise Mixes(
                    first, "looks at everyone (there is no group by)", "add `group by person_id`, or " + _POPULATION
                )
            return
        if group.args.get("all"):
            keys = [p for p in node.expressions if not any(is_aggregate(i) for i in within(p))]
            self._need_key(group, [value(k, env) for k in keys], "groups the rows of several people")
            return
        plain = [e for e in group.expressions if not isinstance(e, exp.GroupingSets | exp.Rollup | exp.Cube)]
        fixed = [c for e in plain for c in self._group_key(e, node, env)]
        special = [e for e in group.expressions if e not in plain]
        for e in (*special, *(x for k in ("rollup", "cube", "grouping_sets") for x in group.args.get(k) or ())):
            sets = e.expressions if isinstance(e, exp.GroupingSets) else [exp.Tuple()]
            for one in sets:
                cols = [c for key in listed(one) for c in self._group_key(key, node, env)]
                self._need_key(e, [*fixed, *cols], "also groups without a key of the person")
        if not special:
            self._need_key(group, fixed, "groups the rows of several people")

    def _group_key(self, key: exp.Expr, node: exp.Expr, env: Env) -> list[Col]:
        if isinstance(key, exp.Literal) and not key.is_string:
            place = int(key.this) - 1
            key = node.expressions[place] if place < len(node.expressions) else key
            if isinstance(key, exp.Star):
                return []
        return [value(e, env) for e in listed(key)]

    def _need_key(self, node: exp.Expr, cols: Iterable[Col], what: str) -> None:
        cols = list(cols)
        if is_key(cols):
            return
        nullable = has_nullable_key(cols)
        if nullable is None:
            raise Mixes(node, what, _BY_PERSON)
        if any((c.domain or "").startswith("typed:") for c in cols) and not any(
            (c.domain or "").startswith("type:") for c in cols
        ):
            raise Mixes(node, f"{what}: a value is somebody's only with its type", "add the type of the identifier")
        raise Mixes(node, f"{what}: all whose {nullable} is null come together", f"add `where {nullable} is not null`")

    def _limited(self, node: exp.Expr, found: Rel) -> None:
        if not found.is_personal or found.pinned:
            return
        for key in ("limit", "offset", "sample", "fetch"):
            clause = node.args.get(key)
            if clause is not None:
                what = "takes a sample of" if key == _SAMPLES else "counts off"
                raise Mixes(clause, f"{what} everyone's rows", _BY_PERSON)

    def _columns(self, node: exp.Expr, env: Env) -> tuple[Col, ...] | None:
        found: list[Col] = []
        for item in node.expressions:
            inner = item.this if isinstance(item, exp.Column) else item
            if isinstance(inner, exp.Star):
                listed = _star(inner, item.table.lower() if isinstance(item, exp.Column) else "", env)
                if listed is None:
                    return None
                found += listed
            elif isinstance(inner, exp.Columns) or inner.find(exp.Star) is inner:
                return None
            else:
                found.append(value(item, env))
        return tuple(found)

    def _set(self, node: exp.Expr, left: Rel, right: Rel) -> Rel:
        if not left.is_personal and not right.is_personal:
            return left
        cols = _united(node, left, right)
        if left.pinned and right.pinned:
            return Rel(cols, True, left.pinned | right.pinned)
        if isinstance(node, exp.Union) and left.is_personal != right.is_personal:
            raise Mixes(node, "adds rows that belong to nobody to people's rows", "join them to each person instead")
        if not left.is_personal:
            raise Mixes(node, "compares a list with everyone's rows", _BY_PERSON)
        if isinstance(node, exp.Union) and not node.args.get("distinct"):
            return Rel(cols, True)
        compared = cols if right.is_personal else left.cols
        self._need_key(node, compared or (), f"compares everyone's rows ({node.key})")
        return Rel(cols if isinstance(node, exp.Union) else left.cols, True)


def _united(node: exp.Expr, left: Rel, right: Rel) -> tuple[Col, ...] | None:
    if left.cols is None or right.cols is None:
        return None
    if node.args.get("by_name"):
        theirs = {c.name: c for c in right.cols}
        names = [*(c.name for c in left.cols), *(n for n in theirs if n not in {c.name for c in left.cols})]
        mine = {c.name: c for c in left.cols}
        pairs = [(mine.get(n, Col(n)), theirs.get(n, Col(n))) for n in names]
    else:
        pairs = list(zip(left.cols, right.cols, strict=False))
    # `'user_id', user_id` above `'anonymous_id', anonymous_id`: the type tells what the value is.
    kinds = next(
        (
            n for n, (a, b) in enumerate(pairs)
            if (a.constant and b.constant and a.constant != b.constant)
            or ((a.domain or "").startswith("type:union") and b.constant)
        ),
        None,
    )  # fmt: skip
    found = []
    for n, (a, b) in enumerate(pairs):
        domain, nullable = a.domain if a.domain == b.domain else None, a.nullable or b.nullable
        if kinds is not None and n == kinds:
            domain = "type:union"
        elif kinds is not None and _fits(a, pairs[kinds][0]) and _fits(b, pairs[kinds][1]):
            domain = "typed:union"
        found.append(Col(a.name, domain, nullable, a.constant if a.constant == b.constant else None))
    return tuple(found)


def _fits(of: Col, kind: Col) -> bool:
    return of.domain is not None and (of.domain == kind.constant or of.domain == "typed:union")


def _star(star: exp.Star, table: str, env: Env) -> list[Col] | None:
    without = {c.name.lower() for c in star.args.get("except_") or ()}
    replaced = {a.alias.lower(): a.this for a in star.args.get("replace") or ()}
    renamed = {a.this.name.lower(): a.alias.lower() for a in star.args.get("rename") or ()}
    found: list[Col] = []
    for alias, rel in env.sources.items():
        if table and alias != table:
            continue
        if rel.cols is None:
            return None
        for col in rel.cols:
            if col.name in without or (not table and col.name in env.merged and col.name in {c.name for c in found}):
                continue
            known = env.merged.get(col.name, col) if not table else col
            if col.name in replaced:
                known = value(replaced[col.name], env)
            found.append(replace(known, name=renamed.get(col.name, col.name)))
    return found
