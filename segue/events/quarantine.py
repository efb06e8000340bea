"""What waits in quarantine, and the way back once the contract is fixed."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from segue.clock import to_warehouse
from segue.errors import BadInputError
from segue.events.contracts import Contract, load_contracts
from segue.events.explain import REASONS
from segue.events.lines import Chunk, without_nul
from segue.events.loader import Loader, Origin, Refused, Tally
from segue.events.spec import TOLERANCE
from segue.events.tables import REPLAY, ensure_tables, has_tables
from segue.warehouse import Connection, Warehouse, scalar

#: Of these only a piece was kept, so there is nothing to put back.
NOT_WHOLE = ("truncated_file", "line_too_long", "bad_encoding")

#: Messages that are put back in one transaction.
_BATCH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A message in quarantine."""

    quarantine_id: str
    received_at: datetime  # naive UTC, as in the warehouse
    reason: str
    detail: str
    payload: str
    source: str
    file: str
    line: int
    replayed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay did: tried = loaded + duplicates + remaining."""

    tried: int
    loaded: int
    duplicates: int
    remaining: Mapping[str, int]  # still in quarantine, by the reason they have now
    not_whole: int  # not tried, since only a piece of the message was kept


def list_quarantined(con: Connection, *, reason: str | None = None, limit: int | None = 100) -> list[Quarantined]:
    """What waits in quarantine, the newest first.

    Args:
        reason: only this reason.
        limit: at most so many; None for all.

    Raises:
        BadInputError: when the reason is not one.
    """
    _check_reason(reason)
    if not has_tables(con):
        return []
    rows = con.execute(
        f"""
        select {_COLUMNS} from raw.quarantine
        where replayed_at is null and ($1 is null or reason = $1)
        order by load_id desc, file, line limit $2
        """,
        [reason, limit],
    ).fetchall()
    return [_quarantined(row) for row in rows]


def show_quarantined(con: Connection, quarantine_id: str) -> Quarantined:
    """One message, by its id or the beginning of it.

    Raises:
        BadInputError: when there is none, or the beginning fits several.
    """
    rows = []
    if has_tables(con):
        query = f"select {_COLUMNS} from raw.quarantine where starts_with(quarantine_id, $1) limit 2"
        rows = con.execute(query, [quarantine_id]).fetchall()
    if not rows:
        raise BadInputError(
            f"no message in quarantine has the id {quarantine_id}", fix="`segue quarantine list` shows the ids"
        )
    if len(rows) > 1:
        raise BadInputError(f"several ids begin with {quarantine_id}", fix="give more letters of the id")
    return _quarantined(rows[0])


def replay(
    warehouse: Warehouse, *, as_of: datetime, reason: str | None = None, ids: Collection[str] = ()
) -> ReplayReport:
    """Check messages in quarantine again, with today's contracts, and load those that are good now.

    Each goes back exactly once: the event, its mark in `raw.quarantine` and the ledger are one transaction. A
    message that is still not good stays, with its reason of today.

    Args:
        as_of: becomes `replayed_at` and `loaded_at`.
        reason: only messages with this reason.
        ids: only these quarantine ids.

    Raises:
        BadInputError: when an id or reason does not exist.
        DefinitionError: when a contract is wrong.
    """
    _check_reason(reason)
    contracts = load_contracts(warehouse.settings.dbt_project / "contracts")
    loaded = duplicates = tried = 0
    remaining: Counter[str] = Counter()
    with warehouse.writer("quarantine replay") as con:
        ensure_tables(con)
        chosen = [show_quarantined(con, one).quarantine_id for one in ids]
        con.execute("create temp table chosen (quarantine_id varchar)")
        if chosen:
            con.execute("insert into chosen select unnest($1::varchar[])", [chosen])
        where = (
            "replayed_at is null and ($1 is null or reason = $1) "
            "and ($2 = 0 or quarantine_id in (select quarantine_id from chosen))"
        )
        not_whole = f"reason in ({', '.join(repr(name) for name in NOT_WHOLE)})"
        pieces = int(
            scalar(con, f"select count(*) from raw.quarantine where {where} and {not_whole}", [reason, len(chosen)])
        )
        rows = con.execute(
            f"""
            select quarantine_id, payload, source, line from raw.quarantine
            where {where} and not {not_whole} order by source, load_id, file, line
            """,
            [reason, len(chosen)],
        ).fetchall()
        for batch in _batches(rows):
            tally, reasons = _replay_batch(warehouse, con, contracts, batch, as_of=as_of)
            tried += len(batch)
            loaded += tally.loaded
            duplicates += tally.duplicates
            remaining += reasons
    return ReplayReport(
        tried=tried, loaded=loaded, duplicates=duplicates, remaining=dict(sorted(remaining.items())), not_whole=pieces
    )


def _replay_batch(
    warehouse: Warehouse,
    con: Connection,
    contracts: Sequence[Contract],
    batch: Sequence[tuple[str, str, str, int]],
    *,
    as_of: datetime,
) -> tuple[Tally, "Counter[str]"]:
    con.execute("begin")
    source = batch[0][2]
    loader = Loader(con, contracts, as_of=as_of, latest=as_of + TOLERANCE, source=source)
    try:
        load_id = int(scalar(con, "select coalesce(max(load_id), 0) + 1 from raw.loads"))
        chunk = Chunk(
            lines=pa.array([without_nul(payload) for _, payload, _, _ in batch], pa.large_string()),
            file=np.zeros(len(batch), np.int64),
            line=np.arange(len(batch), dtype=np.int64),
            faults=(),
            is_boundary=False,
            files_done=0,
        )
        tallies = {0: Tally()}
        loader.load(chunk, loader.first_look(chunk.lines), {0: Origin(load_id=load_id, name=REPLAY)}, tallies)
        refused = loader.finish(tallies)
        still = {item.line: item for item in refused}
        _update(con, batch, still, as_of)
        tally = tallies[0]
        moved = tally.loaded + tally.duplicates
        assert moved + len(still) == len(batch), (moved, len(still), len(batch))
        if moved:
            con.execute(
                "insert into raw.loads values ($1, $2, $3, null, null, $4, $5, $6, 0, $7)",
                [load_id, source, REPLAY, moved, tally.loaded, tally.duplicates, to_warehouse(as_of)],
            )
        warehouse.commit(con)
    finally:
        loader.close()
    return tally, Counter(item.reason for item in refused)


def _update(
    con: Connection, batch: Sequence[tuple[str, str, str, int]], still: Mapping[int, Refused], as_of: datetime
) -> None:
    marks = pa.table(
        {
            "quarantine_id": [one[0] for one in batch],
            "reason": [still[n].reason if n in still else None for n in range(len(batch))],
            # The sentence names the line of the file, not of this batch.
            "detail": [
                f"line {batch[n][3]}: {still[n].detail.partition(': ')[2]}" if n in still else None
                for n in range(len(batch))
            ],
        }
    )
    con.register("marks_table", marks)
    con.execute("create or replace temp table marks as from marks_table")
    con.unregister("marks_table")
    con.execute(
        "update raw.quarantine set replayed_at = $1 "
        "where quarantine_id in (select quarantine_id from marks where reason is null)",
        [to_warehouse(as_of)],
    )
    con.execute(
        """
        update raw.quarantine as q set reason = m.reason, detail = m.detail from marks as m
        where q.quarantine_id = m.quarantine_id and m.reason is not null
            and (q.reason <> m.reason or q.detail <> m.detail)
        """
    )
    con.execute("drop table marks")


_COLUMNS = "quarantine_id, received_at, reason, detail, payload, source, file, line, replayed_at"


def _quarantined(row: tuple[object, ...]) -> Quarantined:
    return Quarantined(**dict(zip(_COLUMNS.split(", "), row, strict=True)))  # type: ignore[arg-type]


def _batches(rows: Sequence[tuple[str, str, str, int]]) -> "list[Sequence[tuple[str, str, str, int]]]":
    """Runs of one source, of bounded length."""
    batches: list[list[tuple[str, str, str, int]]] = []
    for row in rows:
        if not batches or batches[-1][0][2] != row[2] or len(batches[-1]) >= _BATCH:
            batches.append([])
        batches[-1].append(row)
    return list(batches)


def _check_reason(reason: str | None) -> None:
    if reason is not None and reason not in REASONS:
        raise BadInputError(f"no reason is called {reason}", fix=f"one of: {', '.join(REASONS)}")
