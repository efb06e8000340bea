"""Training: trees, calibrated; judged on later dates than they learnt from; used only when they are worth it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segue.propensity.examples import STEP_DAYS, Examples
from segue.propensity.metrics import Quality, Tenth, quality, tenths
from segue.scoring import Forest, Population, Scorer

Floats = npt.NDArray[np.float64]

#: Fewer of either outcome teach nothing that can be checked.
FEWEST = 100

#: No honest feature separates the two outcomes so well by itself.
TOO_GOOD = 0.995

_RECENCY = "hours_since_last_seen"
_INNER_FOLDS = 3

#: A leaf of the trees speaks for at least so many people.
_LEAF_PEOPLE = 30
_GROUPS_SHOWN = 6
_FEWEST_OF_GROUP = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """How a group of people fares."""

    column: str
    value: str
    person_count: int
    rate: float  # of those it happened to
    mean_score: float
    auc: float | None  # None: only one outcome


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """How well it would have done: at each past date, learnt from what was known by then, judged by what came."""

    dates: tuple[datetime, ...]  # that were predicted
    person_count: int  # rows judged
    model: Quality
    logistic: Quality
    recency: Quality
    last_rate: Quality
    by_date: tuple[tuple[float, float], ...]  # AUC of the model and of recency alone
    tenths: tuple[Tenth, ...]
    fairness: tuple[Fairness, ...]
    newest: tuple[npt.NDArray[np.int64], Floats]  # rows of the last date, and their scores

    def to_json(self) -> str:
        """All figures, for `propensity.versions`."""
        said: dict[str, Any] = {
            name: asdict(getattr(self, name)) for name in ("model", "logistic", "recency", "last_rate")
        }
        return json.dumps(
            said
            | {
                "dates": [f"{d:%Y-%m-%d}" for d in self.dates],
                "person_count": self.person_count,
                "by_date": self.by_date,
                "tenths": [asdict(t) for t in self.tenths],
                "fairness": [asdict(f) for f in self.fairness],
            }
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training came to."""

    examples: Examples
    backtest: Backtest | None  # None: there was too little to judge by
    scorer: Scorer | None
    refusal: str  # why it is not to be used; empty when it may be


def train(examples: Examples, *, as_of: datetime, seed: int) -> Trained:
    """Fit, judge by a backtest in time, and fit on everything.

    Args:
        examples: as from `segue.propensity.examples.examples`.
        as_of: the end of the last horizon.
        seed: of everything random. The same examples and seed give the same file, bit by bit.
    """
    why = _too_little(examples) or _too_good(examples)
    if why:
        return Trained(examples=examples, backtest=None, scorer=None, refusal=why)
    # One thread: sums in the same order every time, so the same trees.
    with threadpool_limits(1):
        backtest = _backtest(examples, seed)
        if backtest is None:
            why = (
                f"the history is too short for a backtest: of {len(examples.cutoffs)} dates, none has "
                f"{FEWEST // 2} known outcomes of either kind before it"
            )
            return Trained(examples=examples, backtest=None, scorer=None, refusal=why)
        every = np.ones(len(examples.labels), dtype=bool)
        model, slope, offset = _fit(examples, every, seed)
    scorer = Scorer(
        name=examples.propensity.name,
        version=version_id(examples, as_of=as_of, seed=seed),
        features=examples.propensity.features,
        forest=Forest.of(model),
        slope=slope,
        offset=offset,
        about={
            "as_of": as_of.isoformat(),
            "seed": seed,
            "code_version": code_version(),
            "data_hash": examples.data_hash,
            "fingerprint": examples.propensity.fingerprint,
        },
    )
    return Trained(examples=examples, backtest=backtest, scorer=scorer, refusal=_not_worth_it(examples, backtest))


def version_id(examples: Examples, *, as_of: datetime, seed: int) -> str:
    """The same question, answered from the same figures by the same code, is the same version."""
    parts = (examples.propensity.fingerprint, as_of.isoformat(), str(seed), code_version(), examples.data_hash)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def code_version() -> str:
    """Of what a model depends on beside its data: the libraries, and this file."""
    text = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return f"scikit-learn {version_of('scikit-learn')}, numpy {version_of('numpy')}, training {text}"


def populations(examples: Examples, scorer: Scorer) -> Mapping[str, Population]:
    """How the features and the score were distributed at the last date, by name."""
    last = examples.at == examples.at.max()
    found = {f: Population.of(c) for f, c in zip(examples.propensity.features, examples.matrix[last].T, strict=True)}
    return found | {examples.propensity.score: Population.of(scorer.probability(examples.matrix[last]))}


def _too_little(examples: Examples) -> str:
    happened = int(examples.labels.sum())
    did_not = len(examples.labels) - happened
    for count, what in ((happened, "it happened to"), (did_not, "it did not happen to")):
        if count < FEWEST:
            return (
                f"too little to learn from: {count} examples of people {what}, at {len(examples.cutoffs)} past dates; "
                f"{FEWEST} are needed"
            )
    return ""


def _too_good(examples: Examples) -> str:
    for name, column in zip(examples.propensity.features, examples.matrix.T, strict=True):
        known = ~np.isnan(column)
        if known.sum() < FEWEST or len(np.unique(examples.labels[known])) < 2 or np.ptp(column[known]) == 0:
            continue
        auc = float(roc_auc_score(examples.labels[known], column[known]))
        if max(auc, 1 - auc) >= TOO_GOOD:
            return (
                f"{name} alone tells the outcome (AUC {max(auc, 1 - auc):.3f}): it knows what came after; "
                "take it out of `features`"
            )
    return ""


def _backtest(examples: Examples, seed: int) -> Backtest | None:
    """Rolling origin: at each date only examples whose outcome was known by then are learnt from."""
    horizon = timedelta(days=examples.propensity.horizon_days)
    rows: list[npt.NDArray[np.int64]] = []
    answers: dict[str, list[Floats]] = {"model": [], "logistic": [], "recency": [], "last_rate": []}
    judged: list[datetime] = []
    by_date: list[tuple[float, float]] = []
    for place, date in enumerate(examples.cutoffs):
        known = [n for n, cutoff in enumerate(examples.cutoffs) if cutoff + horizon <= date]
        before = np.isin(examples.at, known)
        now = np.flatnonzero(examples.at == place)
        fewest = min(int(examples.labels[before].sum()), int((~examples.labels[before]).sum()))
        if fewest < FEWEST // 2 or _outcomes(examples.labels[now]) < 2:
            continue
        model, slope, offset = _fit(examples, before, seed)
        raw = Forest.of(model).raw(examples.matrix[now])
        scores = 1 / (1 + np.exp(-(slope * raw + offset)))
        recency = _logistic(examples.matrix[before][:, [_recency(examples)]], examples.labels[before], seed)
        last_date = examples.at == max(known)
        answers["model"].append(scores)
        answers["logistic"].append(
            _logistic(examples.matrix[before], examples.labels[before], seed).predict_proba(examples.matrix[now])[:, 1]
        )
        answers["recency"].append(recency.predict_proba(examples.matrix[now][:, [_recency(examples)]])[:, 1])
        answers["last_rate"].append(np.full(len(now), float(examples.labels[last_date].mean())))
        rows.append(now)
        judged.append(date)
        by_date.append(
            (
                float(roc_auc_score(examples.labels[now], scores)),
                float(roc_auc_score(examples.labels[now], answers["recency"][-1])),
            )
        )
    if not rows:
        return None
    all_rows = np.concatenate(rows)
    labels = examples.labels[all_rows]
    scores = np.concatenate(answers["model"])
    return Backtest(
        dates=tuple(judged),
        person_count=len(all_rows),
        model=quality(labels, scores),
        logistic=quality(labels, np.concatenate(answers["logistic"])),
        recency=quality(labels, np.concatenate(answers["recency"])),
        last_rate=quality(labels, np.concatenate(answers["last_rate"])),
        by_date=tuple(by_date),
        tenths=tenths(labels, scores),
        fairness=_fairness(examples, all_rows, scores),
        newest=(rows[-1], answers["model"][-1]),
    )


def _not_worth_it(examples: Examples, backtest: Backtest) -> str:
    """Why the model is not better than doing without one; empty when it is."""
    margin = examples.propensity.margin
    if backtest.model.auc < backtest.recency.auc + margin:
        return (
            f"not ahead of recency alone by {margin}: AUC {backtest.model.auc:.3f} against {backtest.recency.auc:.3f} "
            f"on {len(backtest.dates)} past dates"
        )
    for name in ("brier", "log_loss"):
        mine, theirs = getattr(backtest.model, name), getattr(backtest.last_rate, name)
        if mine >= theirs:
            spoken = name.replace("_", "-")
            return f"no better than last period's rate for everybody: {spoken} {mine:.4f} against {theirs:.4f}"
    return ""


def _fit(examples: Examples, rows: npt.NDArray[np.bool_], seed: int) -> tuple[Any, float, float]:
    """Trees fitted on rows, and the slope and offset that make probabilities of their log-odds.

    Calibrated on people that the trees of that fold did not see: Platt (1999), "Probabilistic outputs for support
    vector machines", on log-odds of three folds by person.
    """
    matrix, labels, people = examples.matrix[rows], examples.labels[rows], examples.people[rows]
    leaf = _LEAF_PEOPLE * _told_again(examples, rows)
    folds = min(_INNER_FOLDS, len(np.unique(people)))
    raw = np.zeros(len(labels))
    for learn, judge in GroupKFold(folds).split(matrix, labels, people):
        if len(np.unique(labels[learn])) > 1:
            raw[judge] = Forest.of(_trees(matrix[learn], labels[learn], seed, leaf)).raw(matrix[judge])
    platt = LogisticRegression(C=1e6).fit(raw.reshape(-1, 1), labels)
    return _trees(matrix, labels, seed, leaf), float(platt.coef_[0, 0]), float(platt.intercept_[0])


def _told_again(examples: Examples, rows: npt.NDArray[np.bool_]) -> int:
    """In how many examples the same is told: dates of which the horizons overlap ask one person one question."""
    return min(len(np.unique(examples.at[rows])), -(-examples.propensity.horizon_days // STEP_DAYS))


def _trees(matrix: Floats, labels: npt.NDArray[np.bool_], seed: int, leaf: int) -> HistGradientBoostingClassifier:
    # The library cannot bin a column without a value; a constant one splits nothing.
    known = np.where(np.isnan(matrix).all(axis=0), 0.0, matrix)
    return HistGradientBoostingClassifier(
        max_iter=80, learning_rate=0.06, max_leaf_nodes=10, min_samples_leaf=leaf, l2_regularization=5.0,
        early_stopping=False, random_state=seed,
    ).fit(known, labels)  # fmt: skip


def _logistic(matrix: Floats, labels: npt.NDArray[np.bool_], seed: int) -> Any:
    """On ranks instead of values, since most features have heavy tails; what is missing is the median, and a flag."""
    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        QuantileTransformer(n_quantiles=min(100, len(matrix)), random_state=seed),
        LogisticRegression(max_iter=1000),
    ).fit(matrix, labels)


def _recency(examples: Examples) -> int:
    """The column of recency; when it is not among the features, the first one."""
    features = examples.propensity.features
    return features.index(_RECENCY) if _RECENCY in features else 0


def _outcomes(labels: npt.NDArray[np.bool_]) -> int:
    return len(np.unique(labels))


def _fairness(examples: Examples, rows: npt.NDArray[np.int64], scores: Floats) -> tuple[Fairness, ...]:
    found = []
    labels = examples.labels[rows]
    for column, values in examples.groups.items():
        mine = np.array(values, dtype=object)[rows]
        names, counts = np.unique(mine.astype(str), return_counts=True)
        for place in np.argsort(-counts, kind="stable")[:_GROUPS_SHOWN]:
            inside = mine == names[place]
            if counts[place] >= _FEWEST_OF_GROUP:
                both = _outcomes(labels[inside]) > 1
                found.append(
                    Fairness(
                        column=column,
                        value=str(names[place]),
                        person_count=int(counts[place]),
                        rate=float(labels[inside].mean()),
                        mean_score=float(scores[inside].mean()),
                        auc=float(roc_auc_score(labels[inside], scores[inside])) if both else None,
                    )
                )
    return tuple(found)
