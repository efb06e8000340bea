"""The spec and the contracts for a few messages in memory: the query that loads files, planned once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa

from segue.clock import to_warehouse
from segue.events import spec
from segue.events.contracts import Contract
from segue.events.explain import explain
from segue.events.lines import as_text, mend_nul
from segue.warehouse import ArrowSlot

#: What stands in `source` when a line does not say.
_SOURCE = "collector"

_LINE_SCHEMA = pa.schema([("n", pa.int64()), ("line_text", pa.large_string())])
_LATEST_SCHEMA = pa.schema([("latest", pa.timestamp("us"))])


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A line that ingest will put into quarantine."""

    line: int  # from 0, blank lines left out
    reason: str
    detail: str
    payload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Lines, each on one of two sides."""

    accepted: pa.Table  # the columns of raw.events, in the order of the lines; load_id is NULL; duplicates stay
    refused: tuple[RefusedLine, ...]


class Judge:
    """Judges lines that the collector wrote, as ingest does with the same lines later. One thread at a time.

    Args:
        contracts: what messages are held to after the spec.
    """

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._contracts: Mapping[str, Contract] = {contract.name: contract for contract in contracts}
        self._con = duckdb.connect(":memory:", config={"threads": 1})
        self._con.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
        self._lines = ArrowSlot(_LINE_SCHEMA.empty_table())
        self._latest = ArrowSlot(_LATEST_SCHEMA.empty_table())
        self._con.register("judge_lines", self._lines)
        self._con.register("judge_latest", self._latest)
        query = spec.messages("spelled_lines", self._contracts.values())
        # A statement parameter would have it planned anew each time, which takes longer than a small batch.
        query = query.replace("$latest", "(select latest from judge_latest)")
        is_object = (
            "case when json_valid(line_text) then case when json_type(line_text) = 'OBJECT' then line_text end end"
        )
        for name, text in (("judge_fast", "line_text"), ("judge_careful", is_object)):
            self._con.execute(
                f"""
                prepare {name} as
                with spelled_lines as (
                    select n, null::bigint as load_id, null::ubigint as message_hash, {text} as line from judge_lines
                )
                select {", ".join(spec.COLUMNS)}, coalesce(own_source, {spec.quote(_SOURCE)}) as source, load_id,
                    {spec.hash_of("message_id")} as message_hash, problem, n
                from ({query})
                """
            )

    def close(self) -> None:
        """Free the memory."""
        self._con.close()

    def judge(self, lines: bytes, *, latest: datetime) -> Judged:
        """Messages as rows of `raw.events`, and what is wrong with the others.

        Args:
            lines: one JSON object a line, as in the log and in the files of the landing writer.
            latest: a message that is younger is from the future (aware UTC).
        """
        texts, broken = _texts(lines)
        if not len(texts):
            return Judged(accepted=self._answer("judge_fast", texts, latest)[0], refused=broken)
        try:
            accepted, problems = self._answer("judge_fast", texts, latest)
            if problems:  # some may be JSON but no object, which the fast look takes for an empty message
                numbers = [n for n, _ in problems]
                again = self._answer("judge_careful", texts.take(pa.array(numbers)), latest)[1]
                problems = [(numbers[n], problem) for n, problem in again]
        except duckdb.InvalidInputException:  # some line is not JSON
            accepted, problems = self._answer("judge_careful", texts, latest)
        refused = []
        for n, problem in problems:
            payload = as_text(texts[n].as_py().encode())
            reason, detail = explain(problem, payload, self._contracts)
            refused.append(RefusedLine(line=n, reason=reason, detail=detail, payload=payload))
        return Judged(accepted=accepted, refused=(*broken, *refused))

    def _answer(
        self, statement: str, texts: pa.LargeStringArray, latest: datetime
    ) -> tuple[pa.Table, list[tuple[int, str]]]:
        self._lines.table = pa.table([np.arange(len(texts), dtype=np.int64), texts], schema=_LINE_SCHEMA)
        self._latest.table = pa.table([[to_warehouse(latest)]], schema=_LATEST_SCHEMA)
        found = self._con.execute(f"execute {statement}").to_arrow_table()
        problem = found["problem"]
        numbers = found["n"].to_numpy()
        found = found.drop_columns(["problem", "n"])
        if problem.null_count == len(problem):
            return found, []
        is_good = problem.is_null().to_numpy()
        pairs = zip(numbers[~is_good].tolist(), problem.filter(pa.array(~is_good)).to_pylist(), strict=True)
        return found.filter(pa.array(is_good)), sorted(pairs)


def _texts(lines: bytes) -> tuple[pa.LargeStringArray, tuple[RefusedLine, ...]]:
    """The lines that are not blank, as one array over the same bytes; and those that are not UTF-8."""
    mended = bytearray(lines)
    mend_nul(mended, len(mended))
    lines = bytes(mended)
    data = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(data == ord("\n")).astype(np.int64) + 1
    if not len(ends) or ends[-1] < len(data):
        ends = np.append(ends, len(data))
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    is_short = np.flatnonzero(ends - starts <= 8)
    if not len(is_short):
        texts = pa.LargeStringArray.from_buffers(
            len(starts), pa.py_buffer(np.append(starts, ends[-1])), pa.py_buffer(lines)
        )
        try:
            texts.validate(full=True)
            return texts, ()
        except pa.ArrowInvalid:
            pass
    kept: list[str] = []
    broken = []
    for line in (line for line in lines.split(b"\n") if line.strip()):
        try:
            kept.append(line.decode())
        except UnicodeDecodeError:
            detail = "the line is not UTF-8"
            broken.append(RefusedLine(line=-1, reason="bad_encoding", detail=detail, payload=as_text(line)))
    return pa.array(kept, pa.large_string()), tuple(broken)
