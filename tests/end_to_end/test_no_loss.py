"""The real processes, killed while real clients send: nothing is lost, doubled or wrong. Long form: benchmarks."""

from dataclasses import asdict
from pathlib import Path

from benchmarks.no_loss import run


def test_nothing_is_lost_when_processes_are_killed_and_two_engines_meet(tmp_path: Path) -> None:
    victims = ("collector", "landing", "valkey", "webhooks", "engine", "supervisor", "everything")
    verdict, kills, events, told = run(
        tmp_path / "home", seconds=9, pause=(0.8, 1.6), victims=victims, a_second=40, seed=11
    )
    assert sum(kills.values()) >= 4, "a machine that is busy kills less in its time"
    assert events > 100
    assert told > 50
    assert set(asdict(verdict).values()) == {0}, verdict
