"""Keeps the warehouse small and quick, without ever disturbing a reader.

Small files are rewritten in an ordinary transaction instead of `ducklake_merge_adjacent_files`: on a SQLite
catalog a reader that overlaps that call sees torn states (docs/decisions/0001-warehouse.md).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from segue.warehouse.connect import LAKE, Connection, Warehouse

#: A table is rewritten when it has more files than this and they are small on average.
_MANY_FILES = 30
_SMALL_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceReport:
    """What one round did."""

    rewritten: tuple[str, ...]  # schema.table
    expired_snapshots: int
    removed_files: int


def maintain(warehouse: Warehouse, *, as_of: datetime) -> MaintenanceReport:
    """Rewrite tables of many small files, forget states older than `SEGUE_SNAPSHOT_HOURS`, remove dead files.

    A reader that holds one state for longer than that may lose it; every other reader notices nothing.

    Args:
        as_of: the time from which the age of a state is counted; the wall clock, since snapshots carry it.
    """
    with warehouse.writer("maintenance") as con:
        rewritten = tuple(_rewrite(warehouse, con, name) for name in _fragmented(con))
        keep_from = as_of - timedelta(hours=warehouse.settings.snapshot_hours)
        expired = _replaced_before(con, keep_from)
        if expired:
            con.execute(f"call ducklake_expire_snapshots('{LAKE}', versions => $1::ubigint[])", [expired])
        # `call`, not `select`: a projection would list what is due without doing it.
        removed = sum(
            len(con.execute(f"call {function}('{LAKE}', older_than => $1::timestamptz)", [keep_from]).fetchall())
            for function in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files")
        )
    return MaintenanceReport(rewritten=rewritten, expired_snapshots=len(expired), removed_files=removed)


def _replaced_before(con: Connection, moment: datetime) -> list[int]:
    """States that were already replaced by a newer one then.

    By the time of the successor, not of the state: the newest state of a quiet week is a week old, and yet
    somebody may have begun to read it a second before it is replaced.
    """
    rows = con.execute(
        f"""
        select snapshot_id
        from (
            select snapshot_id, lead(snapshot_time) over (order by snapshot_id) as replaced_at
            from ducklake_snapshots('{LAKE}')
        )
        where replaced_at < $1::timestamptz
        """,
        [moment],
    ).fetchall()
    return [snapshot for (snapshot,) in rows]


def _fragmented(con: Connection) -> list[str]:
    """Quoted names of the tables worth rewriting: many small data files, or many delete files."""
    rows = con.execute(
        f"""
        select '"' || schema_name || '"."' || table_name || '"'
        from ducklake_table_info('{LAKE}')
        join __ducklake_metadata_{LAKE}.ducklake_schema using (schema_id)
        where end_snapshot is null
          and ((file_count > $1 and file_size_bytes / file_count < $2) or delete_file_count > $1)
        """,
        [_MANY_FILES, _SMALL_BYTES],
    ).fetchall()
    return [name for (name,) in rows]


def _rewrite(warehouse: Warehouse, con: Connection, name: str) -> str:
    con.execute("begin")
    con.execute(f"create or replace temp table compacted as select * from {name}")
    con.execute(f"delete from {name}")
    con.execute(f"insert into {name} select * from compacted")
    warehouse.commit(con)
    con.execute("drop table compacted")
    return name.replace('"', "")
