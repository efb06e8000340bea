"""Whatever ends us, nothing that we started is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestration.processes import keep_small

ROOT = Path(__file__).resolve().parents[2]

#: A supervisor of a program that has a child of its own, which ignores polite requests.
SUPERVISOR = """
import sys, time
from pathlib import Path
from orchestration.processes import end_with_parent, running, stop_on_signals
stop_on_signals()
end_with_parent()
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
stubborn += "; time.sleep(600)"
program = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {stubborn!r}]); time.sleep(600)"
log = Path(sys.argv[1])
with running([sys.executable, "-c", program], env={}, cwd=Path("/"), log=log, grace_seconds=1) as started:
    while "deaf" not in log.read_text():
        time.sleep(0.02)
    print(started.pid, flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        pass
print("stopped", flush=True)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "log")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 3, "the program, its child, the guard"
    yield process, family
    if process.poll() is None:
        process.kill()
    process.wait()
    for member in family:
        if member.is_running():
            member.kill()


def alive(family: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_is_left_after(
    number: signal.Signals, supervisor: tuple["subprocess.Popen[str]", list[psutil.Process]]
) -> None:
    process, family = supervisor
    process.send_signal(number)
    process.wait(30)
    deadline = time.monotonic() + 30
    while alive(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(family) == []


def test_the_death_of_the_parent_stops_everything(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.Popen([sys.executable, *sys.argv[1:]]).wait()",
            "-c",
            SUPERVISOR,
            str(tmp_path / "log"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip().isdigit()
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 4
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while alive(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(family) == []


def test_two_processes_can_start_on_a_fresh_home_at_once(tmp_path: Path) -> None:
    text = """
import dagster as dg
from orchestration.instance import prepare_home
from segue.settings import load_settings
prepare_home(load_settings())
with dg.DagsterInstance.get() as instance:
    instance.get_runs(limit=1)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEGUE_HOME": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", text], env=environment) for _ in range(4)]
    assert [process.wait(120) for process in started] == [0] * len(started)


def test_a_large_log_begins_anew_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old lines\n")
        keep_small(log, most_bytes=100)
        assert log.read_bytes() == b"old lines\n"
        keep_small(log, most_bytes=5)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "engine.log.1").read_bytes() == b"old lines\n"
    keep_small(tmp_path / "none.log")
