"""Two runs take turns, and the one that waits says so."""

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import dagster as dg
import pytest

from segue.settings import PROJECT_ROOT


def test_a_run_that_waits_for_another_one_says_so_at_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import progress
    from orchestration.resources import Turn
    from orchestration.turns import turn

    monkeypatch.setenv("SEGUE_HOME", str(tmp_path))
    order: list[str] = []
    has_turn, is_told = threading.Event(), threading.Event()

    def say(_self: object, line: str) -> None:
        order.append(line.strip(" ·"))
        is_told.set()

    monkeypatch.setattr(progress._Lines, "_say", say)

    def other() -> None:
        with turn(tmp_path / "run.lock"):
            has_turn.set()
            is_told.wait(60)
            order.append("the other run ends")

    @dg.asset
    def work(turn: Turn) -> None:
        order.append("work")

    job = dg.Definitions(
        assets=[work],
        jobs=[dg.define_asset_job("all", "*")],
        resources={"turn": Turn()},
        loggers={"progress": progress.progress},
        executor=dg.in_process_executor,
    ).resolve_job_def("all")
    thread = threading.Thread(target=other)
    thread.start()
    has_turn.wait()
    try:
        assert job.execute_in_process(run_config={"loggers": {"progress": {}}}).success
    finally:
        is_told.set()
        thread.join()
    assert order[:3] == [
        "another run is working on this warehouse; waiting for it to end",
        "the other run ends",
        "work",
    ]


def test_a_terminal_shows_the_step_that_is_running() -> None:
    code = (
        "from orchestration.progress import _Now, at_a_terminal\n"
        "with at_a_terminal():\n"
        "    now = _Now(); now.begin('dbt_kpis'); now.end(); now.clear()\n"
    )
    run = [sys.executable, "-c", code]
    ours, theirs = pty.openpty()
    subprocess.run(run, stderr=theirs, cwd=PROJECT_ROOT, check=True)
    shown = os.read(ours, 1000)
    assert b"dbt_kpis" in shown
    assert shown.endswith(b"\r\x1b[K"), "the line is free for what is said next"
    piped = subprocess.run(run, stderr=subprocess.PIPE, cwd=PROJECT_ROOT, check=True)
    assert piped.stderr == b"", "a file is not a terminal"
