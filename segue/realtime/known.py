"""Which messages the serving store stands for: not a tolerance in seconds, but message by message.

The store says two things of itself: its position in the log, and the newest load that its engine has read from the
warehouse. A message is in the store when it is in such a load, or came by the log up to that position, wherever it
is now: still in the log, in a file that waits, or in a later load. The landing writer's files are named after the
positions that they lie between, so each can be told.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from segue.errors import BadInputError
from segue.events import COLLECTED, pending_files
from segue.events.streams import open_stream
from segue.log import Log, Position
from segue.models.project import quote
from segue.models.tables import TABLES
from segue.realtime.start import LineJudge, chunks
from segue.settings import Settings
from segue.warehouse import Connection, has_table

_READ_BYTES = 32_000_000
_HASH = "message_hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Messages beyond `raw.events`, and those of it that do not count yet."""

    load_id: int  # every load up to this one counts as a whole
    files: tuple[str, ...]  # later loads that count, by the name of their file
    extra: pa.Table  # messages that the warehouse does not have, and the store has; rows of raw.events
    left_out: pa.Array  # hashes of messages that came by the log after the position
    later: pa.Table  # messages in files that nobody has ingested and that did not come by the log

    def query(self, con: Connection) -> str:
        """The messages that the store stands for, as a query over the reader they were found with."""
        return self._query(con, counted=self._counted(con), more=self.extra)

    def widest(self, con: Connection) -> str:
        """The same with what the engine may have heard of besides: files and loads that it notices in a while."""
        return self._query(con, counted="true", more=_once([t for t in (self.extra, self.later) if t.num_rows]))

    def counts(self, con: Connection) -> tuple[int, int]:
        """How many of those messages the warehouse has, and how many it does not have yet."""
        landed = _count(con, self._query(con, counted=self._counted(con), more=_once([])))
        return landed, _count(con, self.query(con)) - landed

    @property
    def is_all_landed(self) -> bool:
        """Whether the warehouse has the same messages, as far as they came by the log."""
        return not self.extra.num_rows and not len(self.left_out)

    def _counted(self, con: Connection) -> str:
        if not self.files:
            return f"load_id <= {self.load_id:d}"
        con.register("counted_files", pa.table({"file": list(self.files)}))
        return (
            f"load_id <= {self.load_id:d} or load_id in (select load_id from raw.loads where file in"
            " (select file from counted_files))"
        )

    def _query(self, con: Connection, *, counted: str, more: pa.Table) -> str:
        con.register("left_out_events", pa.table({_HASH: self.left_out}))
        later = f"load_id > {self.load_id:d} and message_hash in (select {_HASH} from left_out_events)"
        query = f"select * from {events_of(con)} where ({counted}) and not ({later})"
        if not more.num_rows:
            return query
        con.register("more_events", more)
        return (
            f"with counted as ({query}) from counted union all by name select * from more_events m"
            " where not exists (select 1 from counted c where c.message_hash = m.message_hash)"
        )


def known_messages(
    con: Connection,
    settings: Settings,
    event_log: Log,
    judge: LineJudge,
    *,
    position: Position,
    load_id: int,
) -> Known:
    """What the store stood for when it was at a position, with an engine that had read so many loads.

    Args:
        con: one state of the warehouse, as everything else that is compared.
    """
    after = [judge(payload) for payload in _entries(event_log, position, None)]
    before = [judge(p) for p in _entries(event_log, event_log.committed("landing"), position)] if position else []
    later: list[pa.Table] = []
    mixed: list[pa.Table] = []  # files that reach beyond the position
    for file in pending_files(settings, con).files:
        place = _positions(file.name)
        if place is not None and place[0] >= position:
            continue  # all of it came after
        try:
            with closing(open_stream(file.path)) as stream:
                kind = later if place is None else before if place[1] <= position else mixed
                kind.extend(judge(text) for text in chunks(stream))
        except (OSError, BadInputError):
            continue  # moved away since we looked
    ingested = []
    if has_table(con, "raw", "loads"):
        rows = con.execute("select distinct file from raw.loads where load_id > $1", [load_id]).fetchall()
        ingested = [name for (name,) in rows if (place := _positions(name)) is not None and place[0] < position]
    told_before, fresh = _hashes(before), _hashes(after)
    left_out = fresh.filter(pc.invert(pc.is_in(fresh, told_before)))
    return Known(
        load_id=load_id,
        files=tuple(ingested),
        extra=_once([*before, *_without(mixed, left_out)]),
        left_out=left_out,
        later=_once(_without(later, told_before)),
    )


def events_of(con: Connection) -> str:
    """`raw.events`, or before the first ingest a relation without rows."""
    if has_table(con, "raw", "events"):
        return "raw.events"
    columns = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in TABLES["raw.events"].items())
    return f"(select {columns} where false)"


def _entries(event_log: Log, after: Position, until: Position | None) -> Iterator[bytes]:
    """Payloads after a position, up to and with another one."""
    while found := event_log.read(after, limit_bytes=_READ_BYTES, wait_seconds=0):
        kept = []
        for entry in found:
            if until is not None and entry.position > until:
                break
            kept.append(entry.payload if entry.payload.endswith(b"\n") else entry.payload + b"\n")
        if kept:
            yield b"".join(kept)
        if len(kept) < len(found):
            return
        after = found[-1].position


def _positions(name: str) -> tuple[Position, Position] | None:
    """Between which positions a file of the landing writer lies; None: somebody else's file."""
    path = PurePosixPath(name)
    if path.parts[0] != COLLECTED:
        return None
    first, _, last = path.name.partition(".")[0].partition("_")
    return (first, last) if last else None


def _count(con: Connection, query: str) -> int:
    row = con.execute(f"select count(*) from ({query})").fetchone()
    return int(row[0]) if row else 0


def _hashes(tables: list[pa.Table]) -> pa.Array:
    if not tables:
        return pa.array([], pa.uint64())
    return pc.unique(pa.concat_tables(tables)[_HASH].cast(pa.uint64()).combine_chunks())


def _without(tables: list[pa.Table], hashes: pa.Array) -> list[pa.Table]:
    return [t.filter(pc.invert(pc.is_in(t[_HASH].cast(pa.uint64()), hashes))) for t in tables]


def _once(tables: list[pa.Table]) -> pa.Table:
    """Each message as it was received first."""
    if not tables:
        return pa.table({_HASH: pa.array([], pa.uint64())})
    rows = pa.concat_tables(tables).sort_by("received_at")
    seen: set[int] = set()
    keep = []
    for at, one in enumerate(rows[_HASH].to_pylist()):
        if one not in seen:
            seen.add(one)
            keep.append(at)
    return rows.take(pa.array(keep, pa.int64()))
