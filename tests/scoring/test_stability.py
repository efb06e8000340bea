"""The stability index: what changed is seen, what chance does is not."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from segue.scoring import DRIFTED, Population


def flags(share: float, count: int = 2000) -> np.ndarray:
    return (np.arange(count) < share * count).astype(np.float64)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        pytest.param(flags(0.09), flags(0.6), id="a rare flag becomes common"),
        pytest.param(flags(0.0), flags(0.2), id="a flag that nobody had"),
        pytest.param(flags(0.91), flags(0.4), id="a common flag becomes rare"),
        pytest.param(3 * flags(0.09), 3 * flags(0.09) + 9 * flags(0.6), id="a count that was mostly zero"),
        pytest.param(flags(0.5), np.where(flags(0.3) == 1, np.nan, flags(0.5)), id="values go missing"),
    ],
)
def test_another_population_is_seen(then: np.ndarray, now: np.ndarray) -> None:
    assert Population.of(then).index(now) > DRIFTED


@pytest.mark.parametrize("share", [0.005, 0.05, 0.3, 0.95, 1.0])
def test_another_sample_of_the_same_people_is_no_drift(share: float) -> None:
    random = np.random.default_rng(0)
    then = Population.of((random.random(3000) < share) * random.poisson(3, 3000).astype(np.float64))
    assert abs(then.index((random.random(3000) < share) * random.poisson(3, 3000).astype(np.float64))) < 0.05


def test_a_population_is_the_same_after_a_file() -> None:
    then = Population.of(flags(0.05))
    said = json.loads(json.dumps(asdict(then)))
    assert Population(edges=tuple(said["edges"]), shares=tuple(said["shares"]), count=said["count"]) == then


def test_a_population_that_was_cut_into_fewer_parts_is_still_read() -> None:
    old = Population(edges=(0.0,), shares=(0.0, 1.0, 0.0), count=2000)
    assert old.index(flags(0.09)) == pytest.approx(0, abs=0.01)
