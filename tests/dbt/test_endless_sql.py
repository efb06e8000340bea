"""A model whose SQL does not end is stopped, and the others are built."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest


def test_sql_that_does_not_end_is_stopped_and_the_rest_is_built(
    make_edited_lab: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_edited_lab(tmp_path / "home")
    folder = lab.project / "models" / "segments"
    (folder / "a_endless.sql").write_text("select 'p' as person_id from range(1000000000000) as r(n) where hash(n) = 0")
    (folder / "b_quick.sql").write_text("select 'p' as person_id")
    monkeypatch.setenv("SEGUE_MODEL_SECONDS", "5")
    outcome = lab.run("--select", "a_endless", "b_quick", as_of=datetime(2026, 1, 9, tzinfo=UTC), check=False)
    assert outcome.statuses("model") == {"a_endless": "error", "b_quick": "success"}
    assert "INTERRUPT Error" in outcome.output
    assert lab.rows("from segments.b_quick") == [("p",)]
