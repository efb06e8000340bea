"""The dbt that waits: it runs as it was told to, and is gone when nobody needs it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestration import spare
from segue.settings import PROJECT_ROOT


def test_it_runs_with_the_environment_the_folder_and_the_exit_code_of_its_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles.yml").write_text(
        "shop: {target: x, outputs: {x: {type: duckdb, path: '{{ env_var(\"AT\") }}'}}}"
    )
    (tmp_path / "dbt_project.yml").write_text("{name: shop, profile: shop, config-version: 2}")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "one.sql").write_text("select 1 as n")
    monkeypatch.setenv("SEGUE_SLACK_TOKEN", "xoxb-never-for-dbt")
    spare.make_ready()
    assert spare._waiting is not None
    assert "xoxb" not in "".join(psutil.Process(spare._waiting.pid).environ().values()), "SQL can read it"
    codes = []
    for selected, at in (("one", str(tmp_path / "a.duckdb")), ("one", "/nowhere/b.duckdb")):
        process = spare.start(
            ["run", "--select", selected], env={**os.environ, "AT": at, "HOME": str(tmp_path)}, cwd=tmp_path
        )
        assert process.stdout is not None
        said = process.stdout.read().decode()
        codes.append(process.wait())
        assert "1 of 1" in said or "nowhere" in said, said
    assert codes[0] == 0
    assert codes[1] != 0
    assert (tmp_path / "a.duckdb").exists()


def test_one_that_waits_ends_with_whoever_made_it() -> None:
    text = "from orchestration import spare; spare.make_ready(); print(spare._waiting.pid)"
    made = subprocess.run([sys.executable, "-c", text], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    try:
        left = psutil.Process(int(made.stdout.split()[-1]))
    except psutil.NoSuchProcess:
        return
    left.wait(30)  # raises when it does not end
