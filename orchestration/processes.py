"""Starts a program so that all of it ends with us, however we end.

The program gets a process group of its own, and a guard beside it waits for us on a pipe: the kernel closes
the pipe when we exit, crash or are killed, and the guard then ends the whole group.
Imports nothing but the standard library: the guard is this file.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1

_LOG_BYTES = 20_000_000


@contextmanager
def running(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, grace_seconds: float = 8.0
) -> Iterator[subprocess.Popen[bytes]]:
    """The program for the length of the block; afterwards no process of it is left.

    Args:
        command: the program and its arguments.
        env: its whole environment.
        cwd: where it runs.
        log: the file that takes its output.
        grace_seconds: how long a process may take to end by itself before it is killed.
    """
    with guarding(grace_seconds) as guard:
        log.parent.mkdir(parents=True, exist_ok=True)
        keep_small(log)
        with log.open("ab") as sink:
            program = start(command, env=env, cwd=cwd, sink=sink.fileno())
        guard.watch(program)
        yield program


class Guard:
    """Ends the process groups that it was told of when we are gone."""

    def __init__(self, notes: int) -> None:
        self._notes = notes
        self._watched: dict[int, subprocess.Popen[bytes]] = {}

    def watch(self, program: "subprocess.Popen[bytes]") -> None:
        """End this program and what it started, when we end."""
        self._watched[program.pid] = program
        os.write(self._notes, f"+{program.pid}\n".encode())

    def forget(self, program: "subprocess.Popen[bytes]") -> None:
        """It has ended; call this before its exit code is fetched, so that nobody else has its number yet."""
        os.write(self._notes, f"-{program.pid}\n".encode())
        self._watched.pop(program.pid, None)

    def reap(self) -> None:
        """Fetch the exit codes of what has ended."""
        for program in self._watched.values():
            program.poll()


@contextmanager
def guarding(grace_seconds: float) -> Iterator[Guard]:
    """A guard for the length of the block; afterwards nothing that it watched is left."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", __file__, str(grace_seconds)], stdin=read_end, start_new_session=True
    )
    os.close(read_end)
    guard = Guard(write_end)
    try:
        yield guard
    finally:
        os.close(write_end)
        # Reap the programs while the guard waits for their groups to be empty.
        while process.poll() is None:
            guard.reap()
            time.sleep(0.05)


def start(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, sink: int) -> "subprocess.Popen[bytes]":
    """A program in a process group of its own, which writes to the file `sink`."""
    return subprocess.Popen(
        command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
    )


def keep_small(log: Path, *, most_bytes: int = _LOG_BYTES) -> None:
    """Begin a log anew that has grown too large; one older is kept beside it. Whoever appends to it goes on."""
    with suppress(OSError):
        if log.stat().st_size > most_bytes:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def has_ended(program: "subprocess.Popen[bytes]") -> bool:
    """Whether it has, without fetching its exit code: its number stays its own until then."""
    try:
        return os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def end_with_parent() -> None:
    """Be told to stop (SIGTERM) when the process that started us dies. Linux only; elsewhere nothing happens."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), signal.SIGTERM)


def stop_on_signals() -> None:
    """Turn SIGTERM, SIGHUP, and a SIGINT that the shell had us ignore, into the KeyboardInterrupt of Ctrl-C."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def _guard(grace_seconds: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, None] = {}
    for note in sys.stdin:
        if note.startswith("+"):
            groups[int(note)] = None
        elif note.strip():
            groups.pop(-int(note), None)
    deadline = time.monotonic() + grace_seconds
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
    while (left := [g for g in groups if _is_running(g)]) and time.monotonic() < deadline + 10:
        if time.monotonic() >= deadline:
            for group in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
        time.sleep(0.1)


def _is_running(group: int) -> bool:
    """Whether the group has a member that is no zombie."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    if not stats:
        return True
    for stat in stats:
        with suppress(OSError):
            # pid (name) state ppid pgrp …; a name can hold spaces and brackets.
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state not in "ZX":
                return True
    return False


if __name__ == "__main__":
    _guard(float(sys.argv[1]))
