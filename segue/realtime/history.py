"""The staged events of everyone, by component, in memory: what is appended is never moved, only folded."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]

#: Rows of one piece of the sorted part: the offsets of Arrow's strings are 32 bits wide.
PIECE = 1_000_000


class History:
    """Rows by component. A component is a number; its rows are spans of one growing sequence of rows.

    Args:
        schema: of the rows.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._pieces: list[pa.Table] = []
        self._starts: list[int] = []  # number of the first row of each piece
        self._sorted = 0  # pieces from the first fill, which never change
        self._spans: dict[int, list[int]] = {}  # component → start, end, start, end, …
        self.row_count = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return sum(piece.nbytes for piece in self._pieces)

    def fill(self, rows: pa.Table, component: Ints) -> None:
        """The first rows: sorted by component, so that those of one lie together."""
        order = np.argsort(component, kind="stable")
        ordered = component[order]
        for start in range(0, len(order), PIECE):
            self._add_piece(rows.take(pa.array(order[start : start + PIECE])).combine_chunks())
        self._sorted = len(self._pieces)
        firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
        ends = np.append(firsts, len(ordered))[1:]
        for one, start, end in zip(ordered[firsts].tolist(), firsts.tolist(), ends.tolist(), strict=True):
            self._spans.setdefault(one, []).extend((start, end))

    def append(self, rows: pa.Table, components: Sequence[int]) -> None:
        """More rows, with the component of each."""
        if not rows.num_rows:
            return
        row = self.row_count
        self._add_piece(rows)
        for one in components:
            span = self._spans.get(one)
            if span is None:
                self._spans[one] = [row, row + 1]
            elif span[-1] == row:
                span[-1] = row + 1
            else:
                span += (row, row + 1)
            row += 1
        # Pieces double in size, so that there are few of them and each row is copied a few times only.
        while len(self._pieces) > self._sorted + 1:
            last, before = self._pieces[-1], self._pieces[-2]
            if before.num_rows > 2 * last.num_rows or before.num_rows + last.num_rows > PIECE:
                break
            self._pieces[-2:] = [pa.concat_tables([before, last]).combine_chunks()]
            self._starts.pop()

    def join(self, into: int, gone: int) -> None:
        """Two components have become one."""
        span = self._spans.pop(gone, None)
        if span:
            self._spans.setdefault(into, []).extend(span)

    def count(self, component: int) -> int:
        """How many rows a component has."""
        span = self._spans.get(component, [])
        return sum(span[1::2]) - sum(span[::2])

    def take(self, components: Iterable[int]) -> pa.Table:
        """The rows of these components, in any order."""
        flat: list[int] = []
        for one in components:
            flat += self._spans.get(one, ())
        if not flat:
            return self.schema.empty_table()
        spans = np.array(flat, dtype=np.int64).reshape(-1, 2)
        lengths = spans[:, 1] - spans[:, 0]
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) + np.repeat(spans[:, 0] - ends + lengths, lengths)
        if len(self._pieces) == 1:
            return self._pieces[0].take(pa.array(rows))
        piece = np.searchsorted(np.array(self._starts), rows, side="right") - 1
        parts = []
        for number in np.unique(piece).tolist():
            local = rows[piece == number] - self._starts[number]
            parts.append(self._pieces[number].take(pa.array(local)))
        return pa.concat_tables(parts)

    def _add_piece(self, rows: pa.Table) -> None:
        self._pieces.append(rows)
        self._starts.append(self.row_count)
        self.row_count += rows.num_rows
