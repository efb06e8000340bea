"""Are the scores worth having? Against recency alone on the simulator, and against BG/NBD on real purchases.

Simulator: features of past dates by the models as of then, a rolling-origin backtest of churn. Figures: AUC ahead of a
logistic regression on recency alone, and the expected calibration error, both on people of later dates than were
learnt from.

CDNOW (purchases of 2,357 people, inside the wheel of the library `lifetimes`, installed by uv into an environment of
its own): from the first 39 weeks, how often does each person buy in the 39 weeks after? Segue's trees say the
probability of a purchase within 13 weeks, learnt at the weekly dates that Segue asks about, within the first 39 weeks.
A probability is no number: who buys at all often buys more than once, the more so the more people with one score
differ. As in BG/NBD, rates are taken to be gamma distributed, so that a probability p means k × ((1 − p)^(−1/k) − 1)
purchases; k is what makes these add up to the purchases that followed the dates learnt from. (With one rate for all
who have a score, −log(1 − p), they add up to a quarter less than was bought, on those dates and after.) Each later
quarter is that number times the ratio of the last two quarters' purchases in the first 39 weeks. Compared: the mean
absolute error per person, and the error of the total, with that library's BG/NBD.

    python -m benchmarks.propensity [--quick] [--seed N]
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from sklearn.model_selection import GroupKFold

from benchmarks._report import report
from benchmarks._simulated import UNTIL, shop
from segue import propensity
from segue.identity import stitch
from segue.propensity.examples import dates
from segue.propensity.train import _fit
from segue.scoring import Forest

HORIZON = timedelta(weeks=13)
END_OF_CALIBRATION = datetime(1997, 10, 1, tzinfo=UTC)
FEATURES = ("days_since_last", "purchases", "days_since_first", "average_gap", "gap_ratio", "purchases_13w")


def simulator(people: int, days: int, seed: int) -> propensity.Backtest:
    """The backtest of churn."""
    with tempfile.TemporaryDirectory() as home:
        made = shop(Path(home), people=people, days=days, seed=seed)
        churn = [p for p in propensity.propensities(made.project) if p.name == "churn"]
        with made.warehouse.read() as con:
            found = propensity.examples(made.project, con, churn, as_of=UNTIL, stitch=lambda c, t: stitch(c, as_of=t))[
                "churn"
            ]
        backtest = propensity.train(found, as_of=UNTIL, seed=seed).backtest
    assert backtest is not None
    return backtest


def cdnow(seed: int) -> dict[str, float]:
    """Errors of Segue and of BG/NBD."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    assert uv is not None, "uv is not installed: `make setup`"
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/venv/bin/python"
        for command in (
            [uv, "venv", "-q", "--python", "3.11", f"{folder}/venv"],
            [
                uv,
                "pip",
                "install",
                "-q",
                "--python",
                python,
                "lifetimes==0.11.3",
                "setuptools<80",
                "pandas<2",
                "numpy<1.25",
                "scipy<1.11",
            ],
            [python, str(Path(__file__).with_name("_cdnow.py")), f"{folder}/cdnow.json"],
        ):
            subprocess.run(command, check=True)
        said = json.loads(Path(f"{folder}/cdnow.json").read_text())
    bought: dict[str, list[datetime]] = {}
    for person, day in said["purchases"]:
        bought.setdefault(str(person), []).append(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC))
    people = sorted(said["people"], key=int)
    real, theirs = (np.array([said["people"][p][n] for p in people]) for n in (0, 1))
    ours = _predict(bought, people, seed)
    return {
        "mae": float(np.abs(ours - real).mean()),
        "mae_bgnbd": float(np.abs(theirs - real).mean()),
        "total_error": float(ours.sum() / real.sum() - 1),
        "total_error_bgnbd": float(theirs.sum() / real.sum() - 1),
        "correlation": float(np.corrcoef(ours, real)[0, 1]),
        "correlation_bgnbd": float(np.corrcoef(theirs, real)[0, 1]),
    }


def _predict(bought: dict[str, list[datetime]], people: list[str], seed: int) -> np.ndarray:
    """Purchases of each person in the 39 weeks after, from those before."""
    asked = propensity.Propensity(
        name="cdnow", description="", score="cdnow", horizon_days=HORIZON.days, refit_days=7, margin=0.0,
        features=FEATURES, relation="", path="", definition_hash="",
    )  # fmt: skip
    first = min(min(days) for days in bought.values())
    cutoffs = dates(first, as_of=END_OF_CALIBRATION, horizon_days=HORIZON.days)
    rows, counts, at, who = [], [], [], []
    for place, cutoff in enumerate(cutoffs):
        for number, person in enumerate(people):
            if bought[person][0] < cutoff:
                rows.append(_features(bought[person], cutoff))
                counts.append(sum(cutoff <= d < cutoff + HORIZON for d in bought[person]))
                at.append(place)
                who.append(number)
    found = propensity.Examples(
        propensity=asked, cutoffs=cutoffs, matrix=np.array(rows), labels=np.array(counts) > 0, at=np.array(at),
        people=np.array(who), groups={},
    )  # fmt: skip
    # For these dates no outcome of the horizon is known before the next one: there is no backtest, so fit alone.
    everything = np.ones(len(counts), dtype=bool)
    spread = _spread(_unseen(found, seed), sum(counts))
    rate = _count(_score(found, everything, np.array([_features(bought[p], END_OF_CALIBRATION) for p in people]), seed),
                  spread)  # fmt: skip
    newer, older = (
        sum(
            END_OF_CALIBRATION - n * HORIZON <= d < END_OF_CALIBRATION - (n - 1) * HORIZON
            for p in people for d in bought[p][1:]
        )
        for n in (1, 2)
    )  # fmt: skip
    ratio = min(newer / max(older, 1), 1.0)
    answer: np.ndarray = rate * (1 + ratio + ratio**2)
    return answer


def _score(found: propensity.Examples, rows: np.ndarray, matrix: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities by the trees that are fitted on some rows."""
    model, slope, offset = _fit(found, rows, seed)
    score: np.ndarray = 1 / (1 + np.exp(-(slope * Forest.of(model).raw(matrix) + offset)))
    return score


def _unseen(found: propensity.Examples, seed: int) -> np.ndarray:
    """A probability for every row, by trees that did not learn from its person."""
    scores = np.empty(len(found.at))
    for _, judge in GroupKFold(3).split(found.matrix, found.labels, found.people):
        rows = np.ones(len(scores), dtype=bool)
        rows[judge] = False
        scores[judge] = _score(found, rows, found.matrix[judge], seed)
    return scores


def _count(chance: np.ndarray, spread: float) -> np.ndarray:
    """Purchases that a probability of one or more means, when rates are gamma distributed with the shape `spread`."""
    counts: np.ndarray = spread * ((1 - np.clip(chance, 0, 0.999)) ** (-1 / spread) - 1)
    return counts


def _spread(chance: np.ndarray, bought: int) -> float:
    """The shape with which probabilities add up to what was bought."""
    return float(brentq(lambda k: _count(chance, k).sum() - bought, 0.05, 50))


def _features(days: list[datetime], at: datetime) -> list[float]:
    before = sorted(d for d in days if d < at)
    since_last, since_first = (at - before[-1]).days, (at - before[0]).days
    gap = (before[-1] - before[0]).days / (len(before) - 1) if len(before) > 1 else float("nan")
    return [
        since_last, len(before), since_first, gap, since_last / gap if gap == gap and gap > 0 else float("nan"),
        sum(d >= at - HORIZON for d in before),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    people, days = (400, 70) if options.quick else (2000, 120)
    told = simulator(people, days, options.seed)
    ahead = told.model.auc - told.recency.auc
    print(
        f"simulator, churn: AUC {told.model.auc:.3f}, recency alone {told.recency.auc:.3f}, logistic "
        f"{told.logistic.auc:.3f}; calibration error {told.model.calibration_error:.3f}; {told.person_count:,} examples"
    )
    real = cdnow(options.seed)
    print(
        f"CDNOW: error per person {real['mae']:.3f} (BG/NBD {real['mae_bgnbd']:.3f}), of the total "
        f"{real['total_error']:+.1%} (BG/NBD {real['total_error_bgnbd']:+.1%})"
    )
    is_level = real["mae"] <= 1.02 * real["mae_bgnbd"] and (
        abs(real["total_error"]) <= abs(real["total_error_bgnbd"]) + 0.02
    )
    report(
        "propensity",
        figure=ahead,
        unit="AUC ahead of recency alone",
        against=f"recency alone {told.recency.auc:.3f}",
        goal=">= 0.05, calibration error <= 0.03, CDNOW level with BG/NBD or better",
        holds=ahead >= 0.05 and told.model.calibration_error <= 0.03 and is_level,
        auc=round(told.model.auc, 4),
        calibration_error=round(told.model.calibration_error, 4),
        is_level_with_bgnbd=is_level,
        **{name: round(value, 4) for name, value in real.items()},
    )


if __name__ == "__main__":
    main()
