"""From columns to vectors that distances make sense on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import skew

from segue.clusters.features import Feature

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Skewness from which a column counts as heavy-tailed.
_HEAVY = 2.0

#: Values further out say only "very": no single person shall make a cluster of their own.
_CLIP = 4.0

#: Missing values say something about people when they are neither rare nor the rule.
_MISSING_SHARE = 0.05

#: That a value is missing says less than the value: otherwise "has never bought" alone would split every group.
_MISSING_WEIGHT = 0.5

#: The standard deviation of a normal distribution from its interquartile range.
_IQR_TO_SD = 1.349


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One column of the matrix."""

    feature: Feature
    is_missing: bool  # whether it says that the value is missing, instead of the value
    is_logged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """People as points."""

    matrix: Floats  # people × dimensions; centred, of similar spread, no missing values
    raw: Floats  # people × features, as in the warehouse; NaN is missing
    features: tuple[Feature, ...]
    dimensions: tuple[Dimension, ...]


def vectors(raw: Floats, features: Sequence[Feature]) -> Vectors:
    """Scale columns so that no unit, outlier or gap decides.

    Heavy tails (skewness above 2, no negative values) are taken as log(1 + x). Then the median is subtracted and the
    result divided by a robust spread: the interquartile range in units of a standard deviation, or half the standard
    deviation where that is larger (a column that is mostly zero has no interquartile range), and cut at ±4.
    A missing or infinite value is not zero: it takes the median, and when 5–95 % of people lack it, a column of its
    own, at half the weight, says who does. Columns in which everybody is the same are left out.

    Args:
        raw: people × features; NaN is missing.
        features: what the columns of `raw` are.
    """
    raw = np.where(np.isfinite(raw), raw, np.nan)
    if not len(raw):
        return Vectors(matrix=np.empty((0, 0)), raw=raw, features=tuple(features), dimensions=())
    columns: list[Floats] = []
    dimensions: list[Dimension] = []
    gaps: set[bytes] = set()
    for position, feature in enumerate(features):
        column = raw[:, position]
        known = column[~np.isnan(column)]
        if len(np.unique(known)) > 1:
            is_logged = bool(known.min() >= 0 and skew(known) > _HEAVY)
            columns.append(_scaled(np.log1p(column) if is_logged else column))
            dimensions.append(Dimension(feature=feature, is_missing=False, is_logged=is_logged))
        gap = np.isnan(column)
        # Several columns often lack the same people's values; that is one fact, not several.
        if _MISSING_SHARE <= gap.mean() <= 1 - _MISSING_SHARE and gap.tobytes() not in gaps:
            gaps.add(gap.tobytes())
            columns.append(_MISSING_WEIGHT * (gap - gap.mean()) / gap.std())
            dimensions.append(Dimension(feature=feature, is_missing=True, is_logged=False))
    matrix = np.column_stack(columns) if columns else np.empty((len(raw), 0))
    return Vectors(matrix=matrix, raw=raw, features=tuple(features), dimensions=tuple(dimensions))


def _scaled(column: Floats) -> Floats:
    known = column[~np.isnan(column)]
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
    spread = max((high - low) / _IQR_TO_SD, known.std() / 2)
    scaled: Floats = np.nan_to_num(np.clip((column - median) / spread, -_CLIP, _CLIP), nan=0.0)
    return scaled
