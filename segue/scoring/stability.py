"""Has a population changed? The population stability index of a column, less what chance alone gives."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

#: From here on a population counts as another one (Siddiqi 2006, "Credit risk scorecards").
DRIFTED = 0.25

_PARTS = 10
_LEAST = 1e-4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """How a column was distributed: the parts it was cut into, and the share of values in each, missing ones last.

    The parts are tenths; a value that is the edge of several is a part alone.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    count: int

    @classmethod
    def of(cls, column: Floats) -> Self:
        """The distribution of a column; NaN is missing."""
        known = column[~np.isnan(column)]
        tenths = np.quantile(known, np.linspace(0, 1, _PARTS + 1)[1:-1]) if len(known) else np.empty(0)
        edges, times = np.unique(tenths, return_counts=True)
        # A value that a tenth or more share is a part of its own: else a rare flag, mostly 0, would never drift.
        edges = np.union1d(edges, np.nextafter(edges[times > 1], np.inf))
        shares = _shares(column, edges)
        return cls(edges=tuple(map(float, edges)), shares=tuple(map(float, shares)), count=len(column))

    def index(self, column: Floats) -> float:
        """How far a column is from this one: 0 is as close as two samples are, 0.25 is another population.

        Two samples of one population differ by (parts − 1) × (1/n + 1/m) on average and seldom by twice as much; that
        is taken off.
        """
        then = np.maximum(np.array(self.shares), _LEAST)
        now = np.maximum(_shares(column, np.array(self.edges)), _LEAST)
        found = float(np.sum((now - then) * np.log(now / then)))
        return found - 2 * len(self.edges) * (1 / max(len(column), 1) + 1 / max(self.count, 1))


def _shares(column: Floats, edges: Floats) -> Floats:
    parts = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="right"))
    return np.bincount(parts, minlength=len(edges) + 2) / max(len(column), 1)
