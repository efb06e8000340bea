"""The engine at a time says what real dbt builds of the same project say as of that time, one after the other."""

import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from segue.events import ensure_tables
from segue.identifiers import Normaliser, load_key
from segue.identity import stitch
from segue.models import Project, dbt_environment
from segue.realtime.engine import Engine
from segue.segments import refresh_memberships
from segue.settings import Settings, child_environment
from segue.warehouse import Warehouse
from tests.realtime.test_parity import HORIZON, NAMES, _raw
from tests.realtime.world import START, Remembered, pass_time


def stream(seed: int, steps: int) -> list[tuple[datetime, pa.Table]]:
    """Batches with late, repeated and simultaneous messages, merges, devices and refused consent."""
    dice = random.Random(seed)
    moment, found = START, []
    for number in range(steps):
        moment += timedelta(seconds=1 + dice.choice((0, 1, 7, 1_800, 5_000, 30_000, 90_000)))
        found.append((moment, _raw(number, moment, [message(dice) for _ in range(dice.randint(0, 6))])))
    return found


def message(dice: random.Random) -> dict[str, Any]:
    kind = dice.choice(("track", "track", "track", "page", "identify", "alias"))
    user = dice.randint(0, 3) if kind == "alias" or dice.random() < 0.6 else None
    return {
        "number": dice.randint(0, 60),
        "type": kind,
        "event": dice.choice(NAMES) if kind == "track" else None,
        "user_id": user,
        "anonymous_id": dice.randint(0, 3) if user is None or dice.random() < 0.5 else None,
        "previous_id": dice.choice(("a0", "a1", "u0", "u1", "u2")) if kind == "alias" else None,
        "device": dice.choice((None, None, "d0", "d1")),
        "email": dice.choice((None, None, None, "x@example.com")),
        "plan": dice.choice((None, None, "gold")),
        "consent": dice.choice((None, None, None, False)),
        "late": dice.choice((0, 0, 0, 1_500, 3_600_000, 26 * 3_600_000, 80 * 3_600_000)),
    }


class Built:
    """A warehouse that dbt builds."""

    def __init__(self, settings: Settings, project: Project, target: Path) -> None:
        self._settings, self._project, self._target = settings, project, target
        self._warehouse = Warehouse(settings)
        shutil.copy(project.target_dir / "partial_parse.msgpack", target)
        models = project.upstream([m.name for m in project.segments])
        staging = [m for m in project.models if m.schema == "staging"]
        self._first = [m.name for m in staging]
        self._then = [m.name for m in models if m not in staging]

    def at(self, as_of: datetime, batches: Sequence[pa.Table]) -> dict[str, tuple[str, ...]]:
        """person_id → segments, after more messages have been ingested and everything is built as of a time."""
        with self._warehouse.write("ingest") as con:
            ensure_tables(con)
            con.register("arriving", pa.concat_tables(batches))
            con.execute(
                "insert into raw.events by name from arriving a"
                " where not exists (select 1 from raw.events e where e.message_id = a.message_id)"
                " qualify row_number() over (partition by message_id order by received_at, load_id) = 1"
            )
        self._dbt(as_of, self._first)
        with self._warehouse.write("identity", as_of=as_of) as con:
            stitch(con, as_of=as_of, rules=self._project.rules)
        self._dbt(as_of, self._then)
        with self._warehouse.write("memberships", as_of=as_of) as con:
            refresh_memberships(con, self._project, as_of=as_of)
            rows = con.execute(
                "select person_id, list(segment order by segment) from segments.memberships"
                " where exited_at is null group by person_id"
            ).fetchall()
        return {person: tuple(segments) for person, segments in rows}

    def _dbt(self, as_of: datetime, models: Sequence[str]) -> None:
        folder = str(self._project.project_dir)
        environment = dbt_environment(self._settings, as_of=as_of) | {
            "DBT_PROJECT_DIR": folder,
            "DBT_PROFILES_DIR": folder,
            "DBT_TARGET_PATH": str(self._target),
        }
        done = subprocess.run(
            [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "run", "--select", *models],
            env=child_environment(environment),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_the_engine_says_what_dbt_builds_say(settings: Settings, hard_project: Project, tmp_path: Path) -> None:
    own = settings.model_copy(update={"dbt_project": hard_project.project_dir})
    hard_project = replace(hard_project, normaliser=Normaliser(load_key(own)))
    built = Built(own, hard_project, tmp_path)
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    batches = stream(seed=5, steps=24)
    waiting: list[pa.Table] = []
    sizes = []
    for number, (moment, batch) in enumerate(batches, start=1):
        pass_time(engine, store, moment - timedelta(seconds=1))
        store.apply(engine.batch(batch, moment))
        pass_time(engine, store, moment)
        waiting.append(batch)
        if number % (len(batches) // 2) == 0:
            # The second build goes on from the first, as every day.
            said = built.at(moment, waiting)
            served = engine.rules.served
            expected = {p: kept for p, own in said.items() if (kept := tuple(s for s in own if s in served))}
            assert engine.memberships() == store.memberships() == expected
            sizes.append(sum(map(len, expected.values())))
            waiting = []
    assert min(sizes) > 10
