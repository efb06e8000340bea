"""`segue up` starts everything, and stops everything."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from orchestration.up import HOST, _port_of_ui, addresses
from segue.errors import SegueError
from segue.settings import Settings


def run(line: str) -> str:
    return subprocess.run(["sh", "-c", line.strip()], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", ["refresh", "demo", "up"])
def test_a_home_that_cannot_be_written_is_told_with_the_fix(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGUE_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    # The settings of this process are those of the installation; a process of its own would cost seconds.
    for name in ("stop_on_signals", "end_with_parent"):
        monkeypatch.setattr(f"orchestration.{command}.{name}", lambda: None)
    assert importlib.import_module(f"orchestration.{command}").main([]) == 1
    said = capsys.readouterr().err
    assert "cannot be written: Not a directory" in said
    assert "set SEGUE_HOME to another folder" in said


@pytest.mark.parametrize("where", ["in .env", "in the environment"])
def test_links_lead_where_the_settings_say_and_sensors_call_the_ui_itself(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"SEGUE_DAGSTER_URL": "https://dagster.example.com", "SEGUE_DASHBOARD_URL": "https://kpis.example.com"}
    dotenv = tmp_path / ".env"
    dotenv.write_text("\n".join(f"{name}={url}" for name, url in said.items()) if where == "in .env" else "")
    for name, url in said.items():
        monkeypatch.delenv(name, raising=False)
        if where == "in the environment":
            monkeypatch.setenv(name, url)
    settings = Settings(home=tmp_path, _env_file=dotenv)  # type: ignore[call-arg]
    here = {"ui": "http://127.0.0.1:3001", "dashboard": "http://127.0.0.1:8724"}
    assert addresses(settings, **here) == {**said, "SEGUE_DAGSTER_API_URL": "http://127.0.0.1:3001"}


def test_links_lead_to_the_ports_that_were_free_when_no_setting_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEGUE_DAGSTER_URL", "SEGUE_DASHBOARD_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    told = addresses(settings, ui="http://127.0.0.1:3001", dashboard="http://127.0.0.1:8724")
    assert told["SEGUE_DAGSTER_URL"] == told["SEGUE_DAGSTER_API_URL"] == "http://127.0.0.1:3001"
    assert told["SEGUE_DASHBOARD_URL"] == "http://127.0.0.1:8724"
    without = addresses(settings, ui="http://127.0.0.1:3001", dashboard="")
    assert without["SEGUE_DASHBOARD_URL"] == settings.dashboard_url


def test_a_port_that_was_asked_for_and_is_taken_is_told_with_a_free_one() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(SegueError, match=rf"port {taken} is taken.*\n?.*--port \d+"):
            _port_of_ui(taken)
    assert _port_of_ui(None) in range(3000, 3050)


def test_the_ui_answers_and_ctrl_c_leaves_no_process(installation: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.up"],
        env={**os.environ, **installation.variables, "SEGUE_COLLECTOR_PORT": "0", "SEGUE_API_PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = next(line.split()[-1] for line in process.stdout if "Dagster UI" in line)
        assert requests.get(f"{url}/server_info", timeout=10).ok
        # The two lines that are printed send an event, and read what came of it, as they stand.
        sends, reads = (next(line for line in process.stdout if "curl" in line) for _ in range(2))
        assert '"success":true' in run(sends).replace(" ", "")
        deadline = time.monotonic() + 60
        while '"active_last_24h"' not in (found := run(reads)):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        answer = requests.post(
            f"{url}/graphql",
            json={
                "query": "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError "
                "{ __typename ... on PythonError { message } } } } } }"
            },
            timeout=60,
        ).json()
        (location,) = answer["data"]["workspaceOrError"]["locationEntries"]
        assert location["locationOrLoadError"] == {"__typename": "RepositoryLocation"}
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 8, "the UI, the daemon, the code server, the guards, collector, log, landing writer"
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    deadline = time.monotonic() + 60
    while (left := [p for p in family if p.is_running()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
