"""What is known of a column while SQL is followed: does an equal value mean an equal person?

A *domain* names a kind of key: two rows with the same value of the same domain belong to one person, or to people
whom identity has joined. A column without a domain says nothing about whose row it is in. An identifier value is a
key only together with its type, so it has the domain `typed:…`, and its type the domain `type:…`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from sqlglot import exp

PERSON = "person_id"
_TEXT = {exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.CHAR, exp.DType.NVARCHAR}
_HASHES = (exp.MD5, exp.SHA, exp.SHA2, exp.MD5Digest, exp.SHA2Digest)
#: Functions that answer with one of the values they are given.
_CHOOSING = {
    "any_value", "arbitrary", "first", "last", "first_value", "last_value", "nth_value", "lag", "lead", "min", "max",
    "arg_min", "arg_max", "min_by", "max_by", "mode", "argmin", "argmax",
}  # fmt: skip
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike)


@dataclass(frozen=True, slots=True)
class Col:
    """One column of a relation."""

    name: str
    domain: str | None = None
    nullable: bool = True
    constant: str | None = None  # the text that every row has


@dataclass(frozen=True, slots=True)
class Rel:
    """A relation: its columns (None: unknown), and whether its rows belong to people or are the same for everyone."""

    cols: tuple[Col, ...] | None
    is_personal: bool
    pinned: frozenset[tuple[int, str]] = frozenset()  # levels out and alias: whose component all rows belong to

    def named(self, names: Iterable[str]) -> "Rel":
        """With other names for its first columns."""
        if self.cols is None:
            return self
        given = list(names)
        cols = [replace(c, name=given[n]) if n < len(given) else c for n, c in enumerate(self.cols)]
        return replace(self, cols=tuple(cols))


@dataclass
class Env:
    """The tables that one SELECT sees, and those around it."""

    parent: "Env | None"
    sources: dict[str, Rel] = field(default_factory=dict)
    merged: dict[str, Col] = field(default_factory=dict)  # columns of USING
    aliases: dict[str, exp.Expr] = field(default_factory=dict)
    resolving: set[str] = field(default_factory=set)

    def find(self, column: exp.Column) -> tuple[int, str, Col] | None:
        """Levels out, alias, and what is known; None when the column is of no table with known columns."""
        name, table = column.name.lower(), column.table.lower()
        if not table and name in self.merged:
            where = next((a for a, rel in self.sources.items() if _of(rel, name) is not None), "")
            return 0, where, self.merged[name]
        for alias, rel in self.sources.items():
            if table in ("", alias) and (found := _of(rel, name)) is not None:
                return 0, alias, found
        if any(table in ("", a) and rel.cols is None for a, rel in self.sources.items()):
            return None
        if table in self.sources or self.parent is None or (not table and name in self.aliases):
            return None
        outer = self.parent.find(column)
        return None if outer is None else (outer[0] + 1, outer[1], outer[2])

    def change(self, alias: str, name: str, **changes: object) -> None:
        """Note what a condition says about a column."""
        rel = self.sources[alias]
        if rel.cols is not None:
            cols = tuple(replace(c, **changes) if c.name == name else c for c in rel.cols)  # type: ignore[arg-type]
            self.sources[alias] = replace(rel, cols=cols)
        if name in self.merged:
            self.merged[name] = replace(self.merged[name], **changes)  # type: ignore[arg-type]


def _of(rel: Rel, name: str) -> Col | None:
    return next((c for c in rel.cols or () if c.name == name), None)


def value(node: exp.Expr, env: Env) -> Col:
    """What is known of an expression; its name is that of the column it would become."""
    name = node.alias_or_name.lower() if isinstance(node, exp.Alias | exp.Column) else node.sql("duckdb").lower()
    found = _value(node, env)
    return replace(found, name=name)


_NOTHING = Col("")


def _value(node: exp.Expr, env: Env) -> Col:
    if isinstance(node, exp.Alias | exp.Paren):
        return _value(node.this, env)
    if isinstance(node, exp.Column):
        found = env.find(node)
        if found is not None:
            return found[2]
        name = node.name.lower()
        if not node.table and name in env.aliases and name not in env.resolving:
            env.resolving.add(name)
            known = _value(env.aliases[name], env)
            env.resolving.discard(name)
            return known
        return _NOTHING
    if isinstance(node, exp.Literal):
        return Col("", nullable=False, constant=node.this if node.is_string else None)
    if isinstance(node, exp.Cast):  # and TryCast; '01' and '1' are one number, so only text stays a key
        return _value(node.this, env) if node.to.this in _TEXT else _NOTHING
    if isinstance(node, exp.Coalesce):
        return _one_of([node.this, *node.expressions], env, all_null=True)
    if isinstance(node, exp.Case):
        default = node.args.get("default")
        return _one_of([*(i.args["true"] for i in node.args["ifs"]), default or exp.Null()], env, all_null=False)
    if isinstance(node, exp.If):
        return _one_of([node.args["true"], node.args.get("false") or exp.Null()], env, all_null=False)
    if isinstance(node, exp.Nullif):
        return replace(_value(node.this, env), nullable=True, constant=None)
    if isinstance(node, exp.Filter | exp.Window):
        return replace(_value(node.this, env), nullable=True, constant=None)
    if isinstance(node, exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup | exp.Order | exp.Distinct):
        inner = node.this if node.this is not None else next(iter(node.expressions), None)
        return _value(inner, env) if inner is not None else _NOTHING
    if function_name(node) in _CHOOSING:
        argument = node.this if isinstance(node.this, exp.Expr) else next(iter(node.expressions), None)
        is_sure = function_name(node) in ("min", "max", "any_value")
        if argument is None:
            return _NOTHING
        found_value = _value(argument, env)
        return replace(found_value, nullable=found_value.nullable or not is_sure, constant=None)
    if isinstance(node, _HASHES) or function_name(node) in ("md5", "sha1", "sha256", "hash"):
        argument = node.this if isinstance(node.this, exp.Expr) else next(iter(node.expressions), None)
        known = _value(argument, env) if argument is not None else _NOTHING
        return _made_from(known, node.key)
    if isinstance(node, exp.Concat | exp.DPipe | exp.ConcatWs):
        return _joined(node, env)
    return _NOTHING


def _one_of(nodes: list[exp.Expr], env: Env, *, all_null: bool) -> Col:
    known = [(_value(n, env), isinstance(n, exp.Null)) for n in nodes]
    values = [k for k, is_null in known if not is_null]
    domains = {k.domain for k in values}
    nulls = [k.nullable for k in values] + [True for _, is_null in known if is_null]
    nullable = all(nulls) if all_null else any(nulls)
    return Col("", domains.pop() if len(domains) == 1 else None, nullable)


def _made_from(known: Col, how: str) -> Col:
    if known.domain is None or known.domain.startswith(("typed:", "type:")):
        return _NOTHING
    return Col("", f"{how}({known.domain})", known.nullable)


def _joined(node: exp.Expr, env: Env) -> Col:
    """Text put together from a person_id and more: person_ids all have the same length, so it tells people apart."""
    parts = list(_parts(node))
    known = [_value(p, env) for p in parts]
    first = known[0].domain if known else None
    if first is None or first != PERSON:
        return _NOTHING
    skips_null = not isinstance(node, exp.DPipe)
    if skips_null and known[0].nullable:
        return _NOTHING
    return Col("", f"text({PERSON}…)", any(k.nullable for k in known) and not skips_null)


def _parts(node: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(node, exp.DPipe):
        yield from _parts(node.left)
        yield from _parts(node.right)
    elif isinstance(node, exp.Concat):
        yield from node.expressions
    elif isinstance(node, exp.Cast | exp.Paren):
        yield from _parts(node.this)
    else:
        yield node


def function_name(node: exp.Expr) -> str:
    """What DuckDB calls a function; empty for anything else."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    if not isinstance(node, exp.Func) or isinstance(node, exp.Cast | exp.Case | exp.And | exp.Or):
        return ""
    try:
        text = node.sql("duckdb")
    except Exception:  # sqlglot cannot write every function that it reads
        return node.sql_name().lower()
    return text.partition("(")[0].strip().lower()


def is_key(cols: Iterable[Col]) -> bool:
    """Whether values of these columns, taken together, belong to one person and are never null."""
    sure = [c.domain for c in cols if c.domain is not None and not c.nullable]
    plain = [d for d in sure if not d.startswith(("typed:", "type:"))]
    return bool(plain) or any(d.startswith("typed:") and f"type:{d[6:]}" in sure for d in sure)


def has_nullable_key(cols: Iterable[Col]) -> str | None:
    """The name of a column that would be a key if it were never null."""
    wanted = [c for c in cols if c.domain is not None and not c.domain.startswith("type:") and c.nullable]
    return next((c.name for c in wanted), None)


def conjuncts(condition: exp.Expr | None) -> list[exp.Expr]:
    """The conditions that all hold."""
    if condition is None:
        return []
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        return [*conjuncts(condition.left), *conjuncts(condition.right)]
    return [condition]


def narrow_types(conditions: Iterable[exp.Expr], env: Env) -> None:
    """`identifier_type = 'user_id'` makes the value beside it a user_id."""
    for c in conditions:
        if not isinstance(c, exp.EQ):
            continue
        for column, literal in ((c.left.unnest(), c.right.unnest()), (c.right.unnest(), c.left.unnest())):
            if not (isinstance(column, exp.Column) and isinstance(literal, exp.Literal) and literal.is_string):
                continue
            found = env.find(column)
            if found is None or found[0] > 0 or not (found[2].domain or "").startswith("type:"):
                continue
            tag = (found[2].domain or "")[5:]
            for col in env.sources[found[1]].cols or ():
                if col.domain == f"typed:{tag}":
                    env.change(found[1], col.name, domain=literal.this)


def narrow_nulls(conditions: Iterable[exp.Expr], env: Env) -> None:
    """What a condition compares is not null where the condition holds."""
    for c in conditions:
        said: list[exp.Expr] = []
        if isinstance(c, exp.Not) and isinstance(c.this.unnest(), exp.Is):
            said = [c.this.unnest().this] if isinstance(c.this.unnest().expression, exp.Null) else []
        elif isinstance(c, _COMPARISONS):
            said = [c.left, c.right]
        elif isinstance(c, exp.In | exp.Between):
            said = [c.this]
        for node in said:
            node = node.unnest()
            found = env.find(node) if isinstance(node, exp.Column) else None
            if found is not None and found[0] == 0:
                env.change(found[1], found[2].name, nullable=False)
