"""What people decide about people: a split or a merge by hand, looked at before it is done, and kept for ever."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from segue.clock import from_warehouse, to_warehouse
from segue.errors import BadInputError
from segue.identifiers import Normaliser, Rules
from segue.identity.graph import Resolution, resolve, short_hash
from segue.identity.lookup import Person, lookup
from segue.identity.scope import component
from segue.identity.stitch import StitchReport, stitch
from segue.identity.tables import ensure_tables
from segue.warehouse import Connection, has_table

Key = tuple[str, str]

_COLUMNS = (
    "decision_id, decided_at, decided_by, kind, left_type, left_value, right_type, right_value, rule, person_id, note"
)

#: More links than this between two sides of one person are no mistake of a single link.
_MOST_CUTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One link."""

    left_type: str
    left_value: str
    right_type: str
    right_value: str
    rule: str

    @property
    def ends(self) -> tuple[Key, Key]:
        return (self.left_type, self.left_value), (self.right_type, self.right_value)

    def __str__(self) -> str:
        return f"{self.left_type}:{self.left_value} {self.rule} {self.right_type}:{self.right_value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decision, and who would result from it. Nothing is done yet."""

    kind: str  # split, merge
    edges: tuple[Edge, ...]
    before: Mapping[str, tuple[Key, ...]]  # person → identifiers, of those who change
    after: Mapping[str, tuple[Key, ...]]
    keys: tuple[Key, ...]  # identifiers of the components concerned

    def rows(self, *, by: str, note: str, as_of: datetime) -> list[dict[str, Any]]:
        """As in `identity.decisions`."""
        moment = to_warehouse(as_of)
        number = "d_" + short_hash(self.kind, moment.isoformat(), *map(str, self.edges))
        common = {"decision_id": number, "decided_at": moment, "decided_by": by, "kind": self.kind}
        person = ", ".join(self.before)
        return [
            common
            | {
                "left_type": e.left_type, "left_value": e.left_value, "right_type": e.right_type,
                "right_value": e.right_value, "rule": e.rule, "person_id": person, "note": note,
            }
            for e in self.edges
        ]  # fmt: skip


def plan_split(
    con: Connection,
    person: str,
    *,
    as_of: datetime,
    edges: Sequence[str] = (),
    rules: Rules | None = None,
    normaliser: Normaliser | None = None,
) -> Plan:
    """Who would result if these links had never been.

    Args:
        person: a person_id or any identifier.
        edges: as `type:value type:value`, or with the rule between them; none: the last merge of the person is undone.

    Raises:
        BadInputError: when the person is unknown, there is no such link, or nobody would change.
    """
    world = _World(con, [lookup(con, person, normaliser)], as_of, rules or Rules())
    who = world.people[0]
    cut = [edge for text in edges for edge in world.named(text, who)] if edges else world.last_merge(who)
    plan = world.plan("split", cut)
    if not plan.after:
        raise BadInputError(
            f"{who.person_id} stays one person without the link{'s' * (len(cut) > 1)} given: others join it too",
            fix="`segue identity explain A B` shows which; give each with --edge",
        )
    return plan


def plan_merge(
    con: Connection,
    one: str,
    other: str,
    *,
    as_of: datetime,
    rules: Rules | None = None,
    normaliser: Normaliser | None = None,
) -> Plan:
    """Who would result if two people were declared one; no guard stops that.

    Raises:
        BadInputError: when one of them is unknown, or they are one person already.
    """
    people = [lookup(con, name, normaliser) for name in (one, other)]
    if people[0].person_id == people[1].person_id:
        raise BadInputError(f"{one} and {other} are one person already: {people[0].person_id}", fix="nothing to do")
    world = _World(con, people, as_of, rules or Rules())
    left, right = sorted(world.names[p.person_id] for p in people)
    edge = Edge(left_type=left[0], left_value=left[1], right_type=right[0], right_value=right[1], rule="merge")
    return world.plan("merge", [edge])


def carry_out(
    con: Connection, plan: Plan, *, by: str, note: str, as_of: datetime, rules: Rules | None = None
) -> StitchReport:
    """Write the decision down and judge anew whom it concerns. To be called inside a transaction.

    Args:
        as_of: aware; when it was decided, which must not be before the last stitching.
    """
    ensure_tables(con)
    rows = pa.Table.from_pylist(plan.rows(by=by, note=note, as_of=as_of))
    con.register("decided_now", rows)
    con.execute("insert into identity.decisions by name from decided_now")
    con.unregister("decided_now")
    return stitch(con, as_of=as_of, rules=rules)


def read_decisions(con: Connection) -> list[dict[str, Any]]:
    """Rows of `identity.decisions`, oldest first; none when there is no such table."""
    if not has_table(con, "identity", "decisions"):
        return []
    rows = con.execute(f"select {_COLUMNS} from identity.decisions order by decided_at, decision_id").fetchall()
    return [dict(zip(_COLUMNS.split(", "), row, strict=True)) for row in rows]


def stitcher(rules: Rules, decisions: Sequence[Mapping[str, Any]]) -> Callable[[Connection, datetime], StitchReport]:
    """Stitching in a database that has staged events only: what was decided by hand is brought along."""
    rows = pa.Table.from_pylist([dict(row) for row in decisions]) if decisions else None

    def run(con: Connection, as_of: datetime) -> StitchReport:
        ensure_tables(con)
        if rows is not None:
            con.register("decided_before", rows)
            con.execute("delete from identity.decisions")
            con.execute("insert into identity.decisions by name from decided_before")
            con.unregister("decided_before")
        return stitch(con, as_of=as_of, rules=rules)

    return run


def stitcher_of(con: Connection, rules: Rules) -> Callable[[Connection, datetime], StitchReport]:
    """The same, with what was decided by hand until now as the warehouse `con` knows it."""
    return stitcher(rules, read_decisions(con))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One link of a path, from one identifier to the next."""

    edge: Edge
    at: Key  # the identifier that the step leads to
    first_seen_at: datetime  # aware
    message: str  # that showed it first, or the decision
    refused: str  # why it joins nobody; empty: it joins


def explain(
    con: Connection,
    one: str,
    other: str,
    *,
    as_of: datetime,
    rules: Rules | None = None,
    normaliser: Normaliser | None = None,
) -> tuple[Person, Person, Key, tuple[Step, ...]]:
    """The shortest path of links that joins two identifiers: people, where it starts, steps.

    Of two different people it leads over links that were refused; empty when nothing links them at all.

    Raises:
        BadInputError: when one of them is unknown.
    """
    people = [lookup(con, name, normaliser) for name in (one, other)]
    world = _World(con, people, as_of, rules or Rules())
    starts = [world.meant(name, person, normaliser) for name, person in zip((one, other), people, strict=True)]
    steps = world.path(*starts, with_refused=False) or world.path(*starts, with_refused=True)
    return people[0], people[1], starts[0], tuple(steps or ())


class _World:
    """Some components, and what would become of them."""

    def __init__(self, con: Connection, people: Sequence[Person], as_of: datetime, rules: Rules) -> None:
        self.people, self._as_of, self._rules = people, as_of, rules
        keys = [(i.identifier_type, i.identifier_value) for person in people for i in person.identifiers]
        self._identifiers, self._links = component(con, keys, as_of=as_of)
        self.keys = tuple(
            zip(
                self._identifiers["identifier_type"].to_pylist(),
                self._identifiers["identifier_value"].to_pylist(),
                strict=True,
            )
        )
        self._edges = [
            Edge(**{name: row[name] for name in ("left_type", "left_value", "right_type", "right_value", "rule")})
            for row in self._links.to_pylist()
        ]
        self._now = self._resolve(())
        self._who = self._people(self._now)
        firsts = self._identifiers["first_seen_at"].to_pylist()
        age = {key: (first, *key) for key, first in zip(self.keys, firsts, strict=True)}
        self.names = {person: min(members, key=lambda k: age[k]) for person, members in self._groups(self._who).items()}

    def plan(self, kind: str, edges: Sequence[Edge]) -> Plan:
        cut = edges if kind == "split" else ()
        then = self._people(self._resolve(cut, [e for e in edges if e.rule == "merge"] if kind == "merge" else ()))
        before, after = self._groups(self._who), self._groups(then)
        same = {person for person, members in after.items() if before.get(person) == members}
        return Plan(
            kind=kind,
            edges=tuple(edges),
            before={p: m for p, m in before.items() if p not in same},
            after={p: m for p, m in after.items() if p not in same},
            keys=self.keys,
        )

    def named(self, text: str, who: Person) -> list[Edge]:
        """The links that a text means."""
        own = {(i.identifier_type, i.identifier_value) for i in who.identifiers}
        found = [
            edge
            for edge in self._edges
            if set(edge.ends) <= own
            and text in (str(edge), f"{edge.left_type}:{edge.left_value} {edge.right_type}:{edge.right_value}",
                         f"{edge.right_type}:{edge.right_value} {edge.left_type}:{edge.left_value}")
        ]  # fmt: skip
        if not found:
            some = "; ".join(str(edge) for edge in self._edges if set(edge.ends) <= own)
            raise BadInputError(f"{who.person_id} has no link {text!r}", fix=f"its links are: {some or 'none'}")
        return found

    def last_merge(self, who: Person) -> list[Edge]:
        """The links between the two sides of the last merge of a person, and whatever else joins them since."""
        own = {(i.identifier_type, i.identifier_value) for i in who.identifiers}
        rows = [row for row in self._now.merged_by.tolist() if set(self._edges[row].ends) <= own]
        if not rows:
            raise BadInputError(
                f"{who.person_id} was never merged, so there is no merge to undo", fix="give the link with --edge"
            )
        at = [n for n, row in enumerate(self._now.merged_by.tolist()) if row == rows[-1]][-1]
        edge = self._edges[rows[-1]]
        gone = self._now.merged_from[at].as_py()
        seen = self._links["first_seen_at"][rows[-1]].as_py()
        then = self._people(self._resolve((), as_of=from_warehouse(seen) - timedelta(microseconds=1)))
        theirs = {key for key, person in then.items() if person == gone} & own
        name = min(theirs, default=edge.ends[0], key=lambda key: (then[key] != gone, key))
        cut = [e for e in self._edges if (e.ends[0] in theirs) != (e.ends[1] in theirs) and set(e.ends) <= own]
        cut = cut if edge in cut else [edge, *cut]
        # Identifiers that came later may join the sides again.
        start, end = name, self.names[who.person_id]
        if start == end:
            end = next(key for key in edge.ends if key not in theirs)
        while len(cut) < _MOST_CUTS:
            steps = self.path(start, end, with_refused=False, without=cut)
            if not steps:
                break
            cut.append(max(steps, key=lambda step: (step.first_seen_at, str(step.edge))).edge)
        return cut

    def meant(self, name: str, person: Person, normaliser: Normaliser | None) -> Key:
        """The identifier that a text means; of a person_id, the one that it was made from."""
        values = {name, name.partition(":")[2]}
        if normaliser is not None and "@" in name:
            values |= {normaliser.email(value) for value in values}
        own = [(i.identifier_type, i.identifier_value) for i in person.identifiers]
        return next((key for key in own if key[1] in values), self.names[person.person_id])

    def path(self, start: Key, end: Key, *, with_refused: bool, without: Sequence[Edge] = ()) -> list[Step]:
        """The shortest one; the earliest links first where several are as short."""
        found = self._resolve(without) if without else self._now
        refused = dict(zip(found.refused.tolist(), found.reasons, strict=True))
        hops: dict[Key, list[tuple[datetime, int]]] = {}
        seen = self._links["first_seen_at"].to_pylist()
        banned = set(without)
        for row, edge in enumerate(self._edges):
            if edge not in banned and (with_refused or row not in refused):
                for key in edge.ends:
                    hops.setdefault(key, []).append((seen[row], row))
        came: dict[Key, tuple[Key, int]] = {}
        reached, level = {start}, [start]
        while level and end not in reached:
            further = []
            for key in level:
                for _, row in sorted(hops.get(key, ())):
                    ends = self._edges[row].ends
                    next_key = ends[1] if ends[0] == key else ends[0]
                    if next_key not in reached:
                        reached.add(next_key)
                        came[next_key] = (key, row)
                        further.append(next_key)
            level = further
        steps: list[Step] = []
        key = end
        while key in came:
            earlier, row = came[key]
            steps.append(
                Step(
                    edge=self._edges[row],
                    at=key,
                    first_seen_at=from_warehouse(seen[row]),
                    message=self._links["first_message_id"][row].as_py() or "",
                    refused=refused.get(row, ""),
                )
            )
            key = earlier
        return steps[::-1]

    def _resolve(
        self, cut: Sequence[Edge], merged: Sequence[Edge] = (), *, as_of: datetime | None = None
    ) -> Resolution:
        banned = set(cut)
        links = self._links
        flags = [was or edge in banned for was, edge in zip(links["is_cut"].to_pylist(), self._edges, strict=True)]
        links = links.set_column(links.column_names.index("is_cut"), "is_cut", pa.array(flags, pa.bool_()))
        if merged:
            moment = to_warehouse(self._as_of)
            rows = [
                dict.fromkeys(links.column_names)
                | {name: getattr(e, name) for name in ("left_type", "left_value", "right_type", "right_value", "rule")}
                | {"first_seen_at": moment, "is_cut": False, "link_count": 1}
                for e in merged
            ]
            links = pa.concat_tables([links, pa.Table.from_pylist(rows, links.schema)])
        return resolve(self._identifiers, links, rules=self._rules, as_of=as_of or self._as_of)

    def _people(self, found: Resolution) -> dict[Key, str]:
        return dict(zip(self.keys, found.person_ids.to_pylist(), strict=True))

    @staticmethod
    def _groups(people: Mapping[Key, str]) -> dict[str, tuple[Key, ...]]:
        groups: dict[str, list[Key]] = {}
        for key, person in sorted(people.items()):
            groups.setdefault(person, []).append(key)
        return {person: tuple(keys) for person, keys in groups.items()}
