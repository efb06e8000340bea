"""How the Dagster code is built."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ("orchestration", "assets", "sensors") for path in (ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_annotations_are_real_at_run_time(path: Path) -> None:
    # Dagster reads annotations of assets, checks and resources; as texts they break it.
    text = path.read_text()
    assert "from __future__ import annotations" not in text
    assert "TYPE_CHECKING" not in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_time_comes_from_one_clock(path: Path) -> None:
    assert not re.search(r"datetime\.now|utcnow|time\.time\(\)|date\.today", path.read_text())


def test_nothing_is_imported_upwards() -> None:
    for path in FILES:
        text = path.read_text()
        if path.parent.name == "orchestration" and path.name not in {"definitions.py", "refresh.py"}:
            assert not re.search(r"^\s*from (assets|sensors)", text, re.MULTILINE), path
        if path.parent.name == "assets":
            assert not re.search(r"^\s*from sensors", text, re.MULTILINE), path
