"""The table of figures keeps what was measured, and every benchmark can be asked what it does."""

import subprocess
import sys
from datetime import date

import pytest

from benchmarks.__main__ import FIRST, LAST, NAMES, PAGE, row, with_row

DAY = date(2026, 3, 1)
RESULT = {"figure": 2.5, "unit": "times", "against": "a | b", "goal": "<= 2", "holds": False}


def test_a_row_takes_the_place_of_the_last_one_of_its_name() -> None:
    page = f"# Figures\n{FIRST}\n{LAST}\nmore\n"
    page = with_row(page, "readers", row("readers", RESULT | {"holds": True}, DAY))
    page = with_row(page, "ingest", row("ingest", RESULT, DAY))
    page = with_row(page, "readers", row("readers", RESULT, DAY))
    assert page.startswith(f"# Figures\n{FIRST}\n| command |")
    assert page.endswith(f"{LAST}\nmore\n")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert lines == [
        f"| `benchmarks.{name}` | 2.5 times | a / b | <= 2 | **no** | 2026-03-01 |" for name in ("ingest", "readers")
    ]


def test_the_page_has_a_place_for_the_table_and_names_only_what_there_is() -> None:
    page = PAGE.read_text()
    assert (page.count(FIRST), page.count(LAST)) == (1, 1)
    table = page.split(FIRST)[1].split(LAST)[0]
    assert {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")} <= {
        f"benchmarks.{name}" for name in NAMES
    }


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nonsense"],
        cwd=PAGE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no benchmark is called nonsense" in done.stderr
    assert "ingest" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_says_how_it_is_called(name: str) -> None:
    text = (PAGE.parents[1] / "benchmarks" / f"{name}.py").read_text()
    assert f"python -m benchmarks.{name}" in text.split('"""')[1]
    assert "report(" in text
