"""Whoever answers HTTP lets nobody hold a connection open without asking for something."""

import re
import resource
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from segue.settings import PROJECT_ROOT, child_environment
from tests.waiting import until

_PROGRAM = "import segue.listen as l; l._HEADER_SECONDS = l._BODY_SECONDS = 0.5; from segue.cli import app; app()"


@pytest.mark.parametrize("name", ["collector", "api", "dashboard"])
def test_bad_input_a_client_that_never_ends_its_header_or_body_or_sends_a_huge_header_is_let_go(
    tmp_path: Path, name: str
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, name, "--port", "0"],
        env=child_environment({"SEGUE_HOME": str(tmp_path), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}),
        cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        port = next(found[1] for line in program.stdout if (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
        with _connected(int(port)) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            assert _is_closed(slow)
        with _connected(int(port)) as loud:
            loud.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nx: " + b"a" * 100_000)
            assert _is_closed(loud)
        with _connected(int(port)) as drip:
            drip.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
            assert drip.recv(65536).startswith(b"HTTP/1.1 ")
            drip.sendall(b"x")  # of a body that nobody has waited for
            assert _is_closed(drip)
    finally:
        program.kill()
        program.wait()
        assert program.stdout is not None
        program.stdout.close()


def test_connections_are_not_bounded_by_a_low_limit_of_files(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}));"
    program = subprocess.Popen(
        [sys.executable, "-c", low + _PROGRAM, "api", "--port", "0"],
        env=child_environment({"SEGUE_HOME": str(tmp_path)}), cwd=PROJECT_ROOT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: psutil.Process(program.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == 256)
        until(lambda: psutil.Process(program.pid).rlimit(psutil.RLIMIT_NOFILE)[0] >= min(hard, 8_192))
    finally:
        program.kill()
        program.wait()


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def _is_closed(link: socket.socket) -> bool:
    try:
        while link.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
