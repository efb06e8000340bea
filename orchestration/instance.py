"""The Dagster instance of an installation: its home, its settings, what a killed process left in it."""

import os
from pathlib import Path

import dagster as dg
import psutil

from orchestration.turns import turn
from segue.settings import PROJECT_ROOT, Settings, cannot_write, make_folder

#: Tag of runs that `segue refresh` executes in its own process.
PROCESS_TAG = "segue/process"

#: Seconds by which the clock may have been set right since a process began.
_CLOCKS_DIFFER = 60.0

_HEADER = "# Written by Segue at each start. To keep a file of your own, remove this line.\n"

#: The settings of the instance; `dagster dev` from the root reads them itself when DAGSTER_HOME is not set.
_CONFIG = PROJECT_ROOT / "dagster.yaml"


def prepare_home(settings: Settings) -> Path:
    """DAGSTER_HOME of the installation: made if need be, its `dagster.yaml` written, the variable set.

    A `dagster.yaml` without our header is somebody's own (PostgreSQL storage, say) and stays as it is.

    Raises:
        BadSettingError: when the home cannot be written.
    """
    try:
        return _prepare(settings.home / "dagster")
    except OSError as error:
        raise cannot_write(settings.home, error) from error


def _prepare(home: Path) -> Path:
    make_folder(home)
    config = home / "dagster.yaml"
    text = _HEADER + _CONFIG.read_text()
    if not config.exists() or (config.read_text() != text and config.read_text().startswith(_HEADER)):
        # Renamed into place: another process may be reading it.
        draft = config.with_suffix(f".{os.getpid()}")
        draft.write_text(text)
        draft.replace(config)
    os.environ["DAGSTER_HOME"] = str(home)
    _make_storage(home)
    return home


def _make_storage(home: Path) -> None:
    """Dagster's tables, made by one process: two that make them at once spoil them for good."""
    made = home / ".storage_made"
    if made.exists():
        return
    with turn(home / ".storage.lock", lambda _: None):
        if not made.exists():
            with dg.DagsterInstance.get():
                made.touch()


def process_tag() -> str:
    """This process, so that another can tell whether it is still alive: `pid:start time`."""
    me = psutil.Process()
    return f"{me.pid}:{me.create_time():.0f}"


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process was killed: they would block the queue for ever.

    A `segue refresh` that was killed, and what Dagster ran when the machine, or all of Dagster, went down.

    Returns:
        The ids of the runs that were closed.
    """
    unfinished = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    closed = []
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        tag = run.tags.get(PROCESS_TAG)
        if not _is_alive(tag) if tag is not None else _has_died(instance, run):
            instance.report_run_failed(run, message="The process of this run was killed.")
            closed.append(run.run_id)
    return closed


def _has_died(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process that began a run of Dagster's own is gone; the other two states Dagster sees to itself."""
    if run.status is not dg.DagsterRunStatus.STARTED:
        return False
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_START).records
    if not records:
        return False
    entry = records[-1].event_log_entry
    if entry.dagster_event is None or entry.dagster_event.pid is None:
        return False
    try:
        # A process that began later has only the same number.
        return psutil.Process(entry.dagster_event.pid).create_time() > entry.timestamp + _CLOCKS_DIFFER
    except psutil.NoSuchProcess:
        return True


def _is_alive(tag: str) -> bool:
    pid, _, started = tag.partition(":")
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == started
    except (psutil.NoSuchProcess, ValueError):
        return False
