"""Rows of Python into tables, and single values out of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from segue.warehouse.connect import Connection


@contextmanager
def as_view(con: Connection, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The rows as a view for one statement; yields its name."""
    import pandas as pd

    values = zip(*rows, strict=True)
    frame = pd.DataFrame({name: pd.Series(list(v), dtype=object) for name, v in zip(columns, values, strict=True)})
    con.register("new_rows", frame)
    try:
        yield "new_rows"
    finally:
        con.unregister("new_rows")


def insert_rows(con: Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert by name in one statement; each statement writes a file, so never one per row."""
    names = ", ".join(columns)
    with as_view(con, columns, rows) as view:
        con.execute(f"insert into {table} ({names}) select {names} from {view}")


def scalar(con: Connection, query: str, parameters: list[Any] | None = None) -> Any:
    """The only value of the only row."""
    row = con.execute(query, parameters or []).fetchone()
    assert row is not None
    return row[0]


def row_count(con: Connection, table: str) -> int:
    """How many rows a table has."""
    return int(scalar(con, f"select count(*) from {table}"))
