"""The engine as a process: log in, store out, until it is told to stop or somebody else takes over."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segue.clock import from_warehouse
from segue.errors import DefinitionError, LogError, SegueError, ValkeyError
from segue.log import Log, Position
from segue.models import Project, fingerprint_of, prepare
from segue.realtime.engine import LOOK_PEOPLE, Engine, Look
from segue.realtime.figures import Figures
from segue.realtime.intake import Batch, Intake
from segue.realtime.landed import Watch
from segue.realtime.last_good import keep_last_good, remember, remembered
from segue.realtime.lease import Lease
from segue.realtime.start import LineJudge, Sources
from segue.settings import Settings
from segue.store import EVERYBODY, Store, Update
from segue.warehouse import Warehouse

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Refused = Callable[[Project], Mapping[str, str]]

_PROJECT_SECONDS = 3.0
_WAREHOUSE_SECONDS = 30.0
_STATUS_SECONDS = 1.0
_QUIET_SECONDS = 1.0
_LOOK_SECONDS = 0.005  # until it is asked whether a look is over
#: Messages of a backlog that are taken before anybody is evaluated.
_COLLECT_AT_MOST = 1_000_000
_PIECE_ROWS = 20_000  # of a pass, so that batches wait for a moment only
_NEWS = {"definition": "definitions", "population": "values of population models"}  # by cause
#: The server of log and store does not answer, or has no memory left, which passes.
_AWAY = (ValkeyError, LogError, ConnectionError)


class Service:
    """Runs one engine.

    Args:
        settings: which installation.
        event_log: what the collector writes.
        store: what the API reads.
        judge: lines of JSON → accepted messages as rows of `raw.events`.
        clock: the system's time.
        refused: says which models look at everyone.
        owner: who holds the lease, for the message that another engine shows.
        contract_error: says why the contracts cannot be used as they are now; "" when they can.
    """

    def __init__(
        self,
        settings: Settings,
        event_log: Log,
        store: Store,
        judge: LineJudge,
        *,
        clock: Clock,
        refused: Refused,
        owner: str,
        contract_error: Callable[[], str] = str,
    ) -> None:
        self._settings, self._log, self._store, self._judge = settings, event_log, store, judge
        self._clock, self._refused, self._contract_error = clock, refused, contract_error
        self._stop = threading.Event()
        self._lease = Lease(store, owner, self._stop)
        self._begin_as = "time"  # cause of what the first pass of the next engine finds
        self._worked = 0.0  # when the last batch came, as `time.monotonic` counts
        self._collected = 0  # messages that wait to be settled
        self._collected_last: Batch | None = None
        self._position: Position = ""
        self._known_until: Position = ""  # the engine before may have put part of what is there into the store
        self._is_first = False  # not everybody was evaluated yet, ever
        self._sources = Sources(Warehouse(settings), event_log, judge)
        self._landed = Watch(self._sources)
        self._load_id = -1  # newest load that the engine knows
        self._folder = settings.home / "realtime"
        self._next_project: Project | None = None
        self._published: Project | None = None  # that which is evaluated, without what was kept of an earlier one
        self._beside = ThreadPoolExecutor(1, "look")
        self._looking: tuple[Look, Future[pa.Table | None], float] | None = None  # since when
        self.figures = Figures()

    def stop(self) -> None:
        """Ask the loop to end; what it is doing is finished first."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`.

        Raises:
            SegueError: when it cannot go on: the lease is lost, the project cannot be read.
        """
        if not self._lease.take():
            return
        try:
            published = prepare(self._settings)
            watcher = threading.Thread(target=self._watch_project, args=(published.fingerprint,), daemon=True)
            watcher.start()
            threading.Thread(target=self._landed.run, args=(self._stop, _WAREHOUSE_SECONDS), daemon=True).start()
            project = self._keep_last_good(published, remembered(self._folder, published))
            while not self._stop.is_set():
                try:
                    with _uncollected(), self._landed.lock:
                        engine = self._build(project)
                except DefinitionError as error:
                    if project is self._published:
                        raise
                    assert self._published is not None
                    log.error("what is broken cannot go on as it was beside what is new: %s", error.message)
                    project = self._published
                    continue
                again = self._loop(engine)
                if again is None:
                    break
                project = again
        finally:
            self._stop.set()
            self._beside.shutdown()
            self._lease.give_back()

    # Beginning.

    def _build(self, project: Project) -> Engine:
        self._position, self._known_until = self._store.position(), self._log.status().newest
        applied_at = self._store.as_of()
        as_of = max(self._clock(), applied_at) if applied_at is not None else self._clock()
        started = time.monotonic()
        engine = self._sources.build(
            project,
            as_of=as_of,
            applied=self._position,
            refused=self._refused(project),
            horizon_seconds=self._settings.sweep_seconds,
        )
        self._landed.forget()
        self._load_id = self._sources.load_id
        self._is_first = not self._store.is_filled()
        stored = {person: dict(segments) for person, segments in self._store.memberships()}
        stays = stored
        if self._is_first:
            gone = self._store.merged()
            found = {person: since for person, since in self._sources.stays().items() if person not in gone}
            stays = found | stored  # an engine that died before it was through has told of these
        engine.restore(stays.items())
        log.info("ready after %.1f s; everyone is evaluated now", time.monotonic() - started)
        self._start_pass(engine, self._begin_as, all_people=self._begin_as != "time", in_store=stored)
        self._begin_as = "time"
        remember(project, self._folder)
        for segment, why in engine.rules.left_out.items():
            log.warning("segment %s is left to the warehouse: %s", segment, why)
        return engine

    def _start_pass(
        self, engine: Engine, cause: str, *, all_people: bool = True, in_store: Iterable[str] | None = None
    ) -> None:
        """Have everybody evaluated; until that was done once, it is the first fill that goes on."""
        if self._is_first:
            known = (person for person, _ in self._store.memberships()) if in_store is None else in_store
            engine.start_pass("load", in_store=known)
        else:
            engine.start_pass(cause, all_people=all_people)

    # The loop.

    def _loop(self, engine: Engine) -> Project | None:
        """Until the end, or until a project comes that needs a history of its own: that one is returned."""
        intake = Intake(self._log, self._position, self._judge)
        intake.start()
        self._collected, self._collected_last = 0, None
        noted = time.monotonic()
        try:
            while not self._stop.is_set():
                self._lease.check()
                batch = intake.take(self._idle_seconds(engine))
                if batch is not None:
                    self._work_on(engine, batch)
                else:
                    self._settle(engine)
                self._mind_time(engine, is_busy=batch is not None)
                moment = time.monotonic()
                if moment - noted > _STATUS_SECONDS:
                    if self._collected_last is None and self._has_caught_up and self._look_again(engine):
                        return engine.project
                    self._note(engine)
                    noted = moment
                self._take_landed(engine)
                project, self._next_project = self._next_project, None
                if project is not None:
                    project = self._keep_last_good(project, engine.project)
                    if not self._redefine(engine, project):
                        return project
        finally:
            intake.stop()
            self._looking = None
        return None

    def _now(self, engine: Engine) -> datetime:
        """Never the same time twice: the id of a change is made of its time, also while the clock steps back."""
        return max(self._clock(), engine.as_of + timedelta(microseconds=1))

    def _idle_seconds(self, engine: Engine) -> float:
        """How long to wait for a batch before there is something else to do."""
        if self._may_pass(engine) or self._landed.has_some:
            return 0.0
        if self._looking is not None:
            return _LOOK_SECONDS
        moments = [m for m in (engine.next_due, engine.next_look) if m is not None]
        if engine.has_big:
            return 0.02
        if not moments:
            return _STATUS_SECONDS
        return min(max((min(moments) - self._clock()).total_seconds(), 0.0), _STATUS_SECONDS)

    @property
    def _has_caught_up(self) -> bool:
        return self._position >= self._known_until  # positions of one width compare as texts

    def _may_pass(self, engine: Engine) -> bool:
        return engine.is_passing and (engine.pass_left > 0 or self._has_caught_up)

    def _work_on(self, engine: Engine, batch: Batch) -> None:
        self._worked = time.monotonic()
        as_of = self._now(engine)
        if batch.accepted.num_rows:
            # The collector's clock may be a little ahead of ours.
            newest = _newest(batch)
            if newest is not None and as_of < newest < as_of + timedelta(minutes=1):
                as_of = newest
        engine.collect(batch.accepted, as_of)
        self._collected += batch.accepted.num_rows
        self._collected_last = batch
        self.figures.batch(batch.accepted.num_rows)
        # A full batch means that more is waiting: the same people will come again, so let them come first.
        if not batch.is_full or self._collected >= _COLLECT_AT_MOST:
            self._settle(engine)

    def _settle(self, engine: Engine) -> None:
        """Evaluate whom the collected batches concern."""
        batch, self._collected_last, self._collected = self._collected_last, None, 0
        if batch is None:
            return
        for update, is_last in engine.settle(self._now(engine)):
            self._apply(update, batch.position if is_last else self._position)
        self.figures.applied(time.monotonic() - batch.received)

    def _mind_time(self, engine: Engine, *, is_busy: bool) -> None:
        started = time.monotonic()
        update = engine.due(self._now(engine))
        if update is not None:
            self._apply(update, self._position)
        if self._may_pass(engine):
            piece = engine.pass_step(self._now(engine), rows=_PIECE_ROWS, has_caught_up=self._has_caught_up)
            if piece is not None:
                self._apply(piece, self._position)
            if not engine.is_passing:
                gc.freeze()  # as after the build
                log.info("everyone is evaluated: %s people", f"{engine.person_count:,}")
        elif engine.has_big and self.figures.big.may(started):
            big = engine.big(self._now(engine))
            if big is not None:
                self._apply(big, self._position)
            self.figures.big.took(started, time.monotonic())
        else:
            self._look(engine, is_busy=is_busy)

    def _look(self, engine: Engine, *, is_busy: bool) -> None:
        """Look ahead in a thread of its own: no batch waits for it."""
        if self._looking is not None:
            look, answer, started = self._looking
            if answer.done():
                self._looking = None
                engine.end_look(look, answer.result())
                self.figures.looking.took(started, time.monotonic())
        elif not is_busy or self.figures.looking.may(time.monotonic()):
            # More people take longer, and what comes meanwhile shares the processor with them.
            is_quiet = time.monotonic() - self._worked > _QUIET_SECONDS
            begun = engine.begin_look(self._now(engine), limit=LOOK_PEOPLE if is_quiet else LOOK_PEOPLE // 5)
            if begun is not None:
                self._looking = begun, self._beside.submit(begun.run), time.monotonic()

    def _apply(self, update: Update, position: Position) -> None:
        """Write; while the store cannot be reached, wait and try again: what was evaluated stays true."""
        while True:
            self._lease.check()
            try:
                self._store.apply(update, token=self._lease.token, expected=self._position, position=position)
                break
            except _AWAY as error:
                log.warning("the store cannot be reached (%s); trying again", type(error).__name__)
                if self._stop.wait(0.5):
                    raise
        self._position = position

    # What changes meanwhile.

    def _watch_project(self, fingerprint: str) -> None:
        errors, said = self.figures.errors, ""
        while not self._stop.wait(_PROJECT_SECONDS):
            try:
                if fingerprint_of(self._settings) != fingerprint:
                    project = prepare(self._settings)
                    fingerprint, self._next_project = project.fingerprint, project
                errors["project"] = said = ""  # also when what was broken is as it was before
            except DefinitionError as error:
                if errors["project"] != error.message:
                    log.error("the dbt project cannot be used, the last good one stays: %s", error.message)
                errors["project"] = error.message
            except (SegueError, OSError) as error:
                if said != str(error):
                    log.warning("the dbt project cannot be read just now, trying again: %s", error)
                said = str(error)

    def _keep_last_good(self, project: Project, before: Project | None) -> Project:
        kept, self._published = keep_last_good(project, before), project
        for name, reason in kept.broken.items():
            log.error("%s is broken, its last good definition stays: %s", name, reason)
        self.figures.errors["definitions"] = " ".join(kept.broken.values())
        return kept.project

    def _redefine(self, engine: Engine, project: Project, *, cause: str = "definition") -> bool:
        try:
            with self._landed.lock:
                self._sources.held_digests.clear()  # those of what is evaluated are read again
                is_done = engine.redefine(project, held=self._sources.held, refused=self._refused(project))
        except DefinitionError as error:
            log.error("the new definitions cannot be evaluated, the last good ones stay: %s", error.message)
            self.figures.errors["definitions"] = error.message
            return True
        if is_done:
            log.info("new %s: everyone is evaluated anew", _NEWS[cause])
            self._start_pass(engine, cause)
            remember(project, self._folder)
        else:
            log.info("new definitions need other columns of the history: it is loaded anew")
            self._begin_as = cause
        return is_done

    def _take_landed(self, engine: Engine) -> None:
        found = self._landed.take()
        if found is None:
            return
        if found.messages is not None:
            update = engine.batch(found.messages, self._now(engine))
            if update.people or update.merged or update.gone:
                self._apply(update, self._position)
        self._load_id = found.load_id
        if found.decisions is not None:
            self._apply(engine.decide(found.decisions, self._now(engine)), self._position)
        if found.held_is_old and not engine.is_passing:
            self._redefine(engine, engine.project, cause="population")

    def _look_again(self, engine: Engine) -> bool:
        """Do what an audit asks for. True: everybody is to be looked at, with a history loaded anew."""
        try:
            asked = self._store.requests.waiting()
            people = [person for person in asked if person != EVERYBODY]
            if people:
                log.warning("an audit asks for %s people to be looked at again", f"{len(people):,}")
                self._apply(engine.correct(self._store.segments_of(people), self._now(engine)), self._position)
                self._store.requests.done(people)
            if EVERYBODY not in asked:
                return False
            self._store.note(self._status(engine) | {"to_evaluate": engine.person_count}, token=self._lease.token)
            self._store.requests.done([EVERYBODY])
        except _AWAY as error:
            log.warning("what an audit asks for cannot be done now (%s); later", type(error).__name__)
            return False
        log.warning("an audit asks for everything to be loaded anew")
        self._begin_as = "audit"
        return True

    def _note(self, engine: Engine) -> None:
        """What others go by: how far the log is read, how the engine is. While the server is away, it can wait."""
        try:
            if self._position:
                self._log.commit("engine", self._position)
            if self._is_first and not engine.is_passing:
                self._store.set_filled(token=self._lease.token)
                self._is_first = False
            self._store.note(self._status(engine), token=self._lease.token)
        except _AWAY as error:
            log.warning("the log and the store cannot be told (%s); later", type(error).__name__)

    def _status(self, engine: Engine) -> dict[str, Any]:
        self.figures.errors["contracts"] = self._contract_error()
        knows = {"load_id": self._load_id, "held": dict(self._sources.held_digests)}
        return self.figures.status(engine) | knows


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage while millions of objects are made that stay; nor through them ever after.

    A search through all of them takes seconds, in which nothing is evaluated.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _newest(batch: Batch) -> datetime | None:
    newest = pc.max(batch.accepted["received_at"]).as_py()
    return None if newest is None else from_warehouse(newest)
