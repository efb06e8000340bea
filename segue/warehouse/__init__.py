"""The warehouse: DuckLake (Parquet files and a small SQL catalog), read by many while one writes.

Promises: a reader sees one committed state and never waits for a writer; a write is whole or absent,
after kill -9 too; one writer at a time, whichever process it is in.
Never: knows what the tables mean.
"""

from segue.warehouse.arrow_slot import ArrowSlot
from segue.warehouse.connect import Connection, Warehouse, has_table, is_disk_full, relations
from segue.warehouse.lock import WriterLock
from segue.warehouse.maintenance import MaintenanceReport, maintain
from segue.warehouse.patience import patience, too_long
from segue.warehouse.rows import as_view, insert_rows, row_count, scalar

__all__ = [
    "ArrowSlot",
    "Connection",
    "MaintenanceReport",
    "Warehouse",
    "WriterLock",
    "as_view",
    "has_table",
    "insert_rows",
    "is_disk_full",
    "maintain",
    "patience",
    "relations",
    "row_count",
    "scalar",
    "too_long",
]
