"""The two ways of finding groups: K-Means, and HDBSCAN beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from segue.clusters.vectors import Floats, Ints

#: A clustering counts as stable from this agreement on.
STABLE = 0.8
MOST_CLUSTERS = 8

#: Numbers of clusters this close to the most stable one are as stable; then the silhouette decides.
_AS_STABLE = 0.05

#: Silhouettes this close to the best one are as good; then more clusters tell more.
_AS_GOOD = 0.9

_RESAMPLES = 8
_RESAMPLE_SHARE = 0.8

#: Above, K-Means works in mini-batches, and the number of clusters is chosen on a sample of this many.
_LARGE = 20_000
_SAMPLE = 5_000
_DENSITY_SAMPLE = 10_000
_SILHOUETTE_SAMPLE = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One number of clusters that was tried."""

    cluster_count: int
    stability: float  # mean adjusted Rand index under resampling; 1 is the same every time, 0 is chance
    silhouette: float  # -1 to 1
    smallest: int  # people in the smallest cluster, in the sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The groups of one method. Group -1 is nobody's."""

    labels: Ints
    distances: Floats  # to the centre (K-Means), or 1 − strength of membership (HDBSCAN)
    silhouette: float | None
    criterion: str
    parameters: dict[str, Any]
    candidates: tuple[Candidate, ...] = ()
    centres: Floats | None = None  # K-Means: group × dimension


def kmeans(matrix: Floats, *, seed: int) -> Found:
    """K-Means, with as many clusters as hold.

    How many (2 to 8): first stability. Each k is fitted again on 8 resamples of 80 % of people, everyone is assigned
    by that fit, and the assignment is compared with that of the whole by the adjusted Rand index; a mean of 0.8 or
    more is stable. Of the stable k, those within 0.05 of the most stable are as good. Then the silhouette: of these,
    the ones within 10 % of the best silhouette are as good, and the largest k is taken, since it tells more. Clusters
    of less than 1 % of people, or fewer than 5, disqualify a k. When no k is stable, the most stable is taken and the
    criterion says so.

    Stability as a criterion: Ben-Hur, Elisseeff, Guyon (2002), "A stability based method for discovering structure in
    clustered data"; Hennig (2007), "Cluster-wise assessment of cluster stability". Adjusted Rand index: Hubert, Arabie
    (1985). Silhouette: Rousseeuw (1987).

    Args:
        matrix: people × dimensions, at least 20 people and two different ones.
        seed: of everything random.
    """
    random = np.random.default_rng(seed)
    sample = matrix
    if len(matrix) > _LARGE:
        sample = matrix[np.sort(random.choice(len(matrix), _SAMPLE, replace=False))]
    distinct = len(np.unique(sample, axis=0))
    most = max(2, min(MOST_CLUSTERS, distinct, len(sample) // 10))
    candidates = tuple(_try(sample, k, random, seed) for k in range(2, most + 1))
    chosen, criterion = _choose(candidates, len(sample))
    model = _kmeans(matrix, chosen, seed, starts=10)
    labels = model.labels_.astype(np.int64)
    return Found(
        labels=labels,
        distances=own_distances(matrix, model.cluster_centers_, labels),
        silhouette=silhouette(matrix, labels, seed),
        criterion=criterion,
        parameters={"seed": seed, "k": chosen, "mini_batch": len(matrix) > _LARGE, "sample": len(sample)},
        candidates=candidates,
        centres=model.cluster_centers_,
    )


def own_distances(matrix: Floats, centres: Floats, labels: Ints) -> Floats:
    """Of each person to the centre of their own group."""
    found = np.empty(len(matrix))
    for group in range(len(centres)):
        members = labels == group
        found[members] = np.linalg.norm(matrix[members] - centres[group], axis=1)
    return found


def _try(sample: Floats, k: int, random: np.random.Generator, seed: int) -> Candidate:
    labels = _kmeans(sample, k, seed, starts=5).labels_
    agreements = []
    for _ in range(_RESAMPLES):
        some = random.choice(len(sample), int(_RESAMPLE_SHARE * len(sample)), replace=False)
        again = _kmeans(sample[np.sort(some)], k, seed, starts=3)
        agreements.append(adjusted_rand_score(labels, again.predict(sample)))
    return Candidate(
        cluster_count=k,
        stability=float(np.mean(agreements)),
        silhouette=silhouette(sample, labels, seed) or 0.0,
        smallest=int(np.bincount(labels, minlength=k).min()),
    )


def _choose(candidates: tuple[Candidate, ...], people: int) -> tuple[int, str]:
    enough = max(5, people // 100)
    sized = [c for c in candidates if c.smallest >= enough] or list(candidates[:1])
    stable = [c for c in sized if c.stability >= STABLE]
    if not stable:
        best = max(sized, key=lambda c: (c.stability, -c.cluster_count))
        return best.cluster_count, (
            f"no number of clusters is stable under resampling (adjusted Rand index below {STABLE}); "
            f"the most stable is {best.cluster_count} ({best.stability:.2f}, silhouette {best.silhouette:.2f})"
        )
    most = max(c.stability for c in stable)
    firm = [c for c in stable if c.stability >= most - _AS_STABLE]
    top = max(c.silhouette for c in firm)
    # A silhouette is negative when clusters overlap more than not: then only the best one is as good as itself.
    good = [c for c in firm if c.silhouette >= min(top, _AS_GOOD * top)]
    chosen = max(good, key=lambda c: c.cluster_count)
    return chosen.cluster_count, (
        f"stable under resampling (adjusted Rand index {chosen.stability:.2f}, within {_AS_STABLE} of the best), "
        f"then silhouette ({chosen.silhouette:.2f}, within 10 % of the best of these)"
    )


def _kmeans(matrix: Floats, k: int, seed: int, *, starts: int) -> Any:
    if len(matrix) > _LARGE:
        return MiniBatchKMeans(k, random_state=seed, n_init=3, batch_size=4096).fit(matrix)
    return KMeans(k, random_state=seed, n_init=starts).fit(matrix)


def hdbscan(matrix: Floats, *, seed: int) -> Found:
    """HDBSCAN on the principal components that hold 90 % of the variance (at most 10, each of unit variance or less).

    Groups are where people lie densely; whoever lies between is nobody's. Of several minimum sizes (2, 4, 8 and 15 %
    of people) the one with the largest silhouette of the grouped × share of people grouped is taken. Above 10,000
    people a sample is grouped and the others follow their 5 nearest neighbours in it.

    Method: Campello, Moulavi, Sander (2013), "Density-based clustering based on hierarchical density estimates".

    Args:
        matrix: people × dimensions.
        seed: of everything random.
    """
    random = np.random.default_rng(seed)
    reduced = PCA(n_components=0.9, svd_solver="full").fit_transform(matrix)[:, :10]
    places = np.arange(len(matrix))
    if len(matrix) > _DENSITY_SAMPLE:
        places = np.sort(random.choice(len(matrix), _DENSITY_SAMPLE, replace=False))
    sample = reduced[places]
    best: tuple[float, int, Ints, Floats] | None = None
    sizes = sorted({max(5, round(share * len(sample))) for share in (0.02, 0.04, 0.08, 0.15)})
    for size in sizes:
        model = HDBSCAN(min_cluster_size=size, min_samples=min(size, 10), copy=True).fit(sample)
        labels = model.labels_.astype(np.int64)
        grouped = labels >= 0
        score = (silhouette(sample[grouped], labels[grouped], seed) or -1.0) * grouped.mean()
        if len(np.unique(labels[grouped])) >= 2 and (best is None or score > best[0]):
            best = (float(score), size, labels, 1 - model.probabilities_)
    parameters: dict[str, Any] = {
        "seed": seed, "components": reduced.shape[1], "sample": len(sample), "min_cluster_sizes": sizes,
    }  # fmt: skip
    if best is None:
        nobody = np.full(len(matrix), -1, dtype=np.int64)
        return Found(
            labels=nobody,
            distances=np.full(len(matrix), np.nan),
            silhouette=None,
            criterion="no minimum size gives two or more dense groups",
            parameters=parameters,
        )
    score, size, labels, distances = best
    if len(sample) < len(matrix):
        neighbours = KNeighborsClassifier(5).fit(sample, labels)
        shares = neighbours.predict_proba(reduced)  # once: to look for neighbours is what costs
        full = neighbours.classes_[shares.argmax(axis=1)].astype(np.int64)
        strength = shares.max(axis=1)
        full[places] = labels
        spread = 1 - strength
        spread[places] = distances
        labels, distances = full, spread
    grouped = labels >= 0
    return Found(
        labels=labels,
        distances=np.where(grouped, distances, np.nan),
        silhouette=silhouette(reduced[grouped], labels[grouped], seed),
        criterion=f"minimum size {size} has the largest silhouette of the grouped × share grouped ({score:.2f})",
        parameters={**parameters, "min_cluster_size": size},
    )


def silhouettes(matrix: Floats, before: Ints, after: Ints, seed: int) -> tuple[float | None, float | None]:
    """Of two clusterings, by the people whom both group: who is grouped by one alone says nothing of the other."""
    both = np.flatnonzero((before >= 0) & (after >= 0))
    if len(both) > _SILHOUETTE_SAMPLE:
        both = np.random.default_rng(seed).choice(both, _SILHOUETTE_SAMPLE, replace=False)
    return silhouette(matrix[both], before[both], seed), silhouette(matrix[both], after[both], seed)


def silhouette(matrix: Floats, labels: Ints, seed: int) -> float | None:
    """Of a sample of at most 3,000; None with fewer than two groups."""
    if not 2 <= len(np.unique(labels)) < len(labels):
        return None
    if len(labels) > _SILHOUETTE_SAMPLE:
        some = np.random.default_rng(seed).choice(len(labels), _SILHOUETTE_SAMPLE, replace=False)
        matrix, labels = matrix[some], labels[some]
        if not 2 <= len(np.unique(labels)) < len(labels):
            return None
    return float(silhouette_score(matrix, labels))
