"""Two runs take turns, and the one that waits says so."""

import threading
from pathlib import Path

import dagster as dg
import pytest


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
