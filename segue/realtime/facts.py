"""What has come so far: each message once, as rows of the component that it concerns, and who is who."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from segue.models import Project
from segue.realtime.events import IDENTITY_COLUMNS, Arrivals, Future, Seen
from segue.realtime.history import History
from segue.realtime.people import People
from segue.realtime.sql import conform
from segue.realtime.staging import Staging


class Facts:
    """All that an answer about somebody depends on, but for the time and the rules.

    Args:
        project: as published.
        staging: of the same project.
        columns: of staged events, that are kept.
        needs_sightings: some model reads when an identifier was seen first or last.
    """

    def __init__(self, project: Project, staging: Staging, columns: Sequence[str], *, needs_sightings: bool) -> None:
        self.staging = staging
        self.people = People(project.rules)
        self.history = History(pa.schema([staging.schema.field(name) for name in columns]))
        self._rules = project.rules
        self._needs_sightings = needs_sightings
        self._arrivals = Arrivals(staging, self.people, needs_sightings=needs_sightings)
        self._seen = Seen()
        self._future = Future()

    @property
    def needed(self) -> list[str]:
        """Columns of staged events that `load` reads; the others may be missing."""
        wanted = {*self.history.schema.names, *IDENTITY_COLUMNS}
        wanted |= {"occurred_at", "received_at", "load_id"}
        reads_more = self.staging.identity_reads_more_than(IDENTITY_COLUMNS)
        return [name for name in self.staging.types if reads_more or name in wanted]

    @property
    def next_at(self) -> datetime | None:
        """When something that has come begins to count: a link that waits, a message received later (aware)."""
        moments = (self.people.next_wait, self._future.next_at)
        return min((m for m in moments if m is not None), default=None)

    def load(
        self, staged: pa.Table, hashes: pa.Array, as_of: datetime, *, decisions: Sequence[Mapping[str, object]]
    ) -> None:
        """Take a history. To be called first, once.

        Args:
            staged: staged events of messages received by `as_of`, at least the columns `needed`; each message once.
            hashes: `message_hash` of each.
            decisions: rows of `identity.decisions`, oldest first.
        """
        self._seen.fill(hashes)
        nodes = self._arrivals.learn_all(conform(staged, self.staging.schema), as_of)
        self.people.decide(decisions)
        self.people.joined.clear()
        self.people.resolve(self.people.roots(), as_of)
        roots = self._arrivals.roots_of(nodes)
        is_known = roots >= 0
        rows = staged.select(self.history.schema.names)
        if not is_known.all():
            rows, roots = rows.filter(pa.array(is_known)), roots[is_known]
        self.history.fill(rows, roots)

    def add(self, tables: Iterable[pa.Table], as_of: datetime) -> tuple[set[int], dict[int, None]]:
        """Take messages, rows as in `raw.events`: those that are new, and were received by `as_of`; later ones wait.

        Returns:
            Identifiers of components in which somebody may be somebody else now, and components touched. Either may
            have become part of another one: `people.root`.
        """
        dirty: set[int] = set()
        touched: dict[int, None] = {}
        for raw in tables:
            fresh = self._seen.new(self._future.hold_back(raw, as_of))
            if not fresh.num_rows:
                continue
            staged = self.staging.stage(fresh, as_of)
            nodes = self._arrivals.learn(staged, as_of, dirty)
            roots = [self.people.root(node) if node >= 0 else -1 for node in nodes]
            rows = staged.select(self.history.schema.names)
            if -1 in roots:
                rows, roots = rows.filter(pa.array([r >= 0 for r in roots])), [r for r in roots if r >= 0]
            self.history.append(rows.combine_chunks(), roots)
            touched |= dict.fromkeys(roots)
        return dirty, touched

    def arrived(self, as_of: datetime) -> list[pa.Table]:
        """Messages whose time may have come; to be added."""
        return self._future.arrived(as_of)

    def joins(self) -> list[tuple[int, int]]:
        """Components that have become one since this was last asked: (into, gone)."""
        found = list(self.people.joined)
        self.people.joined.clear()
        for into, gone in found:
            self.history.join(into, gone)
        return found

    def of(self, roots: Collection[int], as_of: datetime) -> tuple[pa.Table, pa.Table]:
        """Staged events and `identity.identifiers` of these components."""
        return self.history.take(roots), self.people.table(roots, as_of)

    def suffice(self, project: Project, staging: Staging, columns: Collection[str], *, needs_sightings: bool) -> bool:
        """Whether other definitions can be answered from what is kept here, or need a history of their own."""
        return (
            project.rules == self._rules
            and staging.sql == self.staging.sql
            and staging.identity_sql == self.staging.identity_sql
            and set(columns) <= set(self.history.schema.names)
            and (self._needs_sightings or not needs_sightings)
        )
