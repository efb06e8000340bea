"""People in a plane: who is near whom, and how many of each cluster stand where."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from segue.clusters.vectors import Floats, Ints

#: Cells from side to side of the map, and from bottom to top.
ACROSS, UP = 36, 24

#: Of more people so many, evenly spread, say where the axes lie.
_SAMPLE = 20_000

#: Beyond this share of people at either end of an axis, people stand in the outermost cell.
_EDGE = 0.005


@dataclass(frozen=True, kw_only=True)
class Cells:
    """How many people of each cluster stand in each cell of the map; cells without anybody are left out."""

    label: Ints  # of the cluster; -1: none
    across: Ints  # from the left, 0 to ACROSS − 1
    up: Ints  # from the bottom, 0 to UP − 1
    person_count: Ints


def plane(matrix: Floats) -> tuple[Floats, Floats]:
    """Where people stand on the two main components, and the share of the variance that each holds.

    A component's largest weight is positive, so that a map of tomorrow is not the mirror image of today's.

    Args:
        matrix: people × dimensions, with at least one dimension.
    """
    some = matrix[:: -(-len(matrix) // _SAMPLE)]
    model = PCA(n_components=min(2, *some.shape), svd_solver="full").fit(some)
    weights = model.components_
    largest = np.abs(weights).argmax(axis=1)
    weights = weights * np.sign(weights[np.arange(len(weights)), largest])[:, None]
    places = (matrix - model.mean_) @ weights.T
    if places.shape[1] == 1:
        places = np.column_stack([places, np.zeros(len(places))])
    return places, model.explained_variance_ratio_


def cells(matrix: Floats, labels: Ints) -> Cells:
    """The map as counts: it shows groups, never a person's place."""
    places, _ = plane(matrix)
    counts = np.bincount(((labels + 1) * ACROSS + _steps(places[:, 0], ACROSS)) * UP + _steps(places[:, 1], UP))
    filled = np.flatnonzero(counts)
    rest, up = np.divmod(filled, UP)
    label, across = np.divmod(rest, ACROSS)
    return Cells(label=label - 1, across=across, up=up, person_count=counts[filled])


def _steps(axis: Floats, count: int) -> Ints:
    low, high = np.quantile(axis, [_EDGE, 1 - _EDGE])
    share = (axis - low) / ((high - low) or 1.0)
    steps: Ints = np.clip((share * count).astype(np.int64), 0, count - 1)
    return steps
