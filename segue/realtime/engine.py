"""The evaluation itself, with no input or output: events and times in, changes of memberships out."""

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from segue.clock import from_warehouse, to_warehouse
from segue.models import Project
from segue.realtime.ahead import Ahead, Question
from segue.realtime.changes import Stay
from segue.realtime.facts import Facts
from segue.realtime.features import Features
from segue.realtime.people import from_micros, micros
from segue.realtime.rules import SegmentRules
from segue.realtime.staging import Staging
from segue.realtime.stays import NOBODIES, Stays
from segue.realtime.verdicts import Held, Verdict, Verdicts
from segue.store import PersonState, Update

log = logging.getLogger(__name__)

#: A component with more rows is evaluated apart from the others that a batch touches, so that it holds up nobody.
BIG = 5_000

#: People that one look ahead is about: fewer cost more each.
LOOK_PEOPLE = 1_000

#: Rows that are evaluated together when everybody is.
ROWS_PER_PIECE = 150_000


def _nothing_held(_relation: str) -> None:
    return None


Evaluated = dict[int, dict[str, tuple[tuple[str, ...], str | None]]]


@dataclass(frozen=True, slots=True)
class Look:
    """A question about the future, with all that is needed to answer it."""

    question: Question
    verdicts: Verdicts
    rules: SegmentRules  # that the bits of the answer stand for
    rows: pa.Table
    identifiers: pa.Table
    moment: datetime

    def run(self) -> pa.Table | None:
        """The answer; None when some rule fails on somebody's data."""
        return self.verdicts.ask_bare(self.rows, self.identifiers, self.moment)


class Engine:
    """The people of one project, and what their segments are.

    Not for several threads. Every time passed is aware, and never before one that was passed earlier.

    Args:
        project: as published.
        held: where population models and foreign sources are read.
        refused: models that look at everyone → why; segments made from them are left out.
        horizon_seconds: how far to look ahead; also the bound on how late a change without an event can be.
    """

    def __init__(
        self,
        project: Project,
        *,
        held: Held | None = None,
        refused: Mapping[str, str] | None = None,
        horizon_seconds: int = 300,
    ) -> None:
        self.project = project
        staging = Staging(project)
        self._verdicts = Verdicts(project, staging, held or _nothing_held, dict(refused or {}))
        self.facts = Facts(project, staging, self._verdicts.columns, needs_sightings=self._verdicts.reads_sightings)
        self._people = self.facts.people
        self._ahead = Ahead(horizon_seconds)
        self._stays = Stays(self._people)
        self._dirty: set[int] = set()  # collected: identifiers to resolve, components touched
        self._touched: dict[int, None] = {}
        self._pass: deque[int] | None = None
        self._pass_cause, self._pass_all = "load", True
        self._big: dict[int, str] = {}  # components that wait to be evaluated apart → cause
        self.as_of = datetime(1970, 1, 1, tzinfo=UTC)
        self.caught_by_sweep = 0
        self.evaluated_count = 0

    # What is known to begin with.

    def load(
        self,
        staged: pa.Table,
        hashes: pa.Array,
        as_of: datetime,
        *,
        decisions: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """Take a history, as `Facts.load`, without evaluating it. To be called first, once."""
        self._advance(as_of)
        self.facts.load(staged, hashes, as_of, decisions=decisions)

    def restore(self, stays: Iterable[tuple[str, Mapping[str, datetime]]]) -> None:
        """Take over what the store says of people: person_id, segment → entered_at. To be called after `load`."""
        self._stays.take_over(stays)

    def correct(self, stored: Mapping[str, Mapping[str, datetime] | None], as_of: datetime) -> Update:
        """Look again at people about whom the store may be wrong, whoever wrote what it says.

        Args:
            stored: person_id → segment → entered_at, as the store has it; None: nobody has the id.
        """
        self._advance(as_of)
        roots = [root for root in self._stays.take_over(stored.items()) if root != NOBODIES]
        return self._evaluate(roots, as_of, cause="audit", big_too=True, and_nobodies=True)

    def start_pass(self, cause: str, *, all_people: bool = True, in_store: Iterable[str] = ()) -> None:
        """Have everybody evaluated, by `pass_step`; replaces a pass that was not finished.

        Args:
            cause: of the transitions: load, definition, time.
            all_people: also update people whose segments stayed as they were, for their features.
            in_store: of a load, people that the store has already: what changes for them is told as any change.
        """
        self._pass = deque(self._people.roots())
        self._pass_cause, self._pass_all = cause, all_people
        self._stays.first_fill(in_store if cause == "load" else None)

    def pass_step(self, as_of: datetime, *, rows: int = ROWS_PER_PIECE, has_caught_up: bool = True) -> Update | None:
        """The next piece of the pass, of about so many rows; None when there is none. Batches may come in between.

        Args:
            has_caught_up: whether all has come that the store may know of already. Until then the pass does not end,
                which is when those leave whose id is nobody's.
        """
        if self._pass is None or not (self._pass or has_caught_up):
            return None
        self._advance(as_of)
        piece: dict[int, None] = {}
        budget = rows
        while self._pass and budget > 0:
            root = self._people.root(self._pass.popleft())
            if root not in piece:
                piece[root] = None
                budget -= self.facts.history.count(root) + 10
        is_over = not self._pass and has_caught_up
        if is_over:
            self._pass = None
        update = self._evaluate(
            list(piece), as_of,
            cause=self._pass_cause, all_people=self._pass_all, big_too=True, and_nobodies=is_over,
        )  # fmt: skip
        if is_over:
            self._stays.first_fill(None)
        return update

    @property
    def pass_left(self) -> int:
        """Components that the pass has not come to yet."""
        return len(self._pass or ())

    @property
    def is_passing(self) -> bool:
        """Whether a pass over everybody is not finished."""
        return self._pass is not None

    # What arrives.

    def batch(self, raw: pa.Table, as_of: datetime) -> Update:
        """Take messages, and evaluate whom they concern.

        Args:
            raw: rows as in `raw.events`, judged. Those that are known by `message_id` already are passed over; those
                received after `as_of` wait.
        """
        self._advance(as_of)
        return self._take([raw] if raw.num_rows else [], as_of)

    def collect(self, raw: pa.Table, as_of: datetime) -> None:
        """Take messages, and leave whom they concern to `settle`: a long backlog is evaluated once, not each time."""
        self._advance(as_of)
        dirty, touched = self._add([raw, *self.facts.arrived(as_of)], as_of)
        self._dirty |= dirty
        self._touched |= touched

    def settle(self, as_of: datetime, *, rows: int = ROWS_PER_PIECE) -> Iterator[tuple[Update, bool]]:
        """Evaluate whom collected messages concern: updates of about so many rows, and whether it is the last.

        Each is to be applied before the next is asked for. There is at least one.
        """
        self._advance(as_of)
        (dirty, self._dirty), (touched, self._touched) = (self._dirty, set()), (self._touched, {})
        news = self._people.resolve(dirty, as_of) if dirty else []
        roots = list(dict.fromkeys(self._people.root(n) for n in (*touched, *dirty)))
        piece: list[int] = []
        budget = rows
        for root in roots:
            if budget <= 0:
                yield self._evaluate(piece, as_of, cause="event"), False
                piece, budget = [], rows
            piece.append(root)
            budget -= min(self.facts.history.count(root), BIG) + 10
        yield self._evaluate(piece, as_of, cause="event", merges=news), True

    def absorb(self, raw: pa.Table, as_of: datetime) -> None:
        """Take messages whose effect the store has already; nobody is evaluated. To be called before `restore`."""
        self._advance(as_of)
        dirty, _ = self._add([raw], as_of)
        self._people.resolve(dirty, as_of)

    def decide(self, decisions: Sequence[Mapping[str, object]], as_of: datetime) -> Update:
        """Take over what was decided by hand, all rows of `identity.decisions`, and evaluate whom it concerns."""
        self._advance(as_of)
        changed = self._people.decide(decisions)
        self._follow_joins()
        return self._take([], as_of, unsure=changed)

    def due(self, as_of: datetime) -> Update | None:
        """Evaluate those whose time has come; None when there are none."""
        self._advance(as_of)
        nodes = self._people.due(as_of)
        arrived = self.facts.arrived(as_of)
        timed = self._ahead.due(micros(to_warehouse(as_of)))
        late = self._ahead.overdue(micros(to_warehouse(as_of)), 200)
        if arrived:
            return self._take(arrived, as_of, also=(*timed, *late), unsure=nodes)
        if not nodes and not timed and not late:
            return None
        news = self._people.resolve(nodes, as_of)
        roots = list(dict.fromkeys((*(self._people.root(n) for n in nodes), *timed, *late)))
        # Whoever has waited for an identity is another person than the one that was looked at.
        update = self._evaluate(roots, as_of, cause="time", merges=news, all_people=False, is_foreseen=not nodes)
        if late:
            among = set(self._stays.people_in(late))
            self.caught_by_sweep += sum(t.person_id in among for t in update.transitions)
        return update

    def big(self, as_of: datetime) -> Update | None:
        """Evaluate one of those with very many events; None when none waits."""
        if not self._big:
            return None
        self._advance(as_of)
        root, cause = next(iter(self._big.items()))
        return self._evaluate([root], as_of, cause=cause, big_too=True)

    def look_ahead(self, as_of: datetime, *, limit: int = LOOK_PEOPLE) -> bool:
        """One step of finding out who will change with nothing arriving. False: nothing to do at present."""
        look = self.begin_look(as_of, limit=limit)
        if look is not None:
            self.end_look(look, look.run())
        return look is not None

    def begin_look(self, as_of: datetime, *, limit: int) -> Look | None:
        """The same in two steps, so that batches go on meanwhile: `run` of what this returns may be called by another
        thread, and its answer is for `end_look`. One at a time; None: nothing to do at present."""
        question = self._ahead.question(micros(to_warehouse(as_of)), limit)
        if question is None:
            return None
        moment = from_warehouse(from_micros(question.moment))
        rows, identifiers = self.facts.of(question.components, moment)
        return Look(question, self._verdicts, self.rules, rows, identifiers, moment)

    def end_look(self, look: Look, answer: pa.Table | None) -> None:
        """Take what `run` said."""
        if look.rules is not self.rules:
            return  # new definitions, or a rule that failed meanwhile and is left out: they are asked about again
        components = look.question.components
        if answer is None:
            answer = self._verdicts.without_failing(look.rows, look.identifiers, look.moment)
        said = self._by_component(components, self._verdicts.read(answer))
        then = {root: {p: names for p, (names, _) in people.items() if names} for root, people in said.items()}
        self.evaluated_count += len(components)
        self._ahead.answer(look.question, then, self._stays.states(components))

    @property
    def next_due(self) -> datetime | None:
        """When `due` has something to do next, as far as is known."""
        timer = self._ahead.next_due()
        moments = (self.facts.next_at, None if timer is None else from_warehouse(from_micros(timer)))
        return min((m for m in moments if m is not None), default=None)

    @property
    def next_look(self) -> datetime | None:
        """When `look_ahead` has something to do next; None: never, as things are."""
        moment = self._ahead.next_look()
        return None if moment is None else from_warehouse(from_micros(moment))

    @property
    def backlog(self) -> int:
        """Components that wait for an evaluation apart or for a look ahead."""
        return len(self._big) + self._ahead.waiting_count

    @property
    def has_big(self) -> bool:
        """Whether somebody with very many events waits."""
        return bool(self._big)

    @property
    def person_count(self) -> int:
        """People whose state is known."""
        return len(self._stays)

    @property
    def timer_count(self) -> int:
        """Components that are known to change within the horizon."""
        return self._ahead.timer_count

    def memberships(self) -> dict[str, tuple[str, ...]]:
        """person_id → segments, of everybody who is in one."""
        return self._stays.memberships()

    # New definitions.

    def redefine(self, project: Project, *, held: Held, refused: Mapping[str, str] | None = None) -> bool:
        """Take a new project over; afterwards `start_pass` is to be called.

        Returns:
            False when the history here does not have what the new models need, so that it must be loaded anew.
            Nothing has changed then.

        Raises:
            DefinitionError: when the new models cannot be put together. Nothing has changed then either.
        """
        staging = Staging(project)
        verdicts = Verdicts(project, staging, held, dict(refused or {}))
        if not self.facts.suffice(project, staging, verdicts.columns, needs_sightings=verdicts.reads_sightings):
            return False
        self.project, self._verdicts = project, verdicts
        return True

    @property
    def rules(self) -> SegmentRules:
        """Which segments are evaluated, and why others are not."""
        return self._verdicts.rules

    # Inside.

    def _advance(self, as_of: datetime) -> None:
        if as_of < self.as_of:
            raise ValueError(f"the clock went back from {self.as_of} to {as_of}")
        self.as_of = as_of

    def _take(
        self, tables: Sequence[pa.Table], as_of: datetime, *, also: Sequence[int] = (), unsure: Collection[int] = ()
    ) -> Update:
        dirty, touched = self._add([*tables, *self.facts.arrived(as_of)], as_of)
        dirty.update(unsure)
        news = self._people.resolve(dirty, as_of) if dirty else []
        roots = list(dict.fromkeys(self._people.root(n) for n in (*touched, *dirty, *also)))
        return self._evaluate(roots, as_of, cause="event", merges=news)

    def _add(self, tables: Sequence[pa.Table], as_of: datetime) -> tuple[set[int], dict[int, None]]:
        """Identifiers of components to resolve, and components touched."""
        dirty, touched = self.facts.add(tables, as_of)
        self._follow_joins()
        return dirty, touched

    def _follow_joins(self) -> None:
        for into, gone in self.facts.joins():
            self._ahead.join(gone)
            self._stays.join(into, gone)
            cause = self._big.pop(gone, None)
            if cause is not None:
                self._wait_apart(into, cause)

    def _wait_apart(self, root: int, cause: str) -> None:
        if cause == "event" or root not in self._big:
            self._big[root] = cause

    def _answers(self, roots: Collection[int], as_of: datetime) -> Evaluated:
        """What the SQL says of the people of these components."""
        rows, identifiers = self.facts.of(roots, as_of)
        self.evaluated_count += len(roots)
        return self._by_component(roots, self._verdicts.ask(rows, identifiers, as_of))

    def _by_component(self, roots: Collection[int], said: Iterable[Verdict]) -> Evaluated:
        person_root = {person: root for root in roots for person in self._people.people_of(root)}
        found: Evaluated = {root: {} for root in roots}
        for person, names, features in said:
            root = person_root.get(person)
            if root is not None:
                found[root][person] = (names, features)
        return found

    def _evaluate(
        self,
        roots: Sequence[int],
        as_of: datetime,
        *,
        cause: str,
        merges: Sequence[tuple[str, str]] = (),
        all_people: bool = True,
        big_too: bool = False,
        and_nobodies: bool = False,
        is_foreseen: bool = False,
    ) -> Update:
        if big_too:
            for root in roots:
                self._big.pop(root, None)
        else:
            # Whoever waits apart is evaluated with what has come until then.
            apart = {root for root in roots if self.facts.history.count(root) > BIG}
            for root in apart:
                self._wait_apart(root, cause)
            if apart:
                roots = [root for root in roots if root not in apart]
        answers = self._answers(roots, as_of) if roots else {}
        before = self._stays.before((*roots, NOBODIES) if and_nobodies else roots)
        after: dict[str, Stay] = {}
        states: list[PersonState] = []
        for root in roots:
            said = answers[root]
            identifiers = self._people.identifiers_of(root)
            for person, keys in identifiers.items():
                names, features = said.get(person, ((), None))
                names = self._verdicts.hold(self._stays.segments(person), names)
                now, is_new = self._stays.carried_on(person, names, as_of)
                after[person] = now
                if all_people or is_new:
                    states.append(
                        PersonState(
                            person_id=person,
                            segments=dict(zip(now.segments, now.since, strict=True)),
                            features=Features(features),
                            identifiers=tuple(keys),
                            as_of=as_of,
                        )
                    )
            self._stays.live_in(root, identifiers)
            self._ahead.touch(
                root, {p: after[p].segments for p in identifiers if after[p].segments} if is_foreseen else None
            )
        if and_nobodies:
            self._stays.live_in(NOBODIES, ())
        return self._stays.update(before, after, states, merges, as_of=as_of, cause=cause)
