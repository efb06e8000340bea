"""From a warehouse, a landing zone and a log to an engine that knows all of them.

Messages move from the log to the landing zone to the warehouse, so they are looked for in this order: one that moves
on meanwhile is found twice, and counted once, but never missed.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from segue.clock import from_warehouse, to_warehouse
from segue.errors import BadInputError
from segue.events import pending_files
from segue.events.streams import open_stream
from segue.identity import read_decisions
from segue.log import Entry, Log, Position
from segue.models import Project
from segue.models.project import RAW, quote
from segue.models.tables import TABLES
from segue.realtime.engine import Engine
from segue.realtime.sql import rewrite
from segue.warehouse import Connection, Warehouse

log = logging.getLogger(__name__)

#: Lines of JSON → those that are accepted, as rows of `raw.events`.
LineJudge = Callable[[bytes], pa.Table]

_READ_BYTES = 32_000_000
_CHUNK_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class News:
    """What has changed in the warehouse."""

    fresh: pa.Table | None  # messages that have come
    held_is_old: bool  # what `Sources.held` said is not what the warehouse says now
    decisions: list[dict[str, Any]] | None  # all about identity, when there is a new one


class Sources:
    """Where an engine's history comes from.

    Args:
        warehouse: holds what was ingested.
        event_log: holds what was not landed yet.
        judge: the spec and the contracts.
    """

    def __init__(self, warehouse: Warehouse, event_log: Log, judge: LineJudge) -> None:
        self._warehouse = warehouse
        self._log = event_log
        self._judge = judge
        self.load_id = -1  # newest load that was read from the warehouse
        self.held_digests: dict[str, str] = {}  # relation → what it said when it was read
        self._decisions: list[dict[str, Any]] = []

    def held(self, relation: str) -> pa.Table | None:
        """A table of the warehouse as it is now; None when it is not there."""
        schema, _, table = relation.partition(".")
        with self._warehouse.read() as con:
            self.held_digests[relation] = digest(con, relation)
            try:
                return con.execute(f"from {quote(schema)}.{quote(table)}").to_arrow_table()
            except duckdb.CatalogException:
                return None

    def build(
        self, project: Project, *, as_of: datetime, applied: Position, refused: Mapping[str, str], horizon_seconds: int
    ) -> Engine:
        """An engine with the history of everything that was received by `as_of`, and nobody evaluated.

        Args:
            applied: the position in the log that the store has; what comes after it is left for batches.
            refused: models that look at everyone → why.
        """
        engine = Engine(project, held=self.held, refused=refused, horizon_seconds=horizon_seconds)
        logged = list(self._applied_entries(applied))
        files = list(self._landed())
        with self._warehouse.read() as con:
            project.normaliser.register(con)
            self._load(con, engine, as_of)
        log.info("%s events of history are loaded", f"{engine.facts.history.row_count:,}")
        for payload in (*files, *logged):
            engine.absorb(self._judge(payload), as_of)
        return engine

    def stays(self) -> dict[str, dict[str, datetime]]:
        """The open stays in the warehouse's history of segments: person → segment → entered_at (aware)."""
        with self._warehouse.read() as con:
            try:
                rows = con.execute(
                    "select person_id, segment, entered_at from segments.memberships where exited_at is null"
                ).fetchall()
            except duckdb.CatalogException:
                return {}
        found: dict[str, dict[str, datetime]] = {}
        for person, segment, entered_at in rows:
            found.setdefault(person, {})[segment] = from_warehouse(entered_at)
        return found

    def news(self) -> News:
        """What the warehouse knows since this was last asked; looked up at once, since to open it is what costs."""
        with self._warehouse.read() as con:
            fresh, newest = self._fresh(con)
            # A copy: the engine may read others meanwhile.
            is_old = any(digest(con, relation) != known for relation, known in list(self.held_digests.items()))
            decisions = read_decisions(con)
        is_new = decisions != self._decisions
        # Only here: if any of it cannot be read, all of it is news the next time.
        self.load_id, self._decisions = newest, decisions
        return News(fresh, held_is_old=is_old, decisions=decisions if is_new else None)

    def _fresh(self, con: Connection) -> tuple[pa.Table | None, int]:
        """Messages that have come, and the newest load that is read with them."""
        newest = _newest_load(con)
        if newest is None or newest <= self.load_id:
            return None, self.load_id
        found = con.execute(
            "from raw.events where load_id > $1 and load_id <= $2", [self.load_id, newest]
        ).to_arrow_table()
        return found, newest

    def _applied_entries(self, applied: Position) -> Iterator[bytes]:
        """Payloads that the store has, and that were not landed when we looked."""
        if not applied:
            return
        entries: list[Entry] = []
        after = self._log.committed("landing")
        while found := self._log.read(after, limit_bytes=_READ_BYTES, wait_seconds=0):
            for entry in found:
                entries.append(entry)
                if entry.position == applied:
                    yield from (one.payload for one in entries)
                    return
            after = found[-1].position
        # The landing writer is past it: all that the store has is in files or in the warehouse.

    def _landed(self) -> Iterator[bytes]:
        """Lines of the files that nobody has ingested yet."""
        with self._warehouse.read() as con:
            waiting = pending_files(self._warehouse.settings, con).files
        for file in waiting:
            try:
                stream = open_stream(file.path)
            except (OSError, BadInputError):
                continue  # ingested and moved away since we looked: the warehouse has it
            try:
                yield from chunks(stream)
            finally:
                stream.close()

    def _load(self, con: Connection, engine: Engine, as_of: datetime) -> None:
        newest = _newest_load(con)
        if newest is None:
            return
        self.load_id = newest
        raw_columns = ", ".join(quote(name) for name in TABLES[RAW])
        staging = rewrite(engine.facts.staging.model.compiled_sql, {RAW: "known_events"})
        needed = ", ".join(quote(name) for name in engine.facts.needed)
        con.execute("set variable as_of = $1::timestamp", [to_warehouse(as_of)])
        staged = con.execute(
            f"with known_events as (select {raw_columns} from raw.events where load_id <= {newest:d})"
            f" select {needed}, md5_number_lower(message_id) as message_hash from ({staging})"
        ).to_arrow_table()
        hashes = staged["message_hash"].combine_chunks()
        self._decisions = read_decisions(con)
        engine.load(staged.drop(["message_hash"]), hashes, as_of, decisions=self._decisions)
        later = con.execute(
            "from raw.events where load_id <= $1 and received_at > $2", [newest, to_warehouse(as_of)]
        ).to_arrow_table()
        if later.num_rows:
            engine.absorb(later, as_of)  # waits there until its time has come


def digest(con: Connection, relation: str) -> str:
    """Changes when the rows of a relation do; "" when it is not there."""
    schema, _, table = relation.partition(".")
    try:
        row = con.execute(
            f"select count(*) || ' ' || coalesce(sum(hash(t)::hugeint), 0) from {quote(schema)}.{quote(table)} t"
        ).fetchone()
    except duckdb.CatalogException:
        return ""
    return str(row[0]) if row else ""


def _newest_load(con: Connection) -> int | None:
    try:
        row = con.execute("select max(load_id) from raw.events").fetchone()
    except duckdb.CatalogException:
        return None
    return None if row is None or row[0] is None else int(row[0])


def chunks(stream: object) -> Iterator[bytes]:
    """A file as pieces of whole lines."""
    buffer, rest = bytearray(_CHUNK_BYTES), b""
    while count := stream.readinto(memoryview(buffer)):  # type: ignore[attr-defined]
        text = rest + bytes(buffer[:count])
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if end:
            yield text[:end]
    if rest:
        yield rest + b"\n"
