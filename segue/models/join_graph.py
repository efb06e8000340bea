"""Which tables of a FROM are tied together by a key of the person, join by join."""

from collections.abc import Callable, Iterator, Sequence

from sqlglot import exp

from segue.models.bound import Col, Env, Rel, conjuncts, narrow_nulls, narrow_types, value

_OUTER = (" outer",)  # no alias begins with a space

Node = tuple[str, ...]  # _OUTER; (alias,) of a table of people; (alias, column, domain) of one that is not


class JoinGraph:
    """A graph of tables; an edge says that its ends are of one person in every row.

    A table of people is one node, since each of its rows is of one person. Of any other table each column is a node:
    a list of pairs holds two people in a row.
    """

    def __init__(self, env: Env) -> None:
        self._env = env
        self._parent: dict[Node, Node] = {}
        self._outer: set[tuple[int, str]] = set()

    def root(self, node: Node) -> Node:
        """The name of a node's class."""
        while (above := self._parent.get(node, node)) != node:
            node = above
        return node

    def tie(self, a: Node, b: Node) -> None:
        """Both are of one person."""
        self._parent[self.root(a)] = self.root(b)

    def pin(self, alias: str, rel: Rel, *, is_lateral: bool) -> None:
        """A table in FROM that is tied to tables before it, or to tables around this select."""
        for level, other in rel.pinned:
            if is_lateral and level == 0:
                self.tie((alias,), (other,))
            else:
                self._outer.add((level - 1 if is_lateral else level, other))
                self.tie((alias,), _OUTER)

    @property
    def people(self) -> list[str]:
        """Aliases of the tables of people."""
        return [alias for alias, rel in self._env.sources.items() if rel.is_personal]

    @property
    def is_personal(self) -> bool:
        """Whether the rows belong to people."""
        return bool(self.people)

    @property
    def pinned(self) -> frozenset[tuple[int, str]]:
        """The tables around this select that all its rows are tied to."""
        is_tied = all(self.root((alias,)) == self.root(_OUTER) for alias in self.people)
        return frozenset(self._outer) if self.people and is_tied else frozenset()

    def edges(self, conditions: Sequence[exp.Expr]) -> set[tuple[Node, Node]]:
        """What conditions that all hold tie together."""
        found: set[tuple[Node, Node]] = set()
        typed: list[tuple[Node, Node, str]] = []
        types: set[tuple[frozenset[Node], str]] = set()
        for c in conditions:
            if isinstance(c, exp.Or):
                sides = [self.edges(conjuncts(side)) for side in (c.left, c.right)]
                found |= sides[0] & sides[1]
            for left, right, is_null_equal in _equalities(c):
                a, b = self._end(left), self._end(right)
                if a is None or b is None or a[0] == b[0]:
                    continue
                (m, first), (n, second) = a, b
                if is_null_equal and first.nullable and second.nullable:
                    continue
                domain = self._shared(m, first, n, second)
                if domain is None:
                    continue
                m, n = (self._named(x, col, domain) for x, col in ((m, first), (n, second)))
                if domain.startswith("typed:"):
                    typed.append((m, n, domain[6:]))
                elif domain.startswith("type:"):
                    types.add((frozenset((m, n)), domain[5:]))
                else:
                    found.add((min(m, n), max(m, n)))
        found |= {(min(m, n), max(m, n)) for m, n, tag in typed if (frozenset((m, n)), tag) in types}
        return found

    def _end(self, node: exp.Expr) -> tuple[Node, Col] | None:
        """The one table that an expression is made from."""
        places = [self._env.find(c) for c in node.find_all(exp.Column)]
        known = [p for p in places if p is not None]
        if len(known) != len(places) or len({p[:2] for p in known}) != 1 or node.find(exp.Query):
            # A column of a table whose columns are not known.
            if isinstance(node, exp.Column) and node.table and not known:
                rel = self._env.sources.get(node.table.lower())
                if rel is not None and not rel.is_personal:
                    return (node.table.lower(),), Col(node.name.lower())
            return None
        level, alias, _ = known[0]
        if level > 0:
            found = value(node, self._env)
            if found.domain is None:
                return None
            return (*_OUTER, str(level - 1), alias), found
        return (alias,), value(node, self._env)

    def _is_people(self, node: Node) -> bool:
        return node[0] == _OUTER[0] or self._env.sources[node[0]].is_personal

    def _shared(self, m: Node, first: Col, n: Node, second: Col) -> str | None:
        if self._is_people(m) and self._is_people(n):
            return first.domain if first.domain == second.domain else None
        if self._is_people(m):
            return first.domain
        return second.domain if self._is_people(n) else None

    def _named(self, node: Node, col: Col, domain: str) -> Node:
        if node[0] == _OUTER[0]:
            self._outer.add((int(node[1]), node[2]))
            return _OUTER
        return node if self._is_people(node) else (node[0], col.name, domain)


def _equalities(c: exp.Expr) -> Iterator[tuple[exp.Expr, exp.Expr, bool]]:
    if not isinstance(c, exp.EQ | exp.NullSafeEQ):
        return
    left, right = c.left.unnest(), c.right.unnest()
    if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
        for a, b in zip(left.expressions, right.expressions, strict=False):
            yield a.unnest(), b.unnest(), isinstance(c, exp.NullSafeEQ)
    else:
        yield left, right, isinstance(c, exp.NullSafeEQ)


def connect(
    tables: Sequence[tuple[exp.Expr, str]],
    where: Sequence[exp.Expr],
    env: Env,
    graph: JoinGraph,
    error: Callable[[exp.Expr, str, str], Exception],
) -> None:
    """Follow the joins of a select; afterwards `env` knows what they say about columns.

    Args:
        tables: what stands in FROM and JOIN, with the aliases.
        where: conditions that all rows meet.
        error: made and raised at a join that brings people together.
    """
    conditions = {alias: _conditions(item, alias, env) for item, alias in tables}
    loose = [alias for item, alias in tables if not _keeps(item)]
    inner = [*where, *(c for alias in loose for c in conditions[alias])]
    narrow_types(inner, env)
    earlier: list[str] = []
    for item, alias in tables:
        if isinstance(item, exp.Join) and earlier:
            _join(item, alias, earlier, conditions[alias], env, graph, error)
        if alias in env.sources:
            earlier.append(alias)
    found = graph.edges(inner)
    for a, b in found:
        graph.tie(a, b)
    _bind(found, env)
    people = graph.people
    for item, alias in tables:
        if alias in people and graph.root((alias,)) != graph.root((people[0],)):
            raise error(
                item,
                "joins people's rows with other people's: no condition ties them to one person",
                "join by person_id (or another key of the person that both sides have)",
            )
    if not any(isinstance(i, exp.Join) and i.side in ("RIGHT", "FULL") for i, _ in tables):
        narrow_nulls([c for alias in loose for c in conditions[alias]], env)


def _keeps(item: exp.Expr) -> bool:
    """Whether the join's condition says which rows match, not which rows there are."""
    return isinstance(item, exp.Join) and bool(item.side or item.kind in ("SEMI", "ANTI") or item.method == "ASOF")


def _join(
    item: exp.Join,
    alias: str,
    earlier: list[str],
    conditions: list[exp.Expr],
    env: Env,
    graph: JoinGraph,
    error: Callable[[exp.Expr, str, str], Exception],
) -> None:
    mine = env.sources[alias].is_personal
    theirs = [a for a in earlier if env.sources[a].is_personal]
    if item.method == "POSITIONAL" and (mine or theirs):
        raise error(item, "joins rows by their place among everyone's", "join by person_id")
    if not _keeps(item):
        return
    own = [c for c in conditions if _concerns(c, alias, env)]
    narrow_types(own, env)
    edges = {(a, b) for a, b in graph.edges(conditions) if alias in (a[0], b[0])}
    for a, b in edges:
        graph.tie(a, b)
    if mine and theirs and not any(graph.root((a,)) == graph.root((alias,)) for a in theirs):
        raise error(
            item,
            "joins people's rows with other people's: its condition ties them to no one person",
            "add the key of the person to ON, such as a.person_id = b.person_id",
        )
    if (mine and not theirs and item.side != "RIGHT") or (theirs and not mine and item.side in ("RIGHT", "FULL")):
        raise error(
            item,
            "keeps rows that belong to nobody, and whether they match depends on everyone",
            "start from the people and join the list to them",
        )
    _bind(edges, env)
    merged = dict(env.merged)
    unmatched = earlier if item.side in ("RIGHT", "FULL") else []
    for other in [*unmatched, *([alias] if item.side in ("LEFT", "FULL") else [])]:
        for col in env.sources[other].cols or ():
            env.change(other, col.name, nullable=True)
    env.merged.update(merged)  # USING takes the value of the side that has one
    if item.kind in ("SEMI", "ANTI"):
        del env.sources[alias]  # nothing of it can be seen any more


def _bind(edges: set[tuple[Node, Node]], env: Env) -> None:
    """A column that equals a key is one."""
    for node in (n for edge in edges for n in edge):
        if len(node) == 3 and node[0] in env.sources:
            env.change(node[0], node[1], domain=node[2])


def _concerns(condition: exp.Expr, alias: str, env: Env) -> bool:
    found = [env.find(c) for c in condition.find_all(exp.Column)]
    return bool(found) and all(f is not None and f[:2] == (0, alias) for f in found)


def _conditions(item: exp.Expr, alias: str, env: Env) -> list[exp.Expr]:
    """The conditions of ON, or those that USING means."""
    if not isinstance(item, exp.Join):
        return []
    if item.args.get("on") is not None:
        return conjuncts(item.args["on"])
    before = list(env.sources)[: list(env.sources).index(alias)]
    mine = {c.name: c for c in env.sources[alias].cols or ()}
    names = [i.name.lower() for i in item.args.get("using") or ()]
    if item.method == "NATURAL":
        names = [n for n in mine if any(n in {c.name for c in env.sources[a].cols or ()} for a in before)]
    found: list[exp.Expr] = []
    for name in names:
        for other in before:
            theirs = next((c for c in env.sources[other].cols or () if c.name == name), None)
            if theirs is None:
                continue
            found.append(exp.EQ(this=exp.column(name, table=other), expression=exp.column(name, table=alias)))
            if item.kind not in ("SEMI", "ANTI") and name in mine:
                both = theirs.nullable or mine[name].nullable
                same = theirs.domain if theirs.domain == mine[name].domain else None
                kept = {"RIGHT": mine[name], "FULL": Col(name, same, both)}.get(item.side, theirs)
                env.merged[name] = kept
            break
    return found
