"""Files of messages into `raw.events`, each file exactly once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from segue.clock import to_warehouse
from segue.errors import BadInputError, WarehouseError
from segue.events.contracts import Contract, load_contracts
from segue.events.landing import EventFile, Identity, files_at, files_in, known_files, settled
from segue.events.lines import CHUNK_BYTES, Chunk, LineReader
from segue.events.loader import FirstLook, Loader, Origin, Tally
from segue.events.spec import TOLERANCE
from segue.events.streams import Stream, open_stream
from segue.events.tables import ensure_tables
from segue.settings import Settings
from segue.warehouse import Connection, Warehouse, is_disk_full, scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What one file brought."""

    file: str
    load_id: int
    read: int
    loaded: int
    duplicates: int
    quarantined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What one ingest did: read = loaded + duplicates + quarantined."""

    read: int
    loaded: int
    duplicates: int
    quarantined: Mapping[str, int]  # by reason
    files: tuple[FileReport, ...]
    already_read: tuple[str, ...]  # in the ledger with the same size and time
    still_written: tuple[str, ...]  # left for the next time
    refused: Mapping[str, str]  # file → why it could not be read at all

    @property
    def quarantined_count(self) -> int:
        """Messages that went into quarantine, for whatever reason."""
        return sum(self.quarantined.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A file and how to read it."""

    file: EventFile
    open: Callable[[], Stream]


class _LeaveFileError(Exception):
    """This file must not be committed now: read it next time, or never."""

    def __init__(self, index: int, why: str | None) -> None:
        self.index = index
        self.why = why  # None: it changed while it was read


def ingest(
    warehouse: Warehouse,
    paths: Iterable[Path] | None = None,
    *,
    as_of: datetime,
    source: str | None = None,
    progress: Callable[[FileReport], None] | None = None,
) -> IngestReport:
    """Read what waits in the landing zone, or the given files and folders, into `raw.events` and `raw.quarantine`.

    A file is committed together with its row in `raw.loads`, so it is read once whatever happens in between.
    A file that grew since it was read is read again; what it had before is counted as duplicates.

    Args:
        paths: files and folders; None for the landing zone.
        as_of: becomes `loaded_at`. A message is from the future when it is more than a day after both `as_of`
            and the last change of its file.
        source: what stands in `raw.events.source`; default "landing" or "files".
        progress: called after each file that was committed.

    Raises:
        BadInputError: when a given path does not exist.
        DefinitionError: when a contract is wrong.
        WarehouseError: when the disk is full. What was committed stays; running again does the rest.
    """
    settings = warehouse.settings
    contracts = load_contracts(settings.dbt_project / "contracts")
    found = files_in(settings.landing_zone) if paths is None else files_at(paths, settings.landing_zone)
    # Files that are named are wanted: no need to look for reasons not to take the writer lock.
    is_waiting = paths is None and settings.settle_seconds > 0
    known: set[Identity] = set()
    if is_waiting:
        with warehouse.read() as con:
            known = known_files(con)
    new = [file for file in found if file.identity not in known]
    quiet, moving = settled(new, as_of=as_of, seconds=settings.settle_seconds if is_waiting else 0.0)
    jobs = [Job(file=file, open=_opener(file.path)) for file in quiet]
    report = run_jobs(
        warehouse,
        jobs,
        contracts,
        as_of=as_of,
        source=source or ("landing" if paths is None else "files"),
        progress=progress,
    )
    return IngestReport(
        read=report.read,
        loaded=report.loaded,
        duplicates=report.duplicates,
        quarantined=report.quarantined,
        files=report.files,
        already_read=(*(file.name for file in found if file.identity in known), *report.already_read),
        still_written=(*(file.name for file in moving), *report.still_written),
        refused=report.refused,
    )


def run_jobs(
    warehouse: Warehouse,
    jobs: Sequence[Job],
    contracts: Sequence[Contract],
    *,
    as_of: datetime,
    source: str,
    progress: Callable[[FileReport], None] | None = None,
    again: bool = False,
) -> IngestReport:
    """Load files through the ledger.

    Args:
        again: read a file also when the ledger has it; its messages count as duplicates then.

    Raises:
        WarehouseError: when the disk is full.
    """
    reports: list[FileReport] = []
    reasons: Counter[str] = Counter()
    left: dict[int, str | None] = {}
    already: list[str] = []
    if jobs:
        with warehouse.writer("ingest") as con:
            ensure_tables(con)
            # Somebody may have read a file while we waited for the writer.
            known = set() if again else known_files(con)
            already = [job.file.name for job in jobs if job.file.identity in known]
            waiting = [index for index, job in enumerate(jobs) if job.file.identity not in known]
            while waiting:
                run = _Run(warehouse, con, jobs, waiting, contracts, as_of=as_of, source=source)
                try:
                    for committed, counts in run.groups():
                        reports += committed
                        reasons += counts
                        waiting = waiting[len(committed) :]
                        for one in committed if progress else ():
                            progress(one)  # type: ignore[misc]
                except _LeaveFileError as leave:
                    left[leave.index] = leave.why
                    waiting = [index for index in waiting if index != leave.index]
                except (duckdb.Error, OSError) as error:
                    _raise_if_full(error, warehouse.settings)
                    raise
                finally:
                    run.close()
    return IngestReport(
        read=sum(one.read for one in reports),
        loaded=sum(one.loaded for one in reports),
        duplicates=sum(one.duplicates for one in reports),
        quarantined=dict(sorted(reasons.items())),
        files=tuple(reports),
        already_read=tuple(already),
        still_written=tuple(jobs[index].file.name for index, why in left.items() if why is None),
        refused={jobs[index].file.name: why for index, why in left.items() if why is not None},
    )


class _Run:
    """Transactions over the waiting files, until all are in or one has to be left out."""

    def __init__(
        self,
        warehouse: Warehouse,
        con: Connection,
        jobs: Sequence[Job],
        waiting: Sequence[int],
        contracts: Sequence[Contract],
        *,
        as_of: datetime,
        source: str,
    ) -> None:
        self._warehouse, self._con = warehouse, con
        self._jobs = jobs
        self._waiting = waiting
        self._as_of = as_of
        self._source = source
        latest = max([as_of, *(jobs[index].file.modified_at for index in waiting)]) + TOLERANCE
        self._loader = Loader(con, contracts, as_of=as_of, latest=latest, source=source)
        self._reader = LineReader(self._open, self._check_unchanged, chunk_bytes=CHUNK_BYTES)
        first = int(scalar(con, "select coalesce(max(load_id), 0) + 1 from raw.loads"))
        self._origins = {
            index: Origin(load_id=first + offset, name=jobs[index].file.name) for offset, index in enumerate(waiting)
        }
        self._in_transaction = False
        self._current = -1  # index of the file that is being read

    def groups(self) -> "Iterator[tuple[list[FileReport], Counter[str]]]":
        """Load; gives the reports of the files of each transaction after its commit."""
        tallies = {index: Tally() for index in self._waiting}
        done = 0
        self._begin()
        for chunk, look in self._chunks():
            self._loader.load(chunk, look, self._origins, tallies)
            if chunk.is_boundary:
                finished = self._waiting[done : chunk.files_done]
                done = chunk.files_done
                reports = [self._report(index, tallies[index]) for index in finished]
                reasons = self._reasons(reports)
                self._write_ledger(finished, reports)
                self._warehouse.commit(self._con)
                self._in_transaction = False
                yield reports, reasons
                self._begin()

    def _chunks(self) -> Iterator[tuple[Chunk, FirstLook]]:
        """The next chunk is read and looked at while the caller works on this one."""
        chunks = self._reader.chunks(self._waiting)

        def read() -> tuple[Chunk, FirstLook] | None:
            chunk = next(chunks, None)
            return None if chunk is None else (chunk, self._loader.first_look(chunk.lines))

        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
            coming = reader.submit(read)
            while True:
                try:
                    found = coming.result()
                except BadInputError as error:
                    raise _LeaveFileError(self._current, str(error)) from error
                except OSError as error:
                    path = self._jobs[self._current].file.path
                    raise _LeaveFileError(self._current, f"{path} cannot be read: {error.strerror}") from error
                if found is None:
                    return
                coming = reader.submit(read)
                yield found

    def close(self) -> None:
        """Undo what was not committed."""
        self._loader.close()
        if self._in_transaction:
            with suppress(duckdb.Error):
                self._con.execute("rollback")

    def _begin(self) -> None:
        self._con.execute("begin")
        self._in_transaction = True

    def _open(self, index: int) -> Stream:
        self._current = index
        return self._jobs[index].open()

    def _check_unchanged(self, index: int) -> None:
        file = self._jobs[index].file
        try:
            is_same = file.again() == file
        except BadInputError:
            is_same = False
        if not is_same:
            raise _LeaveFileError(index, None)

    def _report(self, index: int, tally: Tally) -> FileReport:
        assert tally.read == tally.loaded + tally.duplicates + tally.quarantined, (self._jobs[index].file.name, tally)
        return FileReport(
            file=self._jobs[index].file.name,
            load_id=self._origins[index].load_id,
            read=tally.read,
            loaded=tally.loaded,
            duplicates=tally.duplicates,
            quarantined=tally.quarantined,
        )

    def _reasons(self, reports: Sequence[FileReport]) -> "Counter[str]":
        if not any(one.quarantined for one in reports):
            return Counter()
        rows = self._con.execute(
            "select reason, count(*) from raw.quarantine where load_id between $1 and $2 group by reason",
            [reports[0].load_id, reports[-1].load_id],
        ).fetchall()
        return Counter({reason: int(count) for reason, count in rows})

    def _write_ledger(self, finished: Sequence[int], reports: Sequence[FileReport]) -> None:
        rows = [
            [
                one.load_id,
                self._source,
                one.file,
                self._jobs[index].file.size,
                self._jobs[index].file.modified_us,
                one.read,
                one.loaded,
                one.duplicates,
                one.quarantined,
                to_warehouse(self._as_of),
            ]
            for index, one in zip(finished, reports, strict=True)
        ]
        self._con.executemany(
            "insert into raw.loads values ($1, $2, $3, $4, make_timestamp($5::bigint), $6, $7, $8, $9, $10)", rows
        )


def _opener(path: Path) -> Callable[[], Stream]:
    return lambda: open_stream(path)


def _raise_if_full(error: Exception, settings: Settings) -> None:
    if is_disk_full(error):
        raise WarehouseError(
            f"the disk of the warehouse {settings.data_uri} is full: {str(error).splitlines()[0]}",
            fix="free space and run it again; what was committed stays, and nothing is read twice",
        ) from error
