"""What was read long ago leaves the landing zone, and nothing else does."""

import os
from datetime import timedelta

from segue.events import ingest, pending_files, remove_read_files
from segue.events.retention import NOT_WHOLE

OURS = "collected/2026-02-01/0000-start_1769940002000-000000.ndjson.zst"


def test_only_files_of_the_landing_writer_that_were_read_long_ago_are_removed(
    warehouse, settings, message, write, as_of
) -> None:
    def removed(days: float) -> int:
        with warehouse.read() as con:
            return remove_read_files(settings, con, as_of=as_of + timedelta(days=days))

    def file(name: str, number: int) -> None:
        path = write(name, [message(number)])
        os.utime(path, (as_of.timestamp(), as_of.timestamp()))

    second = "collected/2026-02-02/1769940002000-000000_1769940003000-000000.ndjson.zst"
    broken = "collected/2026-02-02/1769940003000-000000_1769940004000-000000.ndjson.zst"
    grown = "collected/2026-02-02/1769940004000-000000_1769940005000-000000.ndjson.zst"
    theirs = ["export.ndjson", "collected/2026-02-01/export.ndjson.zst", "collected/export/1-1_2-2.ndjson.zst"]
    for number, name in enumerate([OURS, second, broken, grown, *theirs]):
        file(name, number)
    assert removed(400) == 0  # nothing was read
    ingest(warehouse, as_of=as_of)
    assert pending_files(settings, None).files
    with warehouse.write("a piece that could not be read") as con:
        con.execute("update raw.quarantine set file = file")
        con.execute("insert into raw.quarantine (reason, file) values ($1, $2)", [sorted(NOT_WHOLE)[0], broken])
    file(grown, 98)
    with (settings.landing_zone / grown).open("ab") as more:
        more.write(b"\n")
    late = "collected/2026-02-03/1769940005000-000000_1769940006000-000000.ndjson.zst"
    file(late, 99)

    assert removed(29) == 0
    assert removed(31) == 2
    left = {str(p.relative_to(settings.landing_zone)) for p in settings.landing_zone.rglob("*.ndjson*")}
    assert left == {broken, grown, late, *theirs}
    assert removed(31) == 0
    with warehouse.read() as con:
        assert {one.name for one in pending_files(settings, con).files} == {grown, late}
    ingest(warehouse, as_of=as_of)
    assert remove_off(settings, warehouse, as_of) == 0


def remove_off(settings, warehouse, as_of) -> int:
    kept = settings.model_copy(update={"landing_days": 0})
    with warehouse.read() as con:
        return remove_read_files(kept, con, as_of=as_of + timedelta(days=400))
