"""Starts a program so that all of it ends with us, however we end.

The program gets a process group of its own, and a guard beside it waits for us on a pipe: the kernel closes
the pipe when we exit, crash or are killed, and the guard then ends the whole group.
Imports nothing but the standard library: the guard is this file.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1


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
    read_end, write_end = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", __file__, str(grace_seconds)], stdin=read_end, start_new_session=True
    )
    os.close(read_end)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            program = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        os.write(write_end, f"{program.pid}\n".encode())
        yield program
    finally:
        os.close(write_end)
        # Reap the program while the guard waits for its group to be empty.
        while guard.poll() is None:
            program.poll()
            time.sleep(0.05)


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
    note = sys.stdin.readline().strip()
    sys.stdin.read()
    if not note:
        return
    group = int(note)
    deadline = time.monotonic() + grace_seconds
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while _is_running(group) and time.monotonic() < deadline:
            time.sleep(0.1)
        while _is_running(group) and time.monotonic() < deadline + 10:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.1)


def _is_running(group: int) -> bool:
    """Whether the group has a member that is no zombie."""
    os.killpg(group, 0)
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
