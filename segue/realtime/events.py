"""What arrives: which messages are new, and whom they concern."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segue.clock import from_warehouse, to_warehouse
from segue.identifiers import ID_COLUMNS
from segue.realtime.people import People
from segue.realtime.sql import memory
from segue.realtime.staging import Staging

Ints = npt.NDArray[np.int64]

#: Columns that name identifiers beside ID_COLUMNS. All that can be used of one event are in one component.
_MORE_IDS = ("previous_id", "external_ids")

#: What identifiers and links may depend on, so that the same ids need not be looked at twice.
IDENTITY_COLUMNS = frozenset(
    (*ID_COLUMNS, *_MORE_IDS, "event_type", "message_id", "occurred_at", "received_at", "load_id")
)

#: Hashes that are kept one by one before they are sorted in among the others.
_LOOSE = 500_000

_HASH = "message_hash"
_STAMP = pa.timestamp("us")


class Seen:
    """Messages by hash of their ids: the 64 bits by which the warehouse looks them up as well."""

    def __init__(self) -> None:
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._loose: set[int] = set()

    def fill(self, hashes: pa.Array) -> None:
        """These are known."""
        self._sorted = np.union1d(self._sorted, np.asarray(hashes.to_numpy(zero_copy_only=False), np.uint64))

    def new(self, raw: pa.Table) -> pa.Table:
        """The messages that are not known yet, the first received of each id; they are known afterwards."""
        if not raw.num_rows:
            return raw
        if _HASH not in raw.column_names or raw[_HASH].null_count:
            raw = _with_hashes(raw)
        order = pc.sort_indices(raw, sort_keys=[("received_at", "ascending")]) if raw.num_rows > 1 else None
        if order is not None:
            raw = raw.take(order)
        hashes = raw[_HASH].to_numpy().astype(np.uint64)
        place = np.searchsorted(self._sorted, hashes)
        place[place == len(self._sorted)] = 0
        is_old = self._sorted[place] == hashes if len(self._sorted) else np.zeros(len(hashes), bool)
        keep = []
        for at, (one, old) in enumerate(zip(hashes.tolist(), is_old.tolist(), strict=True)):
            if not old and one not in self._loose:
                self._loose.add(one)
                keep.append(at)
        if len(self._loose) > _LOOSE:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._loose, np.uint64, len(self._loose)))
            self._loose.clear()
        return raw if len(keep) == raw.num_rows else raw.take(pa.array(keep, pa.int64()))


class Future:
    """Messages that were received later than the clock says it is: an import can bring such."""

    def __init__(self) -> None:
        self._waiting: list[pa.Table] = []
        self.next_at: datetime | None = None  # when the first of them counts (aware)

    def hold_back(self, raw: pa.Table, as_of: datetime) -> pa.Table:
        """The messages that count already; the others wait here."""
        received = raw["received_at"].cast(_STAMP)
        is_later = pc.greater(received, pa.scalar(to_warehouse(as_of), _STAMP))
        if not pc.any(is_later).as_py():
            return raw
        waiting = raw.filter(is_later)
        self._waiting.append(waiting)
        first = from_warehouse(pc.min(waiting["received_at"].cast(_STAMP)).as_py())
        self.next_at = first if self.next_at is None else min(first, self.next_at)
        return raw.filter(pc.invert(is_later))

    def arrived(self, as_of: datetime) -> list[pa.Table]:
        """Those whose time may have come; to be held back again as far as it has not."""
        if self.next_at is None or self.next_at > as_of:
            return []
        waiting, self._waiting, self.next_at = self._waiting, [], None
        return waiting


def _with_hashes(raw: pa.Table) -> pa.Table:
    with memory() as con:
        con.register("arrived", raw.select(["message_id"]).append_column("n", pa.array(np.arange(raw.num_rows))))
        found = con.execute("select md5_number_lower(message_id) as h from arrived order by n").to_arrow_table()
    if _HASH in raw.column_names:
        raw = raw.drop([_HASH])
    return raw.append_column(_HASH, found["h"])


class Arrivals:
    """Connects staged events with components.

    Identifiers and links are asked of the models stg_identifiers and stg_links only where an event has ids that have
    not been seen together before: nearly all have.

    Args:
        staging: runs the models.
        people: learns from what they say.
        needs_sightings: some model reads when an identifier was seen first or last, so every event counts.
    """

    def __init__(self, staging: Staging, people: People, *, needs_sightings: bool) -> None:
        self._staging = staging
        self._people = people
        self._needs_all = needs_sightings or staging.identity_reads_more_than(IDENTITY_COLUMNS)
        self._known: dict[tuple[Any, ...], tuple[int, int]] = {}  # ids of an event → an identifier, first occurred
        self._columns = [name for name in (*ID_COLUMNS, *_MORE_IDS) if name in staging.types]

    def learn(self, staged: pa.Table, as_of: datetime, dirty: set[int]) -> list[int]:
        """An identifier of each event (-1: it has none); components that must be resolved anew are put into `dirty`."""
        occurred = staged["occurred_at"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
        keys = self._keys(staged)
        unknown: dict[int, int] = {}  # place → moment
        for at, (key, moment) in enumerate(zip(keys, occurred, strict=True)):
            known = self._known.get(key)
            if known is None or moment < known[1]:
                unknown[at] = moment
                self._known[key] = (-1, moment)
        if unknown or self._needs_all:
            chosen = staged if self._needs_all else staged.take(pa.array(list(unknown)))
            dirty |= self._people.learn(self._staging.identifiers(chosen, as_of), self._staging.links(chosen, as_of))
        for at in unknown:
            self._known[keys[at]] = (self._node(keys[at]), self._known[keys[at]][1])
        return [self._known[key][0] for key in keys]

    def learn_all(self, staged: pa.Table, as_of: datetime) -> Ints:
        """The same for a whole history: an identifier of each event."""
        self._people.learn(self._staging.identifiers(staged, as_of), self._staging.links(staged, as_of))
        columns = ", ".join(f'"{name}"' for name in ("event_type", *self._columns))
        with memory() as con:
            con.register("staged", staged.append_column("n", pa.array(np.arange(staged.num_rows))))
            con.execute(
                f"create temp table together as select {columns}, min(occurred_at) as first_at from staged group by all"
            )
            con.execute("create temp table numbered as select *, row_number() over () - 1 as number from together")
            groups = con.execute("from numbered order by number").to_arrow_table()
            same = " and ".join(f'a."{c}" is not distinct from b."{c}"' for c in ("event_type", *self._columns))
            number = con.execute(
                f"select b.number from staged a join numbered b on {same} order by a.n"
            ).to_arrow_table()
        nodes = []
        first = groups["first_at"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
        for key, moment in zip(self._keys(groups), first, strict=True):
            node = self._node(key)
            self._known[key] = (node, moment)
            nodes.append(node)
        found: Ints = np.array(nodes or [-1], np.int64)[number["number"].to_numpy()]
        return found

    def roots_of(self, nodes: Ints) -> Ints:
        """The component of each identifier; -1 stays."""
        distinct, inverse = np.unique(nodes, return_inverse=True)
        roots = np.array([self._people.root(n) if n >= 0 else -1 for n in distinct.tolist()], np.int64)
        found: Ints = roots[inverse] if len(roots) else nodes
        return found

    def _keys(self, staged: pa.Table) -> Sequence[tuple[Any, ...]]:
        return list(zip(*(staged[name].to_pylist() for name in ("event_type", *self._columns)), strict=True))

    def _node(self, key: tuple[Any, ...]) -> int:
        """An identifier of an event, by which its component is found: links have put all of them into one."""
        for name, value in zip(self._columns, key[1:], strict=True):
            kind = ID_COLUMNS.get(name)
            if value is not None and kind is not None:
                node = self._people.known((kind, value))
                if node >= 0:
                    return node
        return -1
