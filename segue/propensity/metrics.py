"""How good probabilities are."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_TINY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Of one way to predict, at dates that it did not learn from; most of the people it had met at earlier ones."""

    auc: float  # that somebody it happened to is ranked above somebody it did not happen to
    pr_auc: float  # average precision; what chance gives is the rate
    log_loss: float
    brier: float
    calibration_error: float  # mean gap between probability and rate over ten groups of equal size


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenth:
    """A tenth of the examples, by their score."""

    person_count: int  # examples: somebody is one at each date
    mean_score: float
    rate: float  # of those it happened to
    lift: float  # that rate against everybody's


def quality(labels: Flags, scores: Floats) -> Quality:
    """All figures. Both outcomes have to be there."""
    scores = np.clip(scores, _TINY, 1 - _TINY)
    return Quality(
        auc=float(roc_auc_score(labels, scores)),
        pr_auc=float(average_precision_score(labels, scores)),
        log_loss=float(log_loss(labels, scores, labels=[False, True])),
        brier=float(brier_score_loss(labels, scores)),
        calibration_error=calibration_error(labels, scores),
    )


def tenths(labels: Flags, scores: Floats) -> tuple[Tenth, ...]:
    """Examples in ten groups of equal size, those with the highest scores first."""
    order = np.argsort(-scores, kind="stable")
    rate = max(float(labels.mean()), _TINY)
    return tuple(
        Tenth(
            person_count=len(part),
            mean_score=float(scores[part].mean()),
            rate=float(labels[part].mean()),
            lift=float(labels[part].mean()) / rate,
        )
        for part in np.array_split(order, 10)
        if len(part)
    )


def calibration_error(labels: Flags, scores: Floats) -> float:
    """Expected calibration error: |probability − rate| over ten groups of equal size, weighted by their size.

    Naeini, Cooper, Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning", with equal
    sizes instead of equal widths.
    """
    told = tenths(labels, scores)
    return float(sum(t.person_count * abs(t.mean_score - t.rate) for t in told) / max(len(labels), 1))
