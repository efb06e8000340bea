"""From columns to vectors that distances make sense on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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

#: With more people, so many, evenly spread, say what scales are.
_SCALE_SAMPLE = 20_000

#: The standard deviation of a normal distribution from its interquartile range.
_IQR_TO_SD = 1.349


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One column of the matrix, and how it is made: (x − centre) / spread, cut at ±4, times weight."""

    feature: Feature
    is_missing: bool  # whether it says that the value is missing, instead of the value
    is_logged: bool
    centre: float = field(repr=False)
    spread: float = field(repr=False)
    weight: float = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """People as points."""

    matrix: Floats  # people × dimensions; centred, of similar spread, no missing values
    raw: Floats  # people × features, as in the warehouse; NaN is missing
    features: tuple[Feature, ...]
    dimensions: tuple[Dimension, ...]


def vectors(raw: Floats, features: Sequence[Feature], *, scaled_as: Sequence[Dimension] = ()) -> Vectors:
    """Scale columns so that no unit, outlier or gap decides.

    Heavy tails (skewness above 2, no negative values) are taken as log(1 + x). Then the median is subtracted and the
    result divided by a robust spread: the interquartile range in units of a standard deviation, or half the standard
    deviation where that is larger (a column that is mostly zero has no interquartile range), and cut at ±4.
    Of more than 20,000 people a sample of that size, evenly spread, says all of this.
    A missing or infinite value is not zero: it takes the median, and when 5–95 % of people lack it, a column of its
    own, at half the weight, says who does. Columns in which everybody is the same are left out.

    Columns that go together share a vote: each is weighted by 1 / √Σr², r being its correlations with all columns,
    itself included. Otherwise visits, searches, views and orders, which say how much somebody does, would outvote
    when and how they do it.

    Args:
        raw: people × features; NaN is missing.
        features: what the columns of `raw` are.
        scaled_as: the dimensions of an earlier day: people are then measured with that day's scales, so that they
            can be compared with its centres. None: scales of their own.
    """
    # In place: at a million people a copy is what memory goes to.
    raw[~np.isfinite(raw)] = np.nan
    places = {feature.column: position for position, feature in enumerate(features)}
    dimensions = tuple(scaled_as) or (_dimensions(raw, features) if len(raw) else ())
    matrix = np.empty((len(raw), len(dimensions)))
    for position, dimension in enumerate(dimensions):
        matrix[:, position] = _scaled(raw[:, places[dimension.feature.column]], dimension)
    return Vectors(matrix=matrix, raw=raw, features=tuple(features), dimensions=dimensions)


def _dimensions(raw: Floats, features: Sequence[Feature]) -> tuple[Dimension, ...]:
    raw = raw[:: -(-len(raw) // _SCALE_SAMPLE)]
    dimensions: list[Dimension] = []
    gaps: set[bytes] = set()
    for position, feature in enumerate(features):
        column = raw[:, position]
        gap = np.isnan(column)
        known = column[~gap]
        if len(known) and known.min() < known.max():
            is_logged = bool(known.min() >= 0 and skew(known) > _HEAVY)
            if is_logged:
                known = np.log1p(known)
            low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
            spread = max((high - low) / _IQR_TO_SD, known.std() / 2)
            dimensions.append(
                Dimension(
                    feature=feature,
                    is_missing=False,
                    is_logged=is_logged,
                    centre=float(median),
                    spread=float(spread),
                    weight=1.0,
                )
            )
        # Several columns often lack the same people's values; that is one fact, not several.
        packed = np.packbits(gap).tobytes()
        if _MISSING_SHARE <= gap.mean() <= 1 - _MISSING_SHARE and packed not in gaps:
            gaps.add(packed)
            dimensions.append(
                Dimension(
                    feature=feature,
                    is_missing=True,
                    is_logged=False,
                    centre=float(gap.mean()),
                    spread=float(gap.std() / _MISSING_WEIGHT),
                    weight=1.0,
                )
            )
    return _weighted(dimensions, raw, features)


def _weighted(dimensions: Sequence[Dimension], raw: Floats, features: Sequence[Feature]) -> tuple[Dimension, ...]:
    """With less weight for what others say as well."""
    if len(dimensions) < 2:
        return tuple(dimensions)
    places = {feature.column: position for position, feature in enumerate(features)}
    points = np.column_stack([_scaled(raw[:, places[d.feature.column]], d) for d in dimensions])
    points -= points.mean(axis=0)
    points /= np.maximum(points.std(axis=0), 1e-9)
    together = (points.T @ points / len(points)) ** 2
    # A column that is constant once cut goes with nothing, not even with itself.
    weights = 1 / np.sqrt(np.maximum(together.sum(axis=0), 1.0))
    return tuple(replace(d, weight=float(w)) for d, w in zip(dimensions, weights, strict=True))


def _scaled(column: Floats, dimension: Dimension) -> Floats:
    if dimension.is_missing:
        return np.asarray((np.isnan(column) - dimension.centre) / dimension.spread * dimension.weight)
    if dimension.is_logged:
        # A value below zero never was there when the scale was made; it is as low as can be.
        column = np.log1p(np.maximum(column, 0))
    # In place: at a million people every copy costs as much as the sum.
    scaled: Floats = np.subtract(column, dimension.centre)
    scaled /= dimension.spread
    np.clip(scaled, -_CLIP, _CLIP, out=scaled)
    scaled[np.isnan(scaled)] = 0.0
    scaled *= dimension.weight
    return scaled
