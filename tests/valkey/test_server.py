"""The server of a home: private, durable, one of a kind, gone when it should be."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segue.errors import ValkeyError
from segue.settings import Settings
from segue.valkey import (
    SERVED_BY_ANOTHER,
    connect,
    connect_async,
    is_running,
    running,
    serve_command,
    socket_path,
)


def _pid(settings: Settings) -> int:
    return int(connect(settings).info("server")["process_id"])


def _wait(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_it_runs_within_the_block_and_only_there(settings: Settings) -> None:
    assert not is_running(settings)
    with running(settings):
        assert connect(settings).ping()
    assert not is_running(settings)


async def _ping(settings: Settings) -> bool:
    client = connect_async(settings)
    try:
        return bool(await client.ping())
    finally:
        await client.aclose()


def test_an_async_client_reaches_it(settings: Settings) -> None:
    with running(settings):
        assert asyncio.run(_ping(settings))


def test_more_questions_at_once_than_connections_wait_for_one(settings: Settings) -> None:
    async def ask() -> list[bool]:
        client = connect_async(settings)
        try:
            return await asyncio.gather(*(client.ping() for _ in range(300)))
        finally:
            await client.aclose()

    with running(settings):
        assert all(asyncio.run(ask()))


def test_only_this_user_may_enter_and_nothing_listens_on_the_network(settings: Settings) -> None:
    with running(settings):
        assert connect(settings).info("server")["tcp_port"] == 0
        assert stat.S_IMODE(socket_path(settings).parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket_path(settings).stat().st_mode) == 0o700


def test_a_second_start_finds_the_first_and_leaves_it_running(settings: Settings) -> None:
    with running(settings):
        first = _pid(settings)
        with running(settings):
            assert _pid(settings) == first
        assert _pid(settings) == first


def test_two_starts_at_once_make_one_server(settings: Settings) -> None:
    script = (
        "import sys,time\nfrom pathlib import Path\nfrom segue.settings import Settings\n"
        "from segue.valkey import running, connect\n"
        "s = Settings(home=Path(sys.argv[1]), _env_file=None)\n"
        "with running(s):\n    print(connect(s).info('server')['process_id'], flush=True)\n    sys.stdin.read()\n"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(settings.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    try:
        pids = {starter.stdout.readline() for starter in starters}  # type: ignore[union-attr]
        assert len(pids) == 1
        assert pids != {b""}
    finally:
        for starter in starters:
            starter.stdin.close()  # type: ignore[union-attr]
            starter.wait(20)


def test_the_command_refuses_a_second_server_of_the_home(settings: Settings) -> None:
    with running(settings):
        code = subprocess.run(serve_command(settings), capture_output=True, timeout=20).returncode
    assert code == SERVED_BY_ANOTHER


def test_it_ends_when_the_one_that_started_it_is_killed(settings: Settings) -> None:
    script = (
        "import sys,time\nfrom pathlib import Path\nfrom segue.settings import Settings\n"
        "from segue.valkey import running\n"
        "with running(Settings(home=Path(sys.argv[1]), _env_file=None)):\n"
        "    print('up', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(settings.home)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        assert is_running(settings)
        starter.kill()
        assert _wait(lambda: not is_running(settings))


def test_what_was_acknowledged_survives_a_kill(settings: Settings) -> None:
    with running(settings):
        connect(settings).set("kept", "yes")
        os.kill(_pid(settings), signal.SIGKILL)
    with running(settings):
        assert connect(settings).get("kept") == b"yes"


def test_a_long_home_gets_a_short_socket_of_its_own(tmp_path: Path) -> None:
    homes = [tmp_path / ("long" * 30) / name for name in ("a", "b")]
    found = [Settings(home=home, _env_file=None) for home in homes]  # type: ignore[call-arg]
    paths = [socket_path(one) for one in found]
    assert len(set(paths)) == 2
    assert all(len(os.fsencode(path)) <= 100 for path in paths)
    with running(found[0]):
        assert is_running(found[0])
        assert not is_running(found[1])
    paths[0].parent.rmdir()


def test_a_folder_of_somebody_else_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_command(settings)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ValkeyError, match="somebody else"):
        serve_command(settings)


def test_a_server_elsewhere_that_is_down_is_told(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"valkey_url": "redis://127.0.0.1:1/0"})
    with pytest.raises(ValkeyError, match="SEGUE_VALKEY_URL"), running(elsewhere):
        pass
