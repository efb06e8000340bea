"""A home with a large shop's history, kept between runs, and the processes of real time over it."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks._shop import shop_events
from segue.clock import system_time, to_warehouse
from segue.errors import SegueError
from segue.events.tables import ensure_tables
from segue.log import Entry
from segue.models import person_local, prepare
from segue.realtime import ContractJudge, Engine
from segue.realtime.start import Sources
from segue.settings import Settings, child_environment
from segue.store import open_store
from segue.warehouse import Warehouse

DAYS = 60
_ROWS = 1_000_000  # of one load
_ROOT = Path(tempfile.gettempdir()) / f"segue-benchmarks-{os.getuid()}"
#: Everything but the history: made anew by each run.
_OF_A_RUN = ("valkey", "realtime", "landing", "keys")


@contextmanager
def home(*, people: int, events: int) -> Iterator[Settings]:
    """A home whose warehouse has so many people and events, spread evenly over the 60 days until it was made.

    Only `raw.events` and the compiled project are in it. It is made once a day, in about 12 s a million events, and
    stays in the machine's folder for temporary files; what a run adds goes at its end. One run at a time.
    """
    _ROOT.mkdir(mode=0o700, exist_ok=True)
    today = system_time().date().isoformat()
    folder = _ROOT / f"{people}-{events}-{today}"
    with (_ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in _ROOT.iterdir():
            if old.is_dir() and not old.name.endswith(today):
                shutil.rmtree(old)
        settings = Settings(home=folder, collector_port=0, api_port=0, _env_file=None)  # type: ignore[call-arg]
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(settings, people, events)
            (folder / "complete").touch()
        _clean(folder)
        try:
            yield settings
        finally:
            _clean(folder)


def _clean(folder: Path) -> None:
    for name in _OF_A_RUN:
        shutil.rmtree(folder / name, ignore_errors=True)


def _make(settings: Settings, people: int, events: int) -> None:
    started = time.monotonic()
    end = to_warehouse(system_time())
    span = timedelta(days=DAYS)
    warehouse = Warehouse(settings)
    for load, start in enumerate(range(0, events, _ROWS), start=1):
        count = min(_ROWS, events - start)
        first = end - span + span * (start / events)
        rows = shop_events(
            people=people, count=count, first=first, last=end - span + span * ((start + count) / events), start=start
        )
        with warehouse.write("benchmark") as con:
            ensure_tables(con)
            con.register("arriving", rows)
            con.execute(f"insert into raw.events by name select * replace ({load}::bigint as load_id) from arriving")
            con.execute(
                "insert into raw.loads values ($1, 'web', $2, 0, $3, $4, $4, 0, 0, $3)",
                [load, f"part {load}", end, count],
            )
    prepare(settings)
    print(f"a home of {events:,} events is made in {time.monotonic() - started:.1f} s", flush=True)


class _NoLog:
    """Nothing is in it."""

    def committed(self, reader: str) -> str:
        return ""

    def read(self, after: str, *, limit_bytes: int, wait_seconds: float) -> list[Entry]:
        return []


def loaded_engine(settings: Settings, *, horizon_seconds: int) -> Engine:
    """An engine in this process, with everybody evaluated."""
    project = prepare(settings)
    sources = Sources(Warehouse(settings), _NoLog(), ContractJudge(settings, system_time))  # type: ignore[arg-type]
    refused = {name: refusal.reason for name, refusal in person_local(project).items()}
    now = system_time()
    engine = sources.build(project, as_of=now, applied="", refused=refused, horizon_seconds=horizon_seconds)
    engine.restore([])
    engine.start_pass("load")
    while engine.pass_step(now) is not None:
        pass
    return engine


class RealTime:
    """The processes that `segue realtime` started: collector, log, landing writer, engine, API, webhook sender."""

    def __init__(self, settings: Settings, services: "subprocess.Popen[bytes]") -> None:
        self._settings, self._services = settings, services
        self._client = open_store(settings)

    def state(self) -> dict[str, dict[str, Any]]:
        """Of each process: is_up, pid, url."""
        try:
            return dict(json.loads((self._settings.home / "realtime" / "state.json").read_text()))
        except (OSError, ValueError):
            return {}

    def engine(self) -> dict[str, Any]:
        """What the engine says of itself, once a second; {} before it has said anything."""
        try:
            return dict(self._client.status().engine)
        except SegueError:
            return {}

    def wait_until(self, what: str, is_so: Callable[[], bool], *, seconds: float = 400) -> float:
        """How long it took until something was so."""
        started = time.monotonic()
        while not is_so():
            if self._services.poll() is not None or time.monotonic() - started > seconds:
                raise SystemExit(f"{what}: not within {seconds:.0f} s; see {self._settings.home / 'realtime'}")
            time.sleep(0.05)
        return time.monotonic() - started

    def is_ready(self) -> bool:
        """All are up, and the engine has evaluated everybody once."""
        state = self.state()
        if not state or not all(one["is_up"] for one in state.values()):
            return False
        said = self.engine()
        return bool(said) and said["people"] > 0 and said["to_evaluate"] == 0

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time that each process has used."""
        used = {}
        for name, one in self.state().items():
            times = psutil.Process(one["pid"]).cpu_times()
            used[name] = times.user + times.system
        return used


@contextmanager
def real_time(settings: Settings, **more: str) -> Iterator[RealTime]:
    """`segue realtime` over a home, on free ports; ended with the block.

    Args:
        more: further settings, as environment variables.
    """
    environment = child_environment(
        {"SEGUE_HOME": str(settings.home), "SEGUE_COLLECTOR_PORT": "0", "SEGUE_API_PORT": "0", **more}
    )
    command = [str(Path(sys.executable).parent / "segue"), "realtime"]
    (settings.home / "realtime").mkdir(exist_ok=True)
    with (settings.home / "realtime" / "services.log").open("wb") as sink:
        services = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    try:
        yield RealTime(settings, services)
    finally:
        services.send_signal(signal.SIGTERM)
        services.wait(60)
