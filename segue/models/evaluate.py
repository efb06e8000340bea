"""Runs the compiled dbt models in memory, as of any time: the analyst's SQL, unchanged, on what was known then."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self

import duckdb

from segue.clock import to_warehouse
from segue.models.check import empty_lake
from segue.models.project import RAW, Model, Project, quote
from segue.models.tables import TABLES, create_empty
from segue.settings import MODEL_SECONDS
from segue.warehouse import Connection, patience, too_long

#: Writes the identity tables into the default catalog of a connection, from the staging models in it, as of a time.
Stitch = Callable[[Connection, datetime], object]

Window = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the models say as of a time. The tables are in `con`, until the next evaluation on the same evaluator."""

    as_of: datetime
    con: Connection
    built: frozenset[str]  # names of models
    failed: Mapping[str, str]  # name → why


def run_chain(
    con: Connection,
    models: Sequence[Model],
    *,
    as_of: datetime,
    window: Window | None = None,
    model_seconds: float = MODEL_SECONDS,
    failed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Build the models in the default catalog of `con`, which must be called `lake` and hold their sources.

    Args:
        models: upstream first.
        as_of: what `getvariable('as_of')` answers.
        window: what `getvariable('window_start')` and `('window_end')` answer; null when None.
        model_seconds: how long the SQL of one model may take.
        failed: name → reason, of models that have failed already and are not tried.

    Returns:
        Name → reason, of each model that the database refused; models that read one of those are among them, and
        those that had failed already.
    """
    set_clock(con, as_of=as_of, window=window)
    failed = dict(failed or {})
    for model in models:
        if model.name in failed:
            continue
        culprit = next((name for name in model.depends_on if name in failed), None)
        if culprit is not None:
            failed[model.name] = f"it reads {culprit}, which failed"
            continue
        con.execute(f"create schema if not exists {quote(model.schema)}")
        # A view stays a view: its readers need few of its columns.
        kind = "view" if model.materialized == "view" else "table"
        try:
            with patience(con, model_seconds):
                con.execute(f"create or replace {kind} {model.quoted} as\n{model.compiled_sql}")
        except duckdb.Error as error:
            con.execute(f"drop {kind} if exists {model.quoted}")
            is_late = isinstance(error, duckdb.InterruptException)
            failed[model.name] = (
                too_long(model_seconds) if is_late else " ".join(str(error).partition("\n\n")[0].split())
            )
    return failed


def set_clock(con: Connection, *, as_of: datetime, window: Window | None = None) -> None:
    """Set the session variables that the models read their time from."""
    start, end = map(to_warehouse, window) if window is not None else (None, None)
    for name, value in (("as_of", to_warehouse(as_of)), ("window_start", start), ("window_end", end)):
        con.execute(f"set variable {name} = $1::timestamp", [value])


class Evaluator:
    """The warehouse's events, loaded once into memory, to be evaluated as of many times.

    Use as a context manager. An append-only incremental model of `raw.events` alone is built once and then only
    filtered: that it may be appended to, event by event, means that no row of it depends on later events.

    Args:
        project: whose models.
        source: where the events are; not needed any more after construction.
        until: nothing received later is loaded; the latest time that can be asked for.
        stitch: makes the identity tables as of each time. None: the source's identity tables are used as they are.
        targets: names of the models wanted; their upstream models come with them. None: the segments.
        events: the query, on `source`, that stands for `raw.events`; an engine passes the events of some people.
        model_seconds: how long the SQL of one model may take; one that took longer once is not tried again.
    """

    def __init__(
        self,
        project: Project,
        source: Connection,
        *,
        until: datetime,
        stitch: Stitch | None = None,
        targets: Collection[str] | None = None,
        events: str = "select * from raw.events",
        model_seconds: float = MODEL_SECONDS,
    ) -> None:
        self._until = until
        self._stitch = stitch
        self._model_seconds = model_seconds
        self._too_long: dict[str, str] = {}
        wanted = [m.name for m in project.segments] if targets is None else targets
        models = project.upstream(wanted)
        with_identity = project.after_source("identity", models)
        once = {m.name for m in models if m.is_per_event}
        self._before = [m for m in models if m.name not in with_identity and m.name not in once]
        self._after = [m for m in models if m.name in with_identity]
        if stitch is not None and self._after:
            # Stitching reads staging models that no wanted model may read by itself.
            known = {m.name for m in models}
            extra = [m for m in project.models if m.schema == "staging" and m.name not in known]
            extra = [m for m in project.upstream([m.name for m in extra]) if m.name not in known]
            self._before += [m for m in extra if m.name not in project.after_source("identity", project.models)]
            models = (*models, *extra)
        self._con = empty_lake()
        project.normaliser.register(self._con)
        needed = {s for model in models for s in model.sources}
        for relation in sorted(needed):
            if relation == RAW:
                self._load_events(source, events)
            elif stitch is None or not relation.startswith("identity."):
                self._copy(source, relation, project.source_columns.get(relation, {}))
        self._once = self._build_once([m for m in models if m.name in once])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory."""
        self._con.close()

    def at(self, as_of: datetime, *, window: Window | None = None) -> Evaluation:
        """Build every wanted model from what had been received by `as_of`. Replaces the evaluation before.

        Raises:
            ValueError: when `as_of` is later than `until`.
        """
        if as_of > self._until:
            raise ValueError(f"the events are loaded until {self._until}, so {as_of} cannot be evaluated")
        run = partial(run_chain, self._con, as_of=as_of, window=window, model_seconds=self._model_seconds)
        failed = run(self._before, failed=self._too_long)
        if self._stitch is not None and self._after:
            self._con.execute("drop schema if exists identity cascade")
            self._stitch(self._con, as_of)
        failed = run(self._after, failed=failed)
        self._too_long = {name: why for name, why in failed.items() if why == too_long(self._model_seconds)}
        built = self._once | frozenset(m.name for m in (*self._before, *self._after)) - failed.keys()
        return Evaluation(as_of=as_of, con=self._con, built=built, failed=failed)

    def _load_events(self, source: Connection, events: str) -> None:
        rows = source.execute(
            f"select * from ({events}) where received_at <= $1::timestamp", [to_warehouse(self._until)]
        ).to_arrow_reader(100_000)
        self._con.register("arriving", rows)
        # Sorted, so that an early time reads only the beginning.
        self._con.execute("create table memory.main.events as select * from arriving order by received_at")
        self._con.unregister("arriving")
        self._con.execute("create schema if not exists raw")
        self._con.execute(
            "create view raw.events as select * from memory.main.events where received_at <= getvariable('as_of')"
        )

    def _copy(self, source: Connection, relation: str, declared: Mapping[str, str]) -> None:
        schema, _, table = relation.partition(".")
        try:
            rows = source.execute(f"select * from {quote(schema)}.{quote(table)}").to_arrow_reader(100_000)
        except duckdb.CatalogException:
            # Not made yet: as good as empty, when its columns are known.
            columns = {**declared, **TABLES.get(relation, {})}
            if columns:
                create_empty(self._con, relation, columns)
            return
        self._con.execute(f"create schema if not exists {quote(schema)}")
        self._con.register("arriving", rows)
        self._con.execute(f"create table {quote(schema)}.{quote(table)} as select * from arriving")
        self._con.unregister("arriving")

    def _build_once(self, models: Sequence[Model]) -> frozenset[str]:
        done: set[str] = set()
        failed = run_chain(self._con, models, as_of=self._until)
        for model in models:
            if model.name in failed or "received_at" not in _columns(self._con, model):
                self._before.insert(0, model)
                continue
            kept = f"memory.main.{quote(model.relation)}"
            self._con.execute(f"create table {kept} as select * from {model.quoted} order by received_at")
            self._con.execute(f"drop table {model.quoted}")
            self._con.execute(
                f"create view {model.quoted} as select * from {kept} where received_at <= getvariable('as_of')"
            )
            done.add(model.name)
        return frozenset(done)


def _columns(con: Connection, model: Model) -> frozenset[str]:
    return frozenset(row[0] for row in con.execute(f"describe {model.quoted}").fetchall())


def evaluate(
    project: Project,
    source: Connection,
    *,
    as_of: datetime,
    window: Window | None = None,
    stitch: Stitch | None = None,
    targets: Collection[str] | None = None,
) -> Evaluation:
    """One evaluation as of one time; for many, an `Evaluator` loads the events once. Close its `con` after use."""
    return Evaluator(project, source, until=as_of, stitch=stitch, targets=targets).at(as_of, window=window)
