"""Distributions of a day's count of cases, quick enough to be asked for every day of every series."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class CountLaw(Protocol):
    """How many cases a day may have."""

    def tails(self, count: int) -> tuple[float, float]:
        """Probability below and above, half of the count's own on either side."""

    def interval(self, tail: float) -> tuple[float, float]:
        """The counts that leave this probability on either side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeBinomial:
    """A Poisson count whose mean varies: variance = mean + extra · mean²."""

    mean: float
    extra: float

    def tails(self, count: int) -> tuple[float, float]:
        # What `scipy.stats.nbinom` says, without what makes it ask a hundred times as long.
        from scipy.special import betainc, betaincc

        size, share = self._parameters()
        log_choose = math.lgamma(count + size) - math.lgamma(count + 1) - math.lgamma(size)
        half = 0.5 * math.exp(log_choose + size * math.log(share) + count * math.log1p(-share))
        return float(betainc(size, count + 1, share)) - half, float(betaincc(size, count + 1, share)) + half

    def interval(self, tail: float) -> tuple[float, float]:
        from scipy.stats import nbinom

        size, share = self._parameters()
        return float(nbinom.ppf(tail, size, share)), float(nbinom.isf(tail, size, share))

    def _parameters(self) -> tuple[float, float]:
        size = 1 / self.extra
        return size, size / (size + self.mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaBinomial:
    """Hits among `total` cases when the share varies by `extra` on the logit scale."""

    total: int
    share: float
    extra: float

    def tails(self, count: int) -> tuple[float, float]:
        mass = self._mass()
        count = min(max(count, 0), self.total)
        half = 0.5 * mass[count]
        return float(mass[:count].sum() + half), float(mass[count + 1 :].sum() + half)

    def interval(self, tail: float) -> tuple[float, float]:
        mass = self._mass()
        lower = int(np.searchsorted(np.cumsum(mass), tail))
        upper = self.total - int(np.searchsorted(np.cumsum(mass[::-1]), tail))
        return float(lower), float(upper)

    def _mass(self) -> NDArray[np.float64]:
        from scipy.special import betaln

        # The variance of a share is that of its logit times (p·(1−p))².
        concentration = 1 / min(self.extra * self.share * (1 - self.share), 0.9) - 1
        a, b = self.share * concentration, (1 - self.share) * concentration
        k = np.arange(self.total + 1, dtype=np.float64)
        log_choose = -np.log(self.total + 1) - betaln(self.total - k + 1, k + 1)
        mass: NDArray[np.float64] = np.exp(log_choose + betaln(k + a, self.total - k + b) - betaln(a, b))
        return mass
