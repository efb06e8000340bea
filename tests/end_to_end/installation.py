"""Installations of their own, driven only through the commands that a person uses."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A home, and the `segue` command on it."""

    home: Path
    history_start: str
    history_days: int = 90

    def segue(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        variables = {
            "SEGUE_HOME": str(self.home),
            "SEGUE_DBT_PROJECT": str(ROOT / "dbt_project"),
            "SEGUE_HISTORY_START": self.history_start,
            "SEGUE_HISTORY_DAYS": str(self.history_days),
            "DAGSTER_HOME": str(self.home / "dagster"),
            "PYTHONWARNINGS": "ignore",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
        return subprocess.run(
            [str(Path(sys.executable).with_name("segue")), *arguments],
            env=kept | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self, *arguments: str) -> str:
        """What the command prints; it must end well."""
        done = self.segue(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Through `segue sql`."""
        found: list[dict[str, Any]] = json.loads(self.said("sql", query, "--format", "json"))
        return found
