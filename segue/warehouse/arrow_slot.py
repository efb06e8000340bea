"""A name that DuckDB has planned with, and what is read under it."""

import pyarrow as pa


class ArrowSlot:
    """To be registered on a connection: its `table` may be replaced by another one of the same schema at any time."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)
