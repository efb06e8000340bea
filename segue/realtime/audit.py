"""Does the serving store say what the models say, when they are run for everyone as of the same moment?

The moment is the store's: its position in the log, and its clock. The models are evaluated as the warehouse evaluates
a time of the past: all people, identity from nothing, in a database in memory. None of the engine's code is in it.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from segue.clock import to_warehouse
from segue.identity import stitcher_of
from segue.log import open_log
from segue.models import Evaluator, Project
from segue.models.check import empty_lake
from segue.models.project import quote
from segue.realtime.known import Known, events_of, known_messages
from segue.realtime.start import LineJudge, digest
from segue.segments import Segment, definitions, ensure_tables, record
from segue.settings import Settings
from segue.store import EVERYBODY, Snapshot, open_store, take_snapshot
from segue.warehouse import Connection, Warehouse

log = logging.getLogger(__name__)

Cause = Literal["not_landed", "definition", "merge", "population", "time", "unknown"]

#: What each cause means, for people.
CAUSES: Mapping[Cause, str] = {
    "not_landed": "the warehouse and the engine do not have the same messages yet; nothing is wrong",
    "definition": "the engine evaluates another definition than the one that is published",
    "merge": "two ids are one person on one side only",
    "population": "the value of a population model that the engine holds is not that of the warehouse",
    "time": "a change that comes with time alone and that the sweep has not come to yet",
    "unknown": "no cause is known",
}

#: Causes that are no fault: they pass by themselves, within a stated time.
EXPECTED: Collection[Cause] = ("not_landed", "time")

_POLL_SECONDS = 0.5

Members = Mapping[str, tuple[str, ...]]  # person → segments, by name
Pair = tuple[str, str]  # person, segment
#: Of some ids, those that the store knows to be merged away → into which.
MergedAmong = Callable[[Sequence[str]], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipDifference:
    """A membership that only one of the two has."""

    person_id: str
    segment: str
    is_served: bool  # the store has it, and the models do not; else the other way round
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was compared, and what differed."""

    postponed: str = ""  # why nothing was compared
    as_of: datetime | None = None
    position: str = ""
    segments: tuple[str, ...] = ()
    not_compared: Mapping[str, str] = field(default_factory=dict)  # segment → why
    membership_count: int = 0  # in the store
    in_warehouse: int = 0  # messages of raw.events that count
    not_landed: int = 0  # messages that the store has, and the warehouse does not have yet
    not_read: int = 0  # messages that came after the store's position
    differences: tuple[MembershipDifference, ...] = ()
    repaired: int = 0  # faults that are gone after the engine looked again

    @property
    def faults(self) -> tuple[MembershipDifference, ...]:
        """Differences that should not be."""
        return tuple(d for d in self.differences if d.cause not in EXPECTED)

    @property
    def left(self) -> int:
        """Faults that are still there."""
        return len(self.faults) - self.repaired


def audit(settings: Settings, project: Project, judge: LineJudge) -> AuditReport:
    """Compare once; changes nothing.

    Args:
        project: as published now.
        judge: lines of JSON → accepted messages as rows of `raw.events`.
    """
    store, event_log, warehouse = open_store(settings), open_log(settings), Warehouse(settings)
    snapshot = take_snapshot(settings)
    why_not = _why_not(snapshot)
    if why_not:
        return AuditReport(postponed=why_not)
    as_of = _clock(snapshot)
    segments, not_compared = _comparable(project, snapshot)
    names = frozenset(s.name for s in segments)
    served = {p: kept for p, own in snapshot.people.items() if (kept := tuple(s for s in own if s in names))}
    with warehouse.read() as con:
        known = known_messages(
            con,
            settings,
            event_log,
            judge,
            position=snapshot.position,
            load_id=int(snapshot.engine.get("load_id", -1)),
        )
        in_warehouse, not_landed = known.counts(con)
        report = AuditReport(
            as_of=as_of,
            position=snapshot.position,
            segments=tuple(sorted(names)),
            not_compared=not_compared,
            membership_count=sum(map(len, served.values())),
            in_warehouse=in_warehouse,
            not_landed=not_landed,
            not_read=len(known.left_out),
        )
        comparison = _Comparison(settings, project, con, segments, names, as_of, known)
        with comparison.evaluator(known.query(con)) as evaluator:
            right = comparison.at(evaluator, as_of)
            wrong = _pairs(served) ^ _pairs(right.members)
            found = comparison.explain(wrong, served, right, snapshot, store.merged_among, evaluator)
        if not known.is_all_landed:
            with comparison.evaluator(f"select * from {events_of(con)}") as evaluator:
                landed = comparison.at(evaluator, as_of).members
            behind = (_pairs(served) ^ _pairs(landed)) - wrong
            found |= dict.fromkeys(behind, "not_landed")
    pairs = _pairs(served)
    differences = [
        MembershipDifference(person_id=person, segment=segment, is_served=(person, segment) in pairs, cause=cause)
        for (person, segment), cause in sorted(found.items())
    ]
    return replace(report, differences=tuple(differences))


def audit_and_repair(
    settings: Settings, project: Project, judge: LineJudge, *, wait_seconds: float = 60.0
) -> AuditReport:
    """Compare, have the engine look again at whom it is wrong about, and compare again.

    What is still wrong then has the engine load everything anew. The engine tells what it corrects as transitions of
    the cause `audit`.

    Args:
        wait_seconds: how long to wait for the engine each time.
    """
    first = audit(settings, project, judge)
    if not first.faults:
        return first
    store = open_store(settings)
    wanted = {(d.person_id, d.segment) for d in first.faults}
    left = wanted
    for people in (sorted({person for person, _ in wanted}), [EVERYBODY]):
        log.warning("%s differences; the engine is asked to look again", f"{len(left):,}")
        store.requests.ask(people)
        if not _is_answered(settings, wait_seconds):
            break
        again = audit(settings, project, judge)
        if again.postponed:
            break
        left = wanted & {(d.person_id, d.segment) for d in again.faults}
        if not left:
            break
    return replace(first, repaired=len(wanted) - len(left))


def _is_answered(settings: Settings, wait_seconds: float) -> bool:
    """Whether the engine has done what it was asked, and everybody is evaluated, in time."""
    store = open_store(settings)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        # In this order: whoever takes a request off has said before that a pass begins.
        if store.requests.count() == 0 and not store.status().engine.get("to_evaluate"):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _why_not(snapshot: Snapshot) -> str:
    if snapshot.as_of is None:
        return "real time has evaluated nobody yet"
    left = int(snapshot.engine.get("to_evaluate", 0))
    return f"the engine is evaluating everybody; {left:,} are left" if left else ""


def _clock(snapshot: Snapshot) -> datetime:
    assert snapshot.as_of is not None
    said = snapshot.engine.get("as_of")
    return max(snapshot.as_of, datetime.fromisoformat(said)) if said else snapshot.as_of


def _comparable(project: Project, snapshot: Snapshot) -> tuple[list[Segment], dict[str, str]]:
    """Segments that are served, with the rivals in their groups; and those that the engine says it leaves out."""
    known = definitions(project)
    evaluated = snapshot.engine.get("definitions", {})
    left_out = {name: str(why) for name, why in snapshot.engine.get("left_out", {}).items()}
    left_out |= {
        broken.name: f"{broken.reason} The engine keeps its last good definition." for broken in project.broken
    }
    left_out |= {name: error.message for name, error in known.errors.items()}
    served = [s for s in known.segments if s.realtime and s.name not in left_out]
    gone = [Segment(name=name, definition_hash="gone") for name in evaluated if name not in known.by_name]
    return [*served, *(s for s in gone if s.name not in left_out)], left_out


@dataclass(frozen=True, slots=True)
class _Right:
    members: Members
    people: frozenset[str]
    merged: Mapping[str, str]


class _Comparison:
    """What the models say of the segments that are compared."""

    def __init__(
        self,
        settings: Settings,
        project: Project,
        con: Connection,
        segments: Sequence[Segment],
        names: frozenset[str],
        as_of: datetime,
        known: Known,
    ) -> None:
        self._settings, self._con, self._as_of, self._known = settings, con, as_of, known
        self._project, self._names, self._segments = _with_held(project), names, segments
        groups = {s.exclusive_group for s in segments if s.exclusive_group is not None}
        # Who is in one segment of a group depends on the others, served or not.
        self._evaluated = [s for s in definitions(project).segments if s.name in names or s.exclusive_group in groups]

    def evaluator(self, events: str) -> Evaluator:
        """Events in, segments out."""
        return Evaluator(
            self._project,
            self._con,
            until=self._as_of,
            stitch=stitcher_of(self._con, self._project.rules),
            targets=[s.name for s in self._evaluated],
            events=events,
            model_seconds=self._settings.model_seconds,
        )

    def at(self, evaluator: Evaluator, as_of: datetime) -> _Right:
        """What is right at a time, groups resolved as the history of segments resolves them."""
        found = evaluator.at(as_of)
        segments = [s for s in self._evaluated if s.name in found.built]
        union = " union all ".join(
            f"select person_id::varchar as person_id, '{s.name.replace(chr(39), chr(39) * 2)}' as segment"
            f" from segments.{quote(s.name)}"
            for s in segments
        )
        members: dict[str, list[str]] = {}
        with _ledger() as con:
            if segments:
                con.register("members_now", found.con.execute(union).to_arrow_table())
                record(con, as_of=as_of, segments=segments, members="from members_now")
            for person, segment in con.execute(
                "select person_id, segment from segments.memberships where exited_at is null"
            ).fetchall():
                if segment in self._names:
                    members.setdefault(person, []).append(segment)
        people = found.con.execute("select distinct person_id from identity.identifiers").fetchall()
        merged = dict(found.con.execute("select alias_id, person_id from identity.aliases").fetchall())
        return _Right({p: tuple(sorted(s)) for p, s in members.items()}, frozenset(p for (p,) in people), merged)

    def explain(
        self,
        wrong: Collection[Pair],
        served: Members,
        right: _Right,
        snapshot: Snapshot,
        merged_among: MergedAmong,
        evaluator: Evaluator,
    ) -> dict[Pair, Cause]:
        """The cause of each difference: the first that there is proof of."""
        if not wrong:
            return {}
        found: dict[Pair, Cause] = {}
        pairs = _pairs(served)
        others = self._other_definitions(snapshot)
        merged = self._merged(wrong, served, right, merged_among)
        stale = self._stale(snapshot)
        unlike = [pair for pair in wrong if pair[1] not in others and pair[0] not in merged and pair[1] not in stale]
        agrees_widely = self._agreeing(unlike, pairs, self._widest()) if unlike and self._has_more() else frozenset()
        earlier = self._as_of - timedelta(seconds=self._settings.sweep_seconds)
        # Whoever sent something since then was evaluated because of that.
        recent = self._heard_of(evaluator, earlier) if unlike else ()
        quiet = [pair for pair in unlike if pair[0] not in recent]
        agrees_before = self._agreeing(quiet, pairs, _pairs(self.at(evaluator, earlier).members)) if quiet else ()
        for pair in wrong:
            person, segment = pair
            if segment in others:
                found[pair] = "definition"
            elif person in merged:
                found[pair] = "merge"
            elif segment in stale:
                found[pair] = "population"
            elif pair in agrees_widely:
                found[pair] = "not_landed"
            elif pair in agrees_before:
                found[pair] = "time"
            else:
                found[pair] = "unknown"
        return found

    def _heard_of(self, evaluator: Evaluator, since: datetime) -> frozenset[str]:
        """People of whom a message was received after a time."""
        rows = evaluator.at(self._as_of).con.execute(
            " union ".join(
                "select i.person_id from raw.events e join identity.identifiers i"
                f" on i.identifier_type = '{kind}' and i.identifier_value = trim(e.{kind})"
                " where e.received_at > $1::timestamp"
                for kind in ("user_id", "anonymous_id")
            ),
            [to_warehouse(since)],
        )
        return frozenset(person for (person,) in rows.fetchall())

    def _has_more(self) -> bool:
        row = self._con.execute(f"select coalesce(max(load_id), -1) from {events_of(self._con)}").fetchone()
        return bool(self._known.later.num_rows) or (row is not None and int(row[0]) > self._known.load_id)

    def _widest(self) -> frozenset[Pair]:
        with self.evaluator(self._known.widest(self._con)) as evaluator:
            return _pairs(self.at(evaluator, self._as_of).members)

    @staticmethod
    def _agreeing(of: Collection[Pair], served: frozenset[Pair], said: frozenset[Pair]) -> frozenset[Pair]:
        return frozenset(pair for pair in of if (pair in served) == (pair in said))

    def _other_definitions(self, snapshot: Snapshot) -> frozenset[str]:
        evaluated = snapshot.engine.get("definitions", {})
        return frozenset(s.name for s in self._segments if evaluated.get(s.name) != s.definition_hash)

    @staticmethod
    def _merged(wrong: Collection[Pair], served: Members, right: _Right, merged_among: MergedAmong) -> frozenset[str]:
        """People who are somebody else on the other side."""
        gone = [person for person in {p for p, _ in wrong} if person in served and person not in right.people]
        into = {right.merged[person] for person in gone if person in right.merged}
        missing = [person for person in {p for p, _ in wrong} if person not in served]
        became = merged_among(missing)
        return frozenset((*(p for p in gone if p in right.merged), *into, *became, *became.values()))

    def _stale(self, snapshot: Snapshot) -> frozenset[str]:
        """Segments made from a value that the warehouse has another of."""
        held: Mapping[str, str] = snapshot.engine.get("held", {})
        old = {relation for relation, known in held.items() if digest(self._con, relation) != known}
        return frozenset(
            s.name for s in self._segments if any(old.intersection(m.sources) for m in self._project.upstream([s.name]))
        )


def _with_held(project: Project) -> Project:
    """The project with its population models as tables that are read: real time holds them at the warehouse's value."""
    held = {m.name: m.relation for m in project.models if m.is_population}
    if not held:
        return project
    models = [
        replace(
            model,
            depends_on=tuple(name for name in model.depends_on if name not in held),
            sources=(*model.sources, *(held[name] for name in model.depends_on if name in held)),
        )
        for model in project.models
        if model.name not in held
    ]
    return replace(project, models=tuple(models))


@contextmanager
def _ledger() -> Iterator[Connection]:
    con = empty_lake()
    try:
        ensure_tables(con)
        yield con
    finally:
        con.close()


def _pairs(members: Members) -> frozenset[Pair]:
    return frozenset((person, segment) for person, own in members.items() for segment in own)
