"""What dies is started again, what is stopped stops in its order, and nothing is left."""

import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psutil
import pytest

from orchestration.processes import guarding
from orchestration.services import free_port, services
from orchestration.supervisor import Service, Supervisor, is_owned, owning, read_state
from segue.clock import system_time
from segue.errors import SegueError
from segue.keys import create_key
from segue.settings import PROJECT_ROOT, Settings
from tests.waiting import until

Told = list[tuple[str, str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]


def python(name: str, text: str, **more: object) -> Service:
    return Service(name=name, command=(sys.executable, "-c", text), **more)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def test_what_dies_is_started_again_after_growing_pauses_and_says_why(settings: Settings) -> None:
    told: Told = []
    with owning(settings), guarding(1) as guard:
        doomed = python("doomed", "import sys, time; print('no warehouse', file=sys.stderr); sys.exit(3)")
        steady = python("steady", "import time; time.sleep(600)")
        boss = Supervisor(settings, [doomed, steady], guard, told=lambda *t: told.append(t), pauses=(0.1, 0.4, 0.8))
        times: list[float] = []

        def is_enough() -> bool:
            ends = [t for t in told if t[1] == "ended"]
            while len(times) < len(ends):
                times.append(time.monotonic())
            return len(times) >= 4

        boss.run(until=is_enough)
        assert read_state(settings)["steady"].restarts == 0
    assert all(t[0] == "doomed" for t in told if t[1] == "ended")
    assert "exit code 3: no warehouse; again in 0.1 s" in told[0][2]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] < gaps[1] < gaps[2]
    assert read_state(settings) == {}


def test_those_that_write_stop_before_the_server_they_write_to(settings: Settings, tmp_path: Path) -> None:
    note = tmp_path / "ends"
    text = "import signal, sys, time\ndef end(*_):\n    time.sleep({}); open({!r}, 'a').write({!r}); sys.exit()\n"
    text += "signal.signal(signal.SIGTERM, end)\nopen({!r}, 'a').write('ready ')\ntime.sleep(600)"
    ready = tmp_path / "ready"
    chosen = [
        python("server", text.format(0, str(note), "server ", str(ready)), stops=3),
        python("writer", text.format(0.5, str(note), "writer ", str(ready)), stops=1),
    ]
    with owning(settings), guarding(5) as guard:
        boss = Supervisor(settings, chosen, guard, told=lambda *_: None)
        boss.run(until=lambda: ready.exists() and ready.read_text() == "ready ready ")
    assert note.read_text() == "writer server "


@contextmanager
def full_disk() -> Iterator[None]:
    """Whatever is written to a file fails, here and in what is started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_nobody_and_is_told_once(settings: Settings, tmp_path: Path) -> None:
    told: Told = []
    aloud = (tmp_path / "supervisor.log").open("wb", buffering=0)

    def tell(*line: str) -> None:
        told.append(line)  # type: ignore[arg-type]
        aloud.write(b"a line\n")

    with owning(settings), guarding(1) as guard, aloud:
        steady = python("steady", "import time; time.sleep(600)")
        mute = python("mute", "import sys; sys.exit(3)")
        (tmp_path / "realtime" / "mute.log").mkdir()  # no log for it
        boss = Supervisor(settings, [steady, mute], guard, told=tell, pauses=(0.05,))
        with full_disk():
            until(lambda: boss.turn() or len([t for t in told if t[:2] == ("mute", "ended")]) >= 3)
            assert read_state(settings) == {}
        boss.turn()
        state = read_state(settings)["steady"]
        assert state.pid
        assert not state.restarts
        boss.stop()
    assert len([t for t in told if t[:2] == ("supervisor", "silent")]) == 1
    assert ("mute", "ended", "exit code 3: it said nothing; again in 0.05 s") in told


def test_second_supervisor_of_a_home_is_refused(settings: Settings) -> None:
    assert not is_owned(settings)
    with owning(settings):
        assert is_owned(settings)
        with pytest.raises(SegueError, match="runs already"), owning(settings):
            pass
    assert not is_owned(settings)


def test_taken_port_is_passed_over_unless_somebody_has_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLLECTOR", "API", "DASHBOARD"):
        monkeypatch.delenv(f"SEGUE_{name}_PORT", raising=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert free_port("127.0.0.1", taken) > taken
        monkeypatch.setenv("SEGUE_API_PORT", str(taken))
        with pytest.raises(SegueError, match=rf"port {taken} .*SEGUE_API_PORT"):
            services(Settings(home=tmp_path, _env_file=None))  # type: ignore[call-arg]


@pytest.fixture
def realtime(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", Settings]]:
    home = tmp_path / "home"
    variables = {**os.environ, "SEGUE_HOME": str(home), "SEGUE_LANDING_SECONDS": "1"}
    variables |= {"SEGUE_COLLECTOR_PORT": str(free_port("127.0.0.1", 0)), "SEGUE_API_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.services"],
        env=variables,
        cwd=PROJECT_ROOT,
        stderr=(tmp_path / "said").open("w"),
        text=True,
    )
    yield process, Settings(home=home, _env_file=None)  # type: ignore[call-arg]
    family = []
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    process.wait()
    for member in family:
        if member.is_running():
            member.kill()


def send(url: str, key: str, number: int) -> int:
    body = json.dumps({"userId": "u1", "event": "Signed In", "messageId": f"m{number}"}).encode()
    headers = {"Authorization": "Basic " + b64encode(f"{key}:".encode()).decode(), "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/track", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def landed(settings: Settings) -> list[str]:
    files = [str(p) for p in settings.landing_zone.rglob("*.ndjson.zst") if not p.name.startswith(".")]
    if not files:
        return []
    rows = duckdb.execute('select "messageId" from read_ndjson($1) order by 1', [files]).fetchall()
    return [row[0] for row in rows]


def test_processes_serve_come_back_after_kill_and_leave_nothing(
    realtime: tuple["subprocess.Popen[str]", Settings],
) -> None:
    process, settings = realtime
    wait_for(lambda: (s := read_state(settings)) and all(x.is_up for n, x in s.items() if n != "engine"), 60)
    state = read_state(settings)
    key = create_key(settings, "test", as_of=system_time())
    wait_for(lambda: send(state["collector"].url, key, 1) == 200)
    for name in ("collector", "landing", "valkey"):
        os.kill(read_state(settings)[name].pid, signal.SIGKILL)
    wait_for(lambda: all(read_state(settings)[n].restarts > 0 for n in ("collector", "landing", "valkey")))
    wait_for(lambda: send(state["collector"].url, key, 2) == 200, 60)
    wait_for(lambda: landed(settings) == ["m1", "m2"], 60)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 5
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    left = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert left == []
