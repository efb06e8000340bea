"""What the landing writer left in the landing zone goes once the warehouse has had it for long."""

import re
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from segue.clock import to_warehouse
from segue.errors import BadInputError
from segue.events.landing import look
from segue.events.loader import COLLECTED
from segue.events.quarantine import NOT_WHOLE
from segue.events.tables import has_tables
from segue.settings import Settings
from segue.warehouse import Connection

#: What the landing writer calls its files: the day, and the positions of the log that they lie between.
_OURS = re.compile(rf"{COLLECTED}/(\d{{4}}-\d{{2}}-\d{{2}}|undated)/(0000-start|\d+-\d+)_\d+-\d+\.ndjson\.zst")


def remove_read_files(settings: Settings, con: Connection, *, as_of: datetime) -> int:
    """Remove files of the landing writer that were read more than `SEGUE_LANDING_DAYS` ago; how many.

    Each as it was read and no other: name, size and time are those of the ledger. A file in which something could not
    be read at all stays, and so does everything that others have put into the landing zone.

    Args:
        con: a reader of the warehouse.
        as_of: aware UTC.
    """
    if not settings.landing_days or not has_tables(con):
        return 0
    read = con.execute(
        f"""
        select file, file_size, epoch_us(file_modified_at) as changed from raw.loads
        where starts_with(file, '{COLLECTED}/') and loaded_at < $1 and file_modified_at < $1 and file not in (
            select file from raw.quarantine where file is not null and list_contains($2, reason)
        )
        """,
        [to_warehouse(as_of - timedelta(days=settings.landing_days)), list(NOT_WHOLE)],
    ).fetchnumpy()
    sizes, changed = (np.ma.filled(read[name], -1).tolist() for name in ("file_size", "changed"))
    ledger = dict(zip(read["file"].tolist(), zip(sizes, changed, strict=True), strict=True))
    removed = 0
    folders: set[Path] = set()
    for path in (settings.landing_zone / COLLECTED).glob("*/*.ndjson.zst"):
        name = str(path.relative_to(settings.landing_zone))
        if name not in ledger or not _OURS.fullmatch(name) or path.is_symlink():
            continue
        with suppress(BadInputError, FileNotFoundError):
            file = look(path, name)
            if (file.size, file.modified_us) == ledger[name]:
                path.unlink()
                removed += 1
                folders.add(path.parent)
    for folder in folders:
        with suppress(OSError):  # something is in it still
            folder.rmdir()
    return removed
