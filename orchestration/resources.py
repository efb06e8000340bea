"""What assets and sensors are handed: the warehouse and the clock."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

import dagster as dg

from orchestration.turns import turn
from segue import warehouse as rooms
from segue.clock import parse_as_of
from segue.settings import Settings, load_settings

#: Run tag that says as of when a run works. Without it, a run works as of its creation.
AS_OF_TAG = "segue/as_of"

#: Run tag of a refresh of the whole graph.
WHOLE_TAG = "segue/whole"


class Warehouse(dg.ConfigurableResource):
    """The warehouse of the settings in force."""

    @property
    def settings(self) -> Settings:
        return load_settings()

    def core(self) -> rooms.Warehouse:
        """The warehouse itself, for functions that open their own transactions."""
        return rooms.Warehouse(load_settings())

    def read(self, *, as_of: datetime | None = None) -> AbstractContextManager[rooms.Connection]:
        """One consistent state; never waits."""
        return self.core().read(as_of=as_of)

    def write(self, purpose: str, *, as_of: datetime | None = None) -> AbstractContextManager[rooms.Connection]:
        """One transaction, under the writer lock."""
        return self.core().write(purpose, as_of=as_of)


class Turn(dg.ConfigurableResource):
    """Runs take turns: two runs with two clocks must not build each other's inputs.

    Dagster's queue lets one run of the daemon write at a time; this covers runs that other processes
    start (`segue refresh`). The kernel frees the lock when its holder dies.
    """

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Turn"]:
        # A warning, since that is what `segue refresh` shows: without it, it seems to hang.
        with turn(load_settings().home / "run.lock", context.log.warning if context.log else print):
            yield self


class Clock(dg.ConfigurableResource):
    """One time for all steps of a run."""

    def as_of(
        self, context: dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    ) -> datetime:
        """The run's `segue/as_of` tag, else its creation time; aware UTC."""
        return self.as_of_run(context.instance, context.run)

    def as_of_run(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime:
        """The time that a run works as of; aware UTC."""
        if tag := run.tags.get(AS_OF_TAG):
            return parse_as_of(tag)
        record = instance.get_run_record_by_id(run.run_id)
        if record is None:
            raise dg.DagsterInvariantViolationError(f"run {run.run_id} is not in this Dagster instance")
        return record.create_timestamp
