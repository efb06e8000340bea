"""What discovery and scoring cost: many people × 20 features clustered, and as many scored in SQL.

Clustering is measured without the choice of the number of clusters (which looks at a sample, whatever the size): the
scales and one fit of mini-batch K-Means, against plain scikit-learn: StandardScaler, and MiniBatchKMeans on the same
points. Scoring is measured as `propensity_score` in DuckDB, against `predict_proba` of the
same model on the same matrix. The figure is the larger of the two ratios. Also: the whole of `discover`, the memory of
this process at its peak, and one person's score in microseconds.

    python -m benchmarks.discover_cost [--quick]
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from sklearn.cluster import MiniBatchKMeans
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks._report import report
from segue import clusters
from segue.clusters.features import feature
from segue.clusters.methods import _kmeans
from segue.clusters.vectors import vectors
from segue.models.check import empty_lake
from segue.scoring import Forest, Scorer, register, save_scorer

COLUMNS = 20
K = 6


def best(action: Callable[[], object], rounds: int) -> float:
    """Seconds of the quickest round: the machine is not ours alone."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return min(found)


def world(count: int) -> np.ndarray:
    """People of six kinds; half of the columns are counts with heavy tails."""
    random = np.random.default_rng(0)
    kind = random.integers(0, K, count)
    matrix = random.normal(size=(count, COLUMNS)) + random.normal(scale=3, size=(K, COLUMNS))[kind]
    matrix[:, ::2] = np.exp(matrix[:, ::2])
    return matrix


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count, rounds = (100_000, 2) if options.quick else (1_000_000, 2)
    matrix = world(count)
    names = [f"c{n}" for n in range(COLUMNS)]
    features = [feature(name) for name in names]

    ours = best(lambda: _kmeans(vectors(matrix.copy(), features).matrix, K, 0, starts=1), rounds)
    scaled = vectors(matrix.copy(), features).matrix

    def without_segue() -> None:
        StandardScaler().fit_transform(matrix.copy())
        # On the same points: on others it takes another number of rounds to settle.
        MiniBatchKMeans(K, random_state=0, n_init=3, batch_size=4096).fit(scaled)

    plain = best(without_segue, rounds)
    print(f"clustering {count:,} × {COLUMNS}: {ours:.2f} s, plain scikit-learn {plain:.2f} s")

    some = matrix[:20_000]
    labels = np.random.default_rng(1).random(len(some)) < 1 / (1 + np.exp(-some[:, 1]))
    model = HistGradientBoostingClassifier(max_iter=80, max_leaf_nodes=10, random_state=0).fit(some, labels)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.npz"
        scorer = Scorer(
            name="cost", version="v", features=tuple(names), forest=Forest.of(model), slope=1.0, offset=0.0, about={}
        )
        save_scorer(scorer, file)
        con = duckdb.connect()
        register(con)
        people = pa.table({name: matrix[:, n] for n, name in enumerate(names)})
        con.register("arriving", people)
        con.execute("create table people as from arriving")
        query = f"select sum(propensity_score($1, $2, [{', '.join(names)}])) from {{}}"
        scored = best(lambda: con.execute(query.format("people"), [str(file), ",".join(names)]).fetchall(), rounds)
        con.execute("create table person as from people limit 1")
        one = best(lambda: con.execute(query.format("person"), [str(file), ",".join(names)]).fetchall(), 50)
        alone = best(lambda: scorer.probability(matrix[:1]), 50)
        con.close()
    predicted = best(lambda: model.predict_proba(matrix), rounds)
    print(f"scoring {count:,}: {scored:.2f} s, plain scikit-learn {predicted:.2f} s")
    print(f"one person: {1e6 * one:.0f} µs in SQL, {1e6 * alone:.0f} µs of it for the trees")

    lake = empty_lake()
    lake.execute("create schema marts")
    table = people.append_column("person_id", pa.array([f"p{n:07d}" for n in range(count)]))
    lake.register("arriving", table)
    lake.execute("create table marts.person_features as from arriving")
    started = time.perf_counter()
    clusters.discover(lake, as_of=datetime(2026, 6, 1, tzinfo=UTC), features=features)
    first = time.perf_counter() - started
    started = time.perf_counter()
    clusters.discover(lake, as_of=datetime(2026, 6, 2, tzinfo=UTC), features=features)
    again = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"discover: {first:.1f} s to find clusters, {again:.1f} s to assign; peak memory {peak:,.0f} MB")
    ratio = max(ours / plain, scored / predicted)
    report(
        "discover_cost",
        figure=ratio,
        unit="times plain scikit-learn",
        against="scikit-learn on the same matrix",
        goal="<= 1.3, minutes for a million",
        holds=ratio <= 1.3 and first + scored < 300,
        people=count,
        cluster_seconds=round(ours, 2),
        cluster_seconds_plain=round(plain, 2),
        score_seconds=round(scored, 2),
        score_seconds_plain=round(predicted, 2),
        discover_seconds=round(first, 1),
        assign_seconds=round(again, 1),
        peak_megabytes=round(peak),
        one_person_microseconds=round(1e6 * one),
    )


if __name__ == "__main__":
    main()
