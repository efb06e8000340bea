"""One chunk of lines into `raw.events` and `raw.quarantine`, inside a transaction of the caller.

Most lines are good and new: they stream from the text straight into the table in one statement. Lines that
could be duplicates or are not clean are taken out and looked at again with care. Both ways run the same query.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.clock import to_warehouse
from segue.events import spec
from segue.events.contracts import Contract
from segue.events.explain import explain
from segue.events.lines import Chunk, Fault
from segue.warehouse import Connection

_COLUMNS = ", ".join(spec.COLUMNS)
#: A file anybody could have written must not pass for another source.
_SOURCE = "case when load_id in $ours then coalesce(own_source, $source) else $source end"
_TABLE_COLUMNS = f"{_COLUMNS}, source, load_id, message_hash"

#: Arrow batches of one chunk: what DuckDB's threads share among them.
_BATCHES = 8

#: Folder of the landing zone that only the landing writer writes.
COLLECTED = "collected"

#: Lines that may wait for a careful look.
_MOST_LEFT = 20_000

Mask = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]


class FirstLook(NamedTuple):
    """What the first look at lines found."""

    hashes: Hashes  # of each line's messageId; 0: none
    is_suspect: Mask  # no id, an id twice, no JSON


@dataclass(slots=True)
class Tally:
    """What became of the lines of one file."""

    read: int = 0
    loaded: int = 0
    duplicates: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the lines of one file come from."""

    load_id: int
    name: str  # as in raw.loads.file

    @property
    def is_ours(self) -> bool:
        """Whether the landing writer made it, so that its lines may say which source they came from."""
        return self.name.startswith(f"{COLLECTED}/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A message for the quarantine."""

    file: int
    line: int
    reason: str
    detail: str
    payload: str
    received_at: datetime | None
    source: str | None = None  # what the line itself may say


class Loader:
    """Loads chunks. One for each ingest.

    Args:
        con: the warehouse, in a transaction; the tables exist.
        contracts: what messages are held to.
        as_of: naive columns that need a time and find none in the message get this one.
        latest: a message that is younger is from the future (aware UTC).
        source: what stands in `source`.
    """

    def __init__(
        self, con: Connection, contracts: Iterable[Contract], *, as_of: datetime, latest: datetime, source: str
    ) -> None:
        self._con = con
        self._contracts = {contract.name: contract for contract in contracts}
        self._as_of = to_warehouse(as_of)
        self._latest = to_warehouse(latest)
        self._source = source
        # Errors abort a transaction, so lines that may not even be JSON are first looked at outside of it.
        self._scratch = duckdb.connect(":memory:")
        # Lines that are looked at with care wait until there are enough of them, since each look costs.
        self._left: list[pa.Table] = []
        self._refused: list[Refused] = []
        self._ours: list[int] = []  # loads of files that the landing writer made
        self._known_loads: list[int] = []  # loads that may have an id of a line that waits
        self._fast = spec.messages("fast_lines", self._contracts.values())
        self._careful = spec.messages("careful_lines", self._contracts.values())

    def close(self) -> None:
        self._scratch.close()

    def first_look(self, lines: pa.LargeStringArray) -> FirstLook:
        """Hash of each line's messageId, and which lines need care. Touches no table: a chunk may be looked at while
        the one before is loaded."""
        if not len(lines):
            return FirstLook(np.zeros(0, np.uint64), np.zeros(0, bool))
        self._scratch.register("first_lines", _for_threads(pa.table({"line": lines})))
        # A file has one spelling; a line that differs has no id at first look, and gets a second one.
        is_camel = '"messageId"' in lines[0].as_py()
        for text in ("line", "case when json_valid(line) then line end"):
            given = spec.given_id(text, is_camel=is_camel)
            try:
                answer = self._scratch.execute(
                    f"select {spec.hash_of('id')} as h from (select {given} as id from first_lines)"
                )
                column = answer.to_arrow_table().column("h").combine_chunks()
                break
            except duckdb.InvalidInputException:  # some line is not JSON: ask again, one by one
                continue
        is_suspect: Mask = np.asarray(column.is_null().to_numpy(zero_copy_only=False), bool)
        hashes: Hashes = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64)
        ordered = np.sort(hashes[~is_suspect])
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            is_suspect |= np.isin(hashes, twice)
        return FirstLook(hashes, is_suspect)

    def load(self, chunk: Chunk, look: FirstLook, origins: dict[int, Origin], tallies: dict[int, Tally]) -> None:
        """Put every line somewhere and count it, at the latest when the chunk is a boundary.

        Args:
            look: what `first_look` says of the chunk.
            origins: by index of the file.
            tallies: by index of the file; added to.
        """
        self._refused += [_from_fault(fault) for fault in chunk.faults]
        _count(tallies, chunk.file, "read")
        for fault in chunk.faults:
            tallies[fault.file].read += 1
        if len(chunk.lines):
            loads = np.array([origins[file].load_id for file in sorted(origins)], np.int64)
            load_ids = loads[np.searchsorted(np.array(sorted(origins)), chunk.file)]
            hashes = look.hashes
            is_suspect = look.is_suspect | self._is_known(hashes)
            self._ours = [origin.load_id for origin in origins.values() if origin.is_ours]
            done = self._stream(chunk.lines, load_ids, hashes, is_suspect)
            _count(tallies, chunk.file[done], "loaded")
            rest = np.flatnonzero(~done)
            if len(rest):
                table = {
                    "load_id": load_ids[rest],
                    "file": chunk.file[rest],
                    "line": chunk.line[rest],
                    "hash": hashes[rest],
                }
                self._left.append(pa.table(table | {"line_text": chunk.lines.take(pa.array(rest))}))
        if chunk.is_boundary or sum(len(table) for table in self._left) > _MOST_LEFT:
            self._quarantine(self.finish(tallies), origins, tallies)

    def finish(self, tallies: dict[int, Tally]) -> list[Refused]:
        """Look at what still waits; returns, and forgets, what was refused so far."""
        if self._left:
            self._with_care(pa.concat_tables(self._left), tallies)
            self._left = []
        refused, self._refused = self._refused, []
        return refused

    def _is_known(self, hashes: Hashes) -> Mask:
        """Which lines have an id that is in history or waits for a careful look, by hash."""
        waiting = [table.column("hash").to_numpy() for table in self._left]
        seen = np.concatenate([self._in_history(hashes[hashes != 0]), *waiting])
        return np.isin(hashes, seen[seen != 0])

    def _in_history(self, hashes: Hashes) -> Hashes:
        """Which of the hashes the table has. The one look that grows with history: a scan of one column of numbers."""
        self._con.register("new_hashes", pa.table({"h": np.unique(hashes)}))
        found = self._con.execute(
            "select message_hash as h, load_id from raw.events where message_hash in (select h from new_hashes)"
        ).fetchnumpy()
        self._con.unregister("new_hashes")
        if len(found["h"]):
            loads = np.asarray(found["load_id"], np.int64)
            self._known_loads += [int(loads.min()), int(loads.max())]
        return np.asarray(found["h"], np.uint64)

    def _stream(
        self,
        lines: pa.LargeStringArray,
        load_ids: npt.NDArray[np.int64],
        hashes: Hashes,
        is_suspect: Mask,
    ) -> Mask:
        """Insert every clean line that is no suspect; returns which were."""
        expected = int((~is_suspect).sum())
        if expected == 0:
            return np.zeros(len(lines), bool)
        table = pa.table(
            {
                "n": np.arange(len(lines), dtype=np.int64),
                "load_id": load_ids,
                "message_hash": pa.array(hashes, mask=is_suspect),
                "line_text": lines,
            }
        )
        self._con.register("fast_table", _for_threads(table))
        # A suspect may not be JSON at all, so its text is hidden and not only its row.
        self._con.execute(
            f"""
            insert into raw.events ({_TABLE_COLUMNS})
            with fast_lines as (
                select n, load_id, message_hash, case when message_hash is not null then line_text end as line
                from fast_table
            )
            select {_COLUMNS}, {_SOURCE}, load_id, message_hash from ({self._fast})
            where problem is null and message_hash is not null
            """,
            {"source": self._source, "ours": self._ours, "latest": self._latest},
        )
        inserted = self._con.fetchone()
        self._con.unregister("fast_table")
        if inserted is not None and int(inserted[0]) == expected:
            return ~is_suspect
        return self._stored(load_ids, hashes, is_suspect)

    def _stored(self, load_ids: npt.NDArray[np.int64], hashes: Hashes, is_suspect: Mask) -> Mask:
        """Which of the lines that are no suspects are in the table now."""
        self._con.register("new_hashes", pa.table({"h": hashes[~is_suspect]}))
        stored = self._con.execute(
            "select message_hash as h from raw.events "
            "where load_id between $1 and $2 and message_hash in (select h from new_hashes)",
            [int(load_ids.min()), int(load_ids.max())],
        ).fetchnumpy()["h"]
        self._con.unregister("new_hashes")
        return ~is_suspect & np.isin(hashes, stored)

    def _with_care(self, left: pa.Table, tallies: dict[int, Tally]) -> None:
        """Look at the lines that are left, one by one: load, call a duplicate, or refuse."""
        con = self._con
        table = left.append_column("n", pa.array(np.arange(len(left))))
        file, line = left.column("file").to_numpy(), left.column("line").to_numpy()
        con.register("careful_table", table)
        con.execute(
            f"""
            create or replace temp table careful as
            with careful_lines as (
                select n, load_id, null as message_hash,
                    case when json_valid(line_text) then
                        case when json_type(line_text) = 'OBJECT' then line_text end
                    end as line
                from careful_table
            )
            select m.* replace ({spec.hash_of("m.message_id")} as message_hash), t.hash <> 0 as had_id
            from ({self._careful}) as m join careful_table as t using (n)
            """,
            {"latest": self._latest},
        )
        con.unregister("careful_table")
        # Ids that were made from the content are looked up only now.
        derived = con.execute(
            "select message_hash as h from careful where problem is null and not had_id"
        ).fetchnumpy()["h"]
        if len(derived):
            self._in_history(np.asarray(derived, np.uint64))
        # The first that was received wins; what history has wins over both. Equal hashes are only a hint, so the
        # ids themselves are compared, in the few loads where the hint points to.
        con.execute(
            """
            create or replace temp table careful_new as
            select n from careful
            where problem is null
                and n not in (
                    select c.n from careful as c join raw.events as e using (message_hash, message_id)
                    where e.load_id between $1 and $2 and c.problem is null
                )
            qualify row_number() over (partition by message_id order by received_at, load_id, n) = 1
            """,
            [min(self._known_loads, default=0), max(self._known_loads, default=-1)],
        )
        self._known_loads = []
        con.execute(
            f"insert into raw.events ({_TABLE_COLUMNS}) select {_COLUMNS}, {_SOURCE}, load_id, message_hash "
            "from careful where n in (select n from careful_new) order by n",
            {"source": self._source, "ours": self._ours},
        )
        loaded = con.execute("select n from careful_new").fetchnumpy()["n"]
        clean = con.execute("select n from careful where problem is null").fetchnumpy()["n"]
        _count(tallies, file[loaded], "loaded")
        _count(tallies, file[np.setdiff1d(clean, loaded)], "duplicates")
        broken = con.execute(
            f"select n, problem, received_at, {_SOURCE} from careful where problem is not null order by n",
            {"source": self._source, "ours": self._ours},
        ).fetchall()
        con.execute("drop table careful")
        con.execute("drop table careful_new")
        texts = left.column("line_text")
        for n, problem, received_at, source in broken:
            payload = texts[n].as_py().rstrip("\r\n").replace("\0", "\\x00")
            reason, detail = explain(problem, payload, self._contracts)
            self._refused.append(
                Refused(
                    file=int(file[n]),
                    line=int(line[n]),
                    reason=reason,
                    detail=f"line {line[n]}: {detail}",
                    payload=payload,
                    received_at=received_at,
                    source=source,
                )
            )

    def _quarantine(self, refused: list[Refused], origins: dict[int, Origin], tallies: dict[int, Tally]) -> None:
        """Keep what was refused; what is there already, from an earlier state of the same file, is a duplicate."""
        if not refused:
            return
        con = self._con
        table = pa.table(
            {
                "file": [item.file for item in refused],
                "load_id": [origins[item.file].load_id for item in refused],
                "name": [origins[item.file].name for item in refused],
                "line": [item.line for item in refused],
                "reason": [item.reason for item in refused],
                "detail": [item.detail for item in refused],
                "payload": [item.payload for item in refused],
                "received_at": pa.array([item.received_at for item in refused], pa.timestamp("us")),
                "source": [item.source or self._source for item in refused],
            }
        )
        con.register("refused_table", table)
        con.execute(
            """
            create or replace temp table refused as
            with named as (
                select *, md5(to_json([name, line::varchar, payload])::varchar) as quarantine_id from refused_table
            )
            select named.* from named
            where quarantine_id not in (
                select q.quarantine_id from raw.quarantine as q where q.file in (select name from named)
            )
            """
        )
        con.unregister("refused_table")
        con.execute(
            """
            insert into raw.quarantine
                (quarantine_id, received_at, reason, detail, payload, source, file, line, load_id, replayed_at)
            select quarantine_id, coalesce(received_at, $as_of), reason, detail, payload, source, name, line, load_id,
                null
            from refused order by load_id, line
            """,
            {"as_of": self._as_of},
        )
        kept = np.asarray(con.execute("select file from refused").fetchnumpy()["file"], np.int64)
        con.execute("drop table refused")
        _count(tallies, kept, "quarantined")
        for item in refused:
            tallies[item.file].duplicates += 1
        for file in kept:
            tallies[int(file)].duplicates -= 1


def _for_threads(table: pa.Table) -> pa.Table:
    """The same table in pieces, so that DuckDB's threads can share it."""
    return pa.Table.from_batches(table.to_batches(max_chunksize=len(table) // _BATCHES + 1))


def _from_fault(fault: Fault) -> Refused:
    return Refused(
        file=fault.file,
        line=fault.line,
        reason=fault.reason,
        detail=fault.detail,
        payload=fault.payload,
        received_at=None,
    )


def _count(tallies: dict[int, Tally], files: npt.NDArray[np.int64], what: str) -> None:
    indexes, counts = np.unique(files, return_counts=True)
    for index, count in zip(indexes, counts, strict=True):
        setattr(tallies[int(index)], what, getattr(tallies[int(index)], what) + int(count))
