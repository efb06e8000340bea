"""Training on made-up examples: what can be learnt is learnt, what cannot is said, and nothing depends on luck."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from segue.propensity import Examples, Propensity, train
from segue.propensity.metrics import calibration_error, quality, tenths
from segue.propensity.train import _told_again, populations

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
ASKED = Propensity(
    name="churn", description="Who stays away.", score="churn_risk", horizon_days=14, refit_days=7, margin=0.02,
    features=("hours_since_last_seen", "visits", "noise"), relation="propensity.churn", path="churn.sql",
    definition_hash="h",
)  # fmt: skip


def made(people: int = 250, dates: int = 6, *, seed: int = 0, visits: float = 1.5, rate: float = -0.8) -> Examples:
    """The same people at weekly dates; visits tell more than recency, noise nothing."""
    random = np.random.default_rng(seed)
    count = people * dates
    recency, tells = random.normal(size=count), random.normal(size=count)
    odds = rate + 0.6 * recency - visits * tells
    matrix = np.column_stack([recency, tells, random.normal(size=count)])
    matrix[random.random(matrix.shape) < 0.03] = np.nan
    latest = AS_OF - timedelta(days=14)
    return Examples(
        propensity=ASKED,
        cutoffs=tuple(latest - timedelta(days=7 * n) for n in reversed(range(dates))),
        matrix=matrix,
        labels=random.random(count) < 1 / (1 + np.exp(-odds)),
        at=np.repeat(np.arange(dates), people),
        people=np.tile(np.arange(people), dates),
        groups={"country": ["DE" if n % 3 else "US" for n in range(count)]},
    )


@pytest.fixture(scope="module")
def trained():
    return train(made(), as_of=AS_OF, seed=0)


def test_what_can_be_learnt_beats_recency_and_is_calibrated(trained) -> None:
    assert trained.refusal == ""
    told = trained.backtest
    assert told.model.auc >= told.recency.auc + 0.1
    assert told.model.brier < told.last_rate.brier
    assert told.model.calibration_error <= 0.06
    assert told.tenths[0].lift > 1.8 > told.tenths[-1].lift
    assert {(f.column, f.value) for f in told.fairness} == {("country", "DE"), ("country", "US")}
    assert json.loads(told.to_json())["by_date"] == [list(pair) for pair in told.by_date]


def test_a_feature_that_nobody_has_is_learnt_nothing_from() -> None:
    examples = made()
    matrix = examples.matrix.copy()
    matrix[:, 2] = np.nan
    assert train(replace(examples, matrix=matrix), as_of=AS_OF, seed=0).refusal == ""


@pytest.mark.parametrize(
    ("examples", "why"),
    [
        pytest.param(made(people=1, dates=8), "too little to learn from", id="one person"),
        pytest.param(
            replace(made(), matrix=np.full((1500, 3), 7.0)), "not ahead of recency alone", id="all people the same"
        ),
        pytest.param(
            replace(made(), matrix=np.full((1500, 3), np.nan)), "not ahead of recency alone", id="nothing is known"
        ),
        pytest.param(made(people=0), "too little to learn from: 0 examples", id="nobody"),
    ],
)
def test_what_teaches_nothing_gives_no_model_and_a_word(examples: Examples, why: str) -> None:
    trained = train(examples, as_of=AS_OF, seed=0)
    assert trained.refusal.startswith(why)


def test_a_constant_column_does_no_harm() -> None:
    examples = made()
    matrix = examples.matrix.copy()
    matrix[:, 2] = 3.0
    found = train(replace(examples, matrix=matrix), as_of=AS_OF, seed=0)
    assert found.refusal == ""
    assert not found.scorer.forest.feature[found.scorer.forest.is_leaf == 0].tolist().count(2)


def test_a_leaf_speaks_for_people_not_for_the_same_people_at_many_dates() -> None:
    every = np.ones(1500, dtype=bool)
    assert _told_again(made(), every) == 2  # 14 days, dates a week apart
    weekly, long = replace(ASKED, horizon_days=7), replace(ASKED, horizon_days=90)
    assert _told_again(replace(made(), propensity=weekly), every) == 1
    assert _told_again(replace(made(), propensity=long), every) == 6  # never more than there are dates


def test_a_date_is_predicted_from_outcomes_that_were_known_by_then(trained) -> None:
    # Outcomes of 14 days, dates a week apart: the first two dates have nothing known before them.
    assert trained.backtest.dates == trained.examples.cutoffs[2:]


def test_an_outcome_that_was_not_known_yet_is_not_learnt_from() -> None:
    examples = made()
    # From the third date on everything is the other way round; at that date nobody could know.
    turned = replace(examples, labels=np.where(examples.at >= 2, ~examples.labels, examples.labels))
    by_date = train(turned, as_of=AS_OF, seed=0).backtest.by_date
    assert by_date[0][0] < 0.3
    assert by_date[1][0] < 0.3
    assert by_date[-1][0] > by_date[0][0] + 0.1


def test_the_same_examples_and_seed_give_the_same_model(trained) -> None:
    again = train(made(), as_of=AS_OF, seed=0)
    assert again.scorer.version == trained.scorer.version
    assert np.array_equal(again.scorer.forest.value, trained.scorer.forest.value)
    assert (again.scorer.slope, again.scorer.offset) == (trained.scorer.slope, trained.scorer.offset)
    other = made()
    other.matrix[7, 1] += 1e-9
    assert other.data_hash != trained.examples.data_hash
    shuffled = made()
    order = np.random.default_rng(1).permutation(len(shuffled.labels))
    mixed = replace(
        shuffled, matrix=shuffled.matrix[order], labels=shuffled.labels[order], at=shuffled.at[order],
        people=shuffled.people[order],
    )  # fmt: skip
    assert mixed.data_hash == trained.examples.data_hash


def test_a_model_that_is_not_ahead_of_recency_is_not_used() -> None:
    trained = train(made(visits=0.0), as_of=AS_OF, seed=0)
    assert trained.refusal.startswith("not ahead of recency alone by 0.02: AUC ")
    assert trained.scorer is not None  # kept as a version that can be looked at


@pytest.mark.parametrize(("rate", "what"), [(-9.0, "it happened to"), (9.0, "it did not happen to")])
def test_fewer_than_a_hundred_of_either_outcome_are_said_to_be_too_few(rate: float, what: str) -> None:
    trained = train(made(rate=rate, visits=0), as_of=AS_OF, seed=0)
    assert f"examples of people {what}" in trained.refusal
    assert "100 are needed" in trained.refusal
    assert trained.scorer is None


def test_a_feature_that_knows_the_outcome_is_refused_by_name() -> None:
    examples = made()
    examples.matrix[:, 2] = examples.labels + np.random.default_rng(0).normal(scale=0.05, size=len(examples.labels))
    refusal = train(examples, as_of=AS_OF, seed=0).refusal
    assert refusal.startswith("noise alone tells the outcome (AUC 1.000): it knows what came after")


def test_a_short_history_is_no_failure() -> None:
    trained = train(made(people=800, dates=2), as_of=AS_OF, seed=0)
    assert trained.refusal.startswith("the history is too short for a backtest")


def test_drift_is_told_by_the_column_that_moved(trained) -> None:
    then = populations(trained.examples, trained.scorer)
    other = made(seed=5)
    last = other.at == other.at.max()
    assert then["visits"].index(other.matrix[last][:, 1]) < 0.1
    assert then["visits"].index(other.matrix[last][:, 1] + 1) > 0.25
    assert then["visits"].index(np.full(200, np.nan)) > 0.25


def test_probabilities_that_are_right_have_no_calibration_error() -> None:
    random = np.random.default_rng(0)
    scores = random.random(20_000)
    labels = random.random(20_000) < scores
    assert calibration_error(labels, scores) < 0.02
    assert calibration_error(labels, scores**3) > 0.1
    assert quality(labels, scores).auc == pytest.approx(5 / 6, abs=0.01)
    assert [t.person_count for t in tenths(labels, scores)] == [2000] * 10
