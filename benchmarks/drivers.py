"""How often the injected cause of an incident is the first driver named, against two simpler rankings.

World, seeded: a shop divided by platform (3), channel (6) and country (12), with Poisson noise; counts and conversion.
In one value of one dimension, holding at least 8 % of the cases, the measure falls or rises by 30 to 80 % for a day.
Each method sees the sums of each value on that day and on the same weekdays of four weeks before, as Segue
does. Compared: the largest absolute difference of any value; the most significant one (difference over its Poisson or
binomial error). `--quick`: 100 incidents instead of 600.

    python -m benchmarks.drivers [--quick]
"""

import sys

import numpy as np

from benchmarks._report import report
from segue.watch.drivers import Part, adtributor

SEED = 7
SHARES = {
    "platform": [0.5, 0.3, 0.2],
    "channel": [0.34, 0.24, 0.16, 0.12, 0.09, 0.05],
    "country": [0.3, 0.16, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.03, 0.02, 0.01],
}


def incident(rng: np.random.Generator, *, is_ratio: bool) -> tuple[dict[str, list[Part]], str]:
    """The parts of every dimension, and the cause."""
    names = list(SHARES)
    grid = np.einsum("i,j,k->ijk", *(np.array(SHARES[n]) for n in names))
    grid = grid * rng.lognormal(0, 0.15, grid.shape)
    grid /= grid.sum()
    volume = float(rng.choice([3_000, 10_000, 40_000]))
    rates = 0.12 * rng.lognormal(0, 0.25, grid.shape)
    axis = int(rng.integers(3))
    eligible = [i for i, share in enumerate(SHARES[names[axis]]) if share >= 0.08]
    value = int(rng.choice(eligible))
    size = float(rng.uniform(0.3, 0.8))
    factor = 1 - size if rng.random() < 0.6 else 1 + size
    days = 5  # four weeks before, and the day itself
    cases = np.stack([rng.poisson(volume * grid * rng.lognormal(0, 0.04)) for _ in range(days)]).astype(float)
    where: list[object] = [slice(None)] * 3
    where[axis] = value
    now_rates = rates.copy()
    if is_ratio:
        now_rates[tuple(where)] *= factor  # type: ignore[index]
    else:
        mean = volume * grid
        mean[tuple(where)] *= factor  # type: ignore[index]
        cases[-1] = rng.poisson(mean * rng.lognormal(0, 0.04))
    hits = np.stack([rng.binomial(c.astype(int), np.minimum(rates, 1)) for c in cases[:-1]])
    last = rng.binomial(cases[-1].astype(int), np.minimum(now_rates, 1))
    dimensions = {}
    for a, name in enumerate(names):
        others = tuple(i for i in range(3) if i != a)
        before, now = cases[:-1].mean(axis=0).sum(axis=others), cases[-1].sum(axis=others)
        hits_before, hits_now = hits.mean(axis=0).sum(axis=others), last.sum(axis=others)
        dimensions[name] = [
            Part(
                slice=f"{name}={i}",
                expected=float(hits_before[i]),
                actual=float(hits_now[i]),
                expected_cases=float(before[i]),
                actual_cases=float(now[i]),
            )
            if is_ratio
            else Part(slice=f"{name}={i}", expected=float(before[i]), actual=float(now[i]))
            for i in range(len(SHARES[name]))
        ]
    return dimensions, f"{names[axis]}={value}"


def by_difference(dimensions: dict[str, list[Part]], *, is_ratio: bool) -> str:
    def size(p: Part) -> float:
        return abs(p.actual - p.expected * (p.actual_cases / max(p.expected_cases, 1e-9) if is_ratio else 1))

    return max((p for parts in dimensions.values() for p in parts), key=size).slice


def by_significance(dimensions: dict[str, list[Part]], *, is_ratio: bool) -> str:
    def z(p: Part) -> float:
        if not is_ratio:
            return abs(p.actual - p.expected) / np.sqrt(max(p.expected * 1.25, 1))
        rate = p.expected / max(p.expected_cases, 1e-9)
        error = np.sqrt(max(rate * (1 - rate), 1e-9) * (1 / max(p.actual_cases, 1) + 0.25 / max(p.expected_cases, 1)))
        return abs(p.actual / max(p.actual_cases, 1e-9) - rate) / error

    return max((p for parts in dimensions.values() for p in parts), key=z).slice


def main(*, quick: bool) -> None:
    rng = np.random.default_rng(SEED)
    count = 100 if quick else 600
    right = {"Adtributor": 0, "largest difference": 0, "most significant": 0}
    for number in range(count):
        is_ratio = number % 2 == 1
        dimensions, cause = incident(rng, is_ratio=is_ratio)
        drivers = adtributor(dimensions, is_ratio=is_ratio)
        right["Adtributor"] += bool(drivers) and drivers[0].slice == cause
        right["largest difference"] += by_difference(dimensions, is_ratio=is_ratio) == cause
        right["most significant"] += by_significance(dimensions, is_ratio=is_ratio) == cause
    shares = {name: n / count for name, n in right.items()}
    for name, share in shares.items():
        print(f"{name:20} named the cause first in {100 * share:.1f} % of {count} incidents")
    report(
        "drivers",
        figure=shares["Adtributor"],
        unit="share of incidents whose cause is the first driver",
        against=f"largest difference {shares['largest difference']:.3f}, significance {shares['most significant']:.3f}",
        goal="0.9",
        holds=shares["Adtributor"] >= 0.9,
    )


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
