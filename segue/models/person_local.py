"""Which models can be evaluated for some people alone, as real time does, and which look at everyone."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from segue.models.bound import PERSON, Col, Rel
from segue.models.check import line_in_file
from segue.models.locality import Follower, Mixes
from segue.models.project import RAW, SEGMENT_SCHEMA, BrokenModel, Model, Project
from segue.models.tables import TABLES

IDENTIFIERS = "identity.identifiers"

#: Columns of cleaned events by which identity ties messages to one another.
_EVENT_KEYS = ("message_id", "user_id", "anonymous_id", "device_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a model, and what is made from it, cannot be evaluated person by person."""

    model: str  # where the expression stands
    path: str  # of that model, relative to the project
    line: int | None  # in that file, from 1
    expression: str  # as compiled, on one line
    reason: str  # one sentence, with the place
    fix: str


def person_local(project: Project) -> Mapping[str, Refusal]:
    """Models on the way from events to segments of real time whose SQL looks at more than one person.

    A model of `meta: segue: scope: population`, and any table that dbt does not build, is taken as it stands in the
    warehouse: it may be read freely, and is not looked into. Of a model that is refused, its readers are not: they
    are in `warehouse_only`.

    Returns:
        Model name → why. Empty when everything can be evaluated person by person.
    """
    return _Walk(project).refused


def warehouse_only(project: Project) -> Mapping[str, Refusal]:
    """Segments of real time that only the warehouse can evaluate, by name → what stands in the way."""
    return _Walk(project).segments


def broken_promises(project: Project) -> tuple[BrokenModel, ...]:
    """Segments whose YAML says `realtime: true` and whose SQL cannot be evaluated person by person."""
    return tuple(
        BrokenModel(
            name=name,
            path=project.by_name[name].path,
            reason=f"{project.by_name[name].path}: it asks for real time, but {refusal.reason}",
            fix=f"{refusal.fix}; or write `realtime: false`, and the warehouse alone keeps it",
        )
        for name, refusal in warehouse_only(project).items()
        if asks_for_real_time(project.by_name[name])
    )


def asks_for_real_time(model: Model) -> bool | None:
    """What a segment's YAML says: true, false, or None when it says nothing."""
    said = model.meta.get("segue")
    found = said.get("realtime") if isinstance(said, Mapping) else None
    return found if isinstance(found, bool) else None


class _Doomed(Exception):
    """A model reads one that is refused."""

    def __init__(self, culprit: Refusal) -> None:
        super().__init__(culprit.reason)
        self.culprit = culprit


class _Walk:
    def __init__(self, project: Project) -> None:
        self._project = project
        self._by_relation = {model.relation: model for model in project.models}
        self._per_event = frozenset(m.name for m in project.models if m.is_per_event)
        self._known: dict[str, Rel] = {}
        self.refused: dict[str, Refusal] = {}
        self.segments: dict[str, Refusal] = {}
        self._culprits: dict[str, Refusal] = {}  # relation → what is wrong with it or upstream of it
        self._reading: list[set[str]] = []
        for segment in project.segments:
            if asks_for_real_time(segment) is not False:
                self._lookup(segment.relation)
                culprit = self._culprits.get(segment.relation)
                if culprit is not None:
                    self.segments[segment.name] = culprit

    def _lookup(self, relation: str) -> Rel:
        if self._reading:
            self._reading[-1].add(relation)
        if relation not in self._known:
            model = self._by_relation.get(relation)
            if model is not None and not model.is_population:
                self._known[relation] = self._follow(model)
            else:
                self._known[relation] = self._source(relation, model)
        if self._reading and relation in self._culprits:
            raise _Doomed(self._culprits[relation])
        return self._known[relation]

    def _source(self, relation: str, model: Model | None) -> Rel:
        columns = {**self._project.source_columns.get(relation, {}), **TABLES.get(relation, {})}
        names = list(columns) if model is None and columns else None
        if relation == RAW:
            return Rel(tuple(Col(n, n if n == "message_id" else None, n != "message_id") for n in names or ()), True)
        if relation == IDENTIFIERS:
            keys = {"identifier_type": "type:identifier", "identifier_value": "typed:identifier", PERSON: PERSON}
            return Rel(tuple(Col(n, keys.get(n), n not in keys) for n in names or ()), True)
        return Rel(tuple(Col(n) for n in names) if names is not None else None, False)

    def _follow(self, model: Model) -> Rel:
        nothing = Rel(None, False)
        self._reading.append(set())
        try:
            query = sqlglot.parse_one(model.compiled_sql, dialect="duckdb")
            found = Follower(self._lookup).query(query)
            read = self._reading[-1]
            if RAW in read and self._per_event and model.name not in self._per_event:
                table = next(t for t in query.find_all(exp.Table) if f"{t.db}.{t.name}" == RAW)
                cleaned = " or ".join(sorted(self._per_event))
                raise Mixes(table, "is read as it arrived, which real time does not keep", f"read {cleaned} instead")
            if model.schema == SEGMENT_SCHEMA:
                _check_members(query, found)
        except _Doomed as doomed:
            self._culprits[model.relation] = doomed.culprit
            return nothing
        except Mixes as mixes:
            return self._refuse(model, mixes.node, mixes.reason, mixes.fix, nothing)
        except (SqlglotError, RecursionError) as error:
            reason = f"cannot be followed ({str(error).splitlines()[0]})"
            return self._refuse(model, None, reason, "write it in plainer SQL, or `realtime: false`", nothing)
        finally:
            self._reading.pop()
        if RAW in read and found.cols is not None:
            # By these, identity ties messages together: whatever is in them is a key.
            cols = tuple(
                Col(c.name, c.name, c.name != "message_id") if c.name in _EVENT_KEYS else c for c in found.cols
            )
            return Rel(cols, True)
        return found

    def _refuse(self, model: Model, node: exp.Expr | None, reason: str, fix: str, answer: Rel) -> Rel:
        expression = "" if node is None else " ".join(_text(node).split())
        short = expression if len(expression) <= 120 else expression[:117] + "…"
        line = self._line(model, node)
        where = model.path if line is None else f"{model.path}, line {line}"
        refusal = Refusal(
            model=model.name,
            path=model.path,
            line=line,
            expression=expression,
            reason=f"{where}: `{short}` {reason}." if short else f"{where}: it {reason}.",
            fix=fix,
        )
        self.refused[model.name] = refusal
        self._culprits[model.relation] = refusal
        return answer

    def _line(self, model: Model, node: exp.Expr | None) -> int | None:
        numbers = [n.meta["line"] for n in node.walk() if "line" in n.meta] if node is not None else []
        path = self._project.project_dir / model.path
        if not numbers or not path.is_file():
            return None
        compiled = [line.strip() for line in model.compiled_sql.splitlines()]
        raw = [line.strip() for line in path.read_text(errors="replace").splitlines()]
        return line_in_file(compiled, min(numbers) - 1, raw)


def _check_members(query: exp.Expr, found: Rel) -> None:
    if not found.is_personal:
        raise Mixes(
            query,
            "lists people from tables of the warehouse alone, whatever they do",
            "select from person_features and join the list to it by person_id, or write `realtime: false`",
        )
    member = next((c for c in found.cols or () if c.name == PERSON), None)
    if member is not None and member.domain != PERSON:
        raise Mixes(query, "does not answer with the person_id of the rows that it read", "select their own person_id")


def _text(node: exp.Expr) -> str:
    if isinstance(node, exp.Select | exp.SetOperation):
        node = node.copy()
        node.set("with_", None)
    return node.sql("duckdb")
