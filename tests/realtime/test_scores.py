"""A score in real time is the warehouse's number, and another model is picked up as a new definition is."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from segue.identity import stitch
from segue.models import Evaluator, Project
from segue.models.check import empty_lake
from segue.propensity import ensure_tables, propensities, publish, rollback, withdraw
from segue.realtime.engine import Engine
from segue.scoring import Forest, Scorer, save_scorer
from segue.store import PersonState
from segue.warehouse import Connection
from tests.realtime.world import START, raw_events

NOW = START + timedelta(days=9)
PUBLISHED = "propensity.published"
BANDS = {"churn_risk_high", "churn_risk_medium", "churn_risk_low"}


def model(project: Project, path: Path, seed: int) -> Path:
    """A model of churn that has learnt nonsense: what it says differs from person to person."""
    churn = next(p for p in propensities(project) if p.name == "churn")
    random = np.random.default_rng(seed)
    matrix = random.gamma(1.0, 4.0, size=(600, len(churn.features)))
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    labels = random.random(600) < 0.5
    trees = HistGradientBoostingClassifier(max_iter=30, learning_rate=0.5, random_state=seed).fit(matrix, labels)
    scorer = Scorer(
        name="churn", version=f"v{seed}", features=churn.features, forest=Forest.of(trees), slope=1.0, offset=0.0,
        about={},
    )  # fmt: skip
    save_scorer(scorer, path / f"v{seed}.npz")
    return path / f"v{seed}.npz"


@pytest.fixture(scope="module")
def raw() -> pa.Table:
    random = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for person in range(40):
        for _ in range(random.integers(1, 9)):
            at = START + timedelta(seconds=int(random.integers(0, 8 * 86400)))
            rows.append(
                {
                    "message_id": f"m{len(rows)}", "type": "track", "user_id": f"u{person}", "anonymous_id": None,
                    "event": str(random.choice(["Product Viewed", "Signed In", "Order Completed"])),
                    "timestamp": at, "received_at": at, "properties": {"revenue": int(random.integers(1, 50))},
                    "traits": {}, "context": {}, "load_id": 0,
                }
            )  # fmt: skip
    return raw_events(sorted(rows, key=lambda r: r["received_at"]))


def lake(files: list[tuple[Path, Any]], raw: pa.Table) -> Connection:
    """A warehouse with the messages, and models of churn that came into force at times."""
    con = empty_lake()
    con.execute("create schema raw")
    con.register("arriving", raw)
    con.execute("create table raw.events as from arriving")
    ensure_tables(con)
    for file, at in files:
        publish(con, "churn", version=file.stem, model_file=str(file), as_of=at, reason="for the test")
    return con


def warehouse_says(project: Project, con: Connection) -> dict[str, tuple[float | None, str | None]]:
    """person_id → churn risk, band."""
    wanted = ["person_scores", *BANDS]
    with Evaluator(project, con, until=NOW, stitch=lambda c, t: stitch(c, as_of=t), targets=wanted) as past:
        found = past.at(NOW)
        assert not found.failed, found.failed
        union = " union all ".join(f"select person_id, '{b}' as band from segments.{b}" for b in sorted(BANDS))
        rows = found.con.execute(
            f"select person_id, churn_risk, band from marts.person_scores left join ({union}) using (person_id)"
        ).fetchall()
    return {person: (risk, band) for person, risk, band in rows}


def engine_says(engine: Engine, states: list[Any]) -> dict[str, tuple[float | None, str | None]]:
    found = engine.memberships()
    return {
        s.person_id: (s.features.get("churn_risk"), next(iter(BANDS & set(found.get(s.person_id, ()))), None))
        for s in states
    }


def everybody_anew(engine: Engine) -> list[PersonState]:
    """What new definitions make of everybody."""
    engine.start_pass("definition")
    states: list[PersonState] = []
    while (update := engine.pass_step(NOW)) is not None:
        states += update.people
    return states


def test_the_engine_gives_everybody_the_number_that_the_warehouse_gives(
    hard_project: Project, raw: pa.Table, tmp_path: Path
) -> None:
    first, second = model(hard_project, tmp_path, 1), model(hard_project, tmp_path, 2)
    con = lake([(first, START), (second, NOW + timedelta(days=1))], raw)  # the second one not in force yet
    held = lambda relation: con.execute(f"from {relation}").to_arrow_table() if relation == PUBLISHED else None  # noqa: E731
    engine = Engine(hard_project, held=held)
    states = list(engine.batch(raw, NOW).people)
    expected = warehouse_says(hard_project, con)
    said = engine_says(engine, states)
    assert {p: said[p] for p in expected} == expected
    risks = [risk for risk, _ in expected.values() if risk is not None]
    assert len(set(risks)) > 10
    assert all((band is None) == (risk is None) for risk, band in expected.values())
    assert len({band for _, band in expected.values()}) >= 3

    # Another model comes into force: everybody is scored anew, as for a new definition.
    con.execute("delete from propensity.published")
    publish(con, "churn", version="v2", model_file=str(second), as_of=START, reason="for the test")
    assert engine.redefine(hard_project, held=held)
    states = everybody_anew(engine)
    again = warehouse_says(hard_project, con)
    said = engine_says(engine, states)
    assert {p: said[p] for p in again} == again
    assert again != expected


def test_a_model_that_was_withdrawn_stays_withdrawn(hard_project: Project, raw: pa.Table, tmp_path: Path) -> None:
    """The row that withdraws has no file, and must not be passed over: the one before would come back."""
    file = model(hard_project, tmp_path, 1)
    con = lake([(file, START)], raw)
    held = lambda relation: con.execute(f"from {relation}").to_arrow_table() if relation == PUBLISHED else None  # noqa: E731
    engine = Engine(hard_project, held=held)
    states = list(engine.batch(raw, NOW).people)
    assert any(s.features.get("churn_risk") is not None for s in states)

    assert withdraw(con, "churn", as_of=NOW - timedelta(hours=1), reason="it misjudges new people") == "v1"
    assert engine.redefine(hard_project, held=held)
    states = everybody_anew(engine)
    expected = warehouse_says(hard_project, con)
    assert set(expected.values()) == {(None, None)}
    said = engine_says(engine, states)
    assert {p: said[p] for p in expected} == expected

    assert rollback(con, "churn", to=None, as_of=NOW - timedelta(minutes=1)) == "v1"
    assert len({risk for risk, _ in warehouse_says(hard_project, con).values()}) > 10


def test_without_a_model_nobody_has_a_score_and_everything_else_works(hard_project: Project, raw: pa.Table) -> None:
    engine = Engine(hard_project)
    states = engine.batch(raw, NOW).people
    assert all("churn_risk" not in s.features for s in states)
    assert all(s.features["event_count"] >= 1 for s in states)
    assert not any(BANDS & set(names) for names in engine.memberships().values())
