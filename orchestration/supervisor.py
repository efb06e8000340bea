"""Keeps the processes of a home running: one supervisor a home, its state in a file that others read."""

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from orchestration.processes import Guard, has_ended, keep_small, start
from segue.errors import SegueError
from segue.settings import PROJECT_ROOT, Settings, child_environment, make_folder
from segue.valkey import SERVED_BY_ANOTHER, is_running

#: A process that dies at once is started again after these pauses (seconds), the last one for ever after.
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: After SIGTERM.
STOP_SECONDS = 12.0
#: Whoever has lived so long starts anew with the first pause.
_SETTLED_SECONDS = 60.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process of real time."""

    name: str
    command: tuple[str, ...]
    url: str = ""  # where it answers
    does: str = ""
    stops: int = 0  # lower numbers are stopped first


@dataclass(slots=True, kw_only=True)
class ServiceState:
    """What is known of a service at present; written to the state file."""

    pid: int = 0
    is_up: bool = False
    restarts: int = 0
    last_end: str = ""
    url: str = ""


@dataclass(slots=True, kw_only=True)
class _Child:
    service: Service
    program: Any = None
    state: ServiceState = field(default_factory=ServiceState)
    fails: int = 0
    started: float = 0.0
    again_at: float = 0.0


def _folder(settings: Settings) -> Path:
    return settings.home / "realtime"


@contextmanager
def owning(settings: Settings) -> Iterator[None]:
    """This process runs the services of the home, and no other does.

    Raises:
        SegueError: when another one does.
    """
    folder = _folder(settings)
    make_folder(folder)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SegueError(
                f"the real time of {settings.home} runs already", fix="`segue realtime status` shows it"
            ) from None
        _await_leftovers(settings)
        try:
            yield
        finally:
            (folder / "state.json").unlink(missing_ok=True)


def _await_leftovers(settings: Settings) -> None:
    """Until the processes of a supervisor that was killed are gone: its guard ends them, and their ports are ours."""
    try:
        found = json.loads((_folder(settings) / "state.json").read_text())
        pids = [int(state["pid"]) for state in found.values()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return
    deadline = time.monotonic() + 2 * STOP_SECONDS
    while any(_is_service(pid, settings) for pid in pids if pid) and time.monotonic() < deadline:
        time.sleep(0.1)


def _is_service(pid: int, settings: Settings) -> bool:
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    # The number may be somebody else's by now.
    return any("segue.cli" in word or str(settings.home) in word for word in words)


def is_owned(settings: Settings) -> bool:
    """Whether the services of the home run."""
    try:
        with (_folder(settings) / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def read_state(settings: Settings) -> Mapping[str, ServiceState]:
    """The services as they stand; empty when nothing runs."""
    if not is_owned(settings):
        return {}
    try:
        found = json.loads((_folder(settings) / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: ServiceState(**state) for name, state in found.items()}


class Supervisor:
    """Starts what is not running, and says so.

    Args:
        settings: whose home takes the logs and the state.
        chosen: in the order of their start.
        guard: ends them should we be killed.
        told: gets a line for each change.
        pauses: seconds before the next start of what has died, by how often it has.
    """

    def __init__(
        self,
        settings: Settings,
        chosen: Sequence[Service],
        guard: Guard,
        *,
        told: Callable[[str, str, str], None],
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._settings, self._guard, self._teller, self._pauses = settings, guard, told, pauses
        self._children = [_Child(service=s, state=ServiceState(url=s.url)) for s in chosen]
        self._written = ""
        self._is_unwritable = False

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep them running; stop them in their order at the end, also on KeyboardInterrupt."""
        try:
            while not until():
                self.turn()
                time.sleep(_POLL_SECONDS)
        finally:
            self.stop()

    def turn(self) -> None:
        """One look at everybody."""
        for child in self._children:
            keep_small(self._log_of(child))
            if child.program is None:
                if time.monotonic() >= child.again_at and self._may_start(child):
                    self._start(child)
            elif has_ended(child.program):
                self._ended(child)
            elif not child.state.is_up and self._answers(child):
                child.state.is_up = True
                self._told(child.service.name, "up", child.service.url or child.service.does)
            elif child.fails and time.monotonic() - child.started > _SETTLED_SECONDS:
                child.fails = 0
        self._write()

    def stop(self) -> None:
        """Those that take work first, the server that they write to last."""
        for level in sorted({c.service.stops for c in self._children}):
            mine = [c for c in self._children if c.program is not None and c.service.stops == level]
            for child in mine:
                if not has_ended(child.program):
                    child.program.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            while any(not has_ended(c.program) for c in mine) and time.monotonic() < deadline:
                time.sleep(0.05)
            for child in mine:
                if not has_ended(child.program):
                    self._told(child.service.name, "killed", f"it did not end within {STOP_SECONDS:.0f} s")
                    child.program.kill()
                # What it started and left behind is the guard's, which knows its group still.
                child.program.wait()

    def _told(self, name: str, what: str, more: str) -> None:
        # The lines go to a file too: a full disk ends nobody.
        with suppress(OSError):
            self._teller(name, what, more)

    def _may_start(self, child: _Child) -> bool:
        first = self._children[0]
        return child is first or first.service.name != "valkey" or first.state.is_up

    def _start(self, child: _Child) -> None:
        with self._opened_log(child) as sink:
            child.program = start(
                child.service.command, env=child_environment({}), cwd=PROJECT_ROOT, sink=sink.fileno()
            )
        self._guard.watch(child.program)
        child.started = time.monotonic()
        child.state.pid = child.program.pid

    def _log_of(self, child: _Child) -> Path:
        return _folder(self._settings) / f"{child.service.name}.log"

    def _opened_log(self, child: _Child) -> IO[bytes]:
        try:
            return self._log_of(child).open("ab")
        except OSError as error:
            self._told(child.service.name, "silent", f"its log cannot be written: {error.strerror}")
            return Path(os.devnull).open("ab")

    def _ended(self, child: _Child) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.program.pid, signal.SIGKILL)  # what it started must not outlive it
        self._guard.forget(child.program)
        code = child.program.wait()
        child.program, child.state.pid, was_up = None, 0, child.state.is_up
        if code == SERVED_BY_ANOTHER and child.service.name == "valkey":
            # Somebody started one by hand: it serves as well, and when it goes, ours comes.
            child.again_at = time.monotonic() + 0.5
            child.state.is_up = is_running(self._settings)
            if child.state.is_up and not was_up:
                self._told("valkey", "up", "served by another process")
            return
        child.state.is_up = False
        pause = self._pauses[min(child.fails, len(self._pauses) - 1)]
        child.fails += 1
        child.state.restarts += 1
        child.again_at = time.monotonic() + pause
        child.state.last_end = f"exit code {code}: {self._last_words(child)}"
        self._told(child.service.name, "ended", f"{child.state.last_end}; again in {pause:g} s")

    def _answers(self, child: _Child) -> bool:
        if child.service.name == "valkey":
            return is_running(self._settings)
        if child.service.url:
            host, _, port = child.service.url.removeprefix("http://").rpartition(":")
            try:
                with socket.create_connection((host.strip("[]"), int(port)), timeout=0.2):
                    return True
            except OSError:
                return False
        return time.monotonic() - child.started > 2.0

    def _last_words(self, child: _Child) -> str:
        try:
            text = self._log_of(child).read_bytes()[-2000:].decode("utf-8", "replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"

    def _write(self) -> None:
        text = json.dumps({c.service.name: asdict(c.state) for c in self._children})
        if text == self._written:
            return
        draft = _folder(self._settings) / ".state.json"
        try:
            draft.write_text(text)
            draft.replace(draft.with_name("state.json"))
        except OSError as error:
            # The services run on; the next look tries again.
            if not self._is_unwritable:
                self._told("supervisor", "silent", f"the state cannot be written: {error.strerror}; trying again")
            self._is_unwritable = True
            return
        self._written, self._is_unwritable = text, False
