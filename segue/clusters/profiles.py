"""Names and sentences: what sets a cluster apart, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segue.clusters.kept import Cluster
from segue.clusters.vectors import Dimension, Floats, Ints, Vectors

#: A difference is worth a word from this many standard deviations on.
_NOTABLE = 0.4

#: Two columns that correlate more say the same; one of them is enough in a name.
_SAME = 0.75

_IN_SENTENCE = 3
_IN_NAME = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a cluster differs from everybody in one dimension."""

    column: str
    is_missing: bool  # whether it is about the value being missing
    difference: float  # of the means, in standard deviations of everybody
    value: float | None  # typical of the cluster, in the column's own unit: share or mean; median where it tells more
    usual: float | None  # typical of everybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One cluster as a person reads it."""

    cluster_id: int  # stays for as long as the cluster lives
    cluster_name: str  # unique within the method; stays as well
    profile: str  # one sentence
    person_count: int
    share: float  # of the people compared
    differences: tuple[Difference, ...]  # all dimensions, largest difference first


def by_size(labels: Ints) -> Ints:
    """The labels, numbered by size: 0 is the largest, and of equals the one whose first person comes first."""
    groups = [int(g) for g in np.unique(labels) if g >= 0]
    ranked = sorted(groups, key=lambda g: (-int((labels == g).sum()), int(np.argmax(labels == g))))
    renumbered = np.full_like(labels, -1)
    for number, group in enumerate(ranked):
        renumbered[labels == group] = number
    return renumbered


def profiles(people: Vectors, labels: Ints, known: Sequence[Cluster] = ()) -> tuple[Profile, ...]:
    """Name each cluster after its largest standardised differences from everybody.

    Args:
        people: whom the labels are of.
        labels: as from `by_size`; every label has people.
        known: ids of the clusters, by label, and the names of those that have one already.
    """
    differences = standardised_differences(people, labels)
    correlation = _correlation(people.matrix, labels)
    known = known or [Cluster(cluster_id=n, cluster_name="") for n in range(len(differences))]
    taken = [c.cluster_name for c in known if c.cluster_name]
    found = []
    for cluster, row in enumerate(differences):
        told = _worth_telling(row, correlation)
        members = labels == cluster
        name = known[cluster].cluster_name
        if not name:
            name = _unique_name([_word(people.dimensions[d], row[d]) for d in told], taken)
            taken.append(name)
        sentence = ", ".join(_phrase(people, d, row[d], members) for d in told[:_IN_SENTENCE]) or "close to the average"
        order = np.argsort(-np.abs(row), kind="stable")
        found.append(
            Profile(
                cluster_id=known[cluster].cluster_id,
                cluster_name=name,
                profile=_capital(sentence) + ".",
                person_count=int(members.sum()),
                share=float(members.mean()),
                differences=tuple(_difference(people, int(d), float(row[d]), members) for d in order),
            )
        )
    return tuple(found)


def standardised_differences(people: Vectors, labels: Ints) -> Floats:
    """Clusters × dimensions: mean of the cluster minus mean of all, in standard deviations of all."""
    spread = people.matrix.std(axis=0)
    centred = (people.matrix - people.matrix.mean(axis=0)) / np.where(spread > 0, spread, 1)
    count = int(labels.max(initial=-1)) + 1
    return np.array([centred[labels == c].mean(axis=0) for c in range(count)]).reshape(count, people.matrix.shape[1])


def _correlation(matrix: Floats, labels: Ints) -> Floats:
    """Absolute correlations within clusters: whatever sets a cluster apart goes together across clusters."""
    rest = matrix.astype(np.float64)
    for cluster in np.unique(labels):
        rest[labels == cluster] -= rest[labels == cluster].mean(axis=0)
    spread = rest.std(axis=0)
    rest /= np.where(spread > 1e-9, spread, 1)
    together: Floats = np.abs(rest.T @ rest) / len(rest)
    return together


def _worth_telling(row: Floats, correlation: Floats) -> list[int]:
    told: list[int] = []
    for dimension in np.argsort(-np.abs(row), kind="stable"):
        if abs(row[dimension]) < _NOTABLE:
            break
        if all(correlation[dimension, other] < _SAME for other in told):
            told.append(int(dimension))
    return told


def _unique_name(words: list[str], taken: list[str]) -> str:
    distinct = list(dict.fromkeys(words))
    for length in range(min(_IN_NAME, len(distinct)), len(distinct) + 1):
        name = _capital(", ".join(distinct[:length])) or "Average"
        if name not in taken:
            return name
    name = _capital(", ".join(distinct[:_IN_NAME])) or "Average"
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"


def _word(dimension: Dimension, difference: float) -> str:
    feature = dimension.feature
    if dimension.is_missing:
        spoken = feature.noun or feature.column.replace("_", " ")
        return (feature.missing or f"no {spoken}") if difference > 0 else f"with {spoken}"
    return feature.high if difference > 0 else feature.low


def _phrase(people: Vectors, dimension: int, difference: float, members: np.ndarray) -> str:
    described = people.dimensions[dimension]
    word = _word(described, difference)
    told = _difference(people, dimension, difference, members)
    if told.value is None or told.usual is None:
        return word
    if described.is_missing or described.feature.is_share:
        # What is named when the share is low is its opposite: "by day" is the share that is not at night.
        shares = (told.value, told.usual) if difference > 0 else (1 - told.value, 1 - told.usual)
        return f"{word} ({_percent(shares[0])}, usually {_percent(shares[1])})"
    if described.feature.noun and told.usual > 0:
        ratio = told.value / told.usual
        if ratio >= 1.1 or 0.05 <= ratio <= 0.9:
            return f"{ratio:.1f}× the usual {described.feature.noun}"
        return word
    value, usual = (_amount(v, described.feature.column) for v in (told.value, told.usual))
    return f"{word} ({value}, usually {usual})"


def _difference(people: Vectors, dimension: int, difference: float, members: np.ndarray) -> Difference:
    described = people.dimensions[dimension]
    column = people.raw[:, people.features.index(described.feature)]
    value, usual = _typical(column, members, difference, described)
    return Difference(
        column=described.feature.column,
        is_missing=described.is_missing,
        difference=round(difference, 4),
        value=None if value is None else round(value, 6),
        usual=None if usual is None else round(usual, 6),
    )


def _typical(
    column: Floats, members: np.ndarray, difference: float, dimension: Dimension
) -> tuple[float | None, float | None]:
    """Of the cluster and of everybody: the share that lacks it, the mean of a share, else the median.

    Where medians hide the difference (most people have 0), the means tell it; nothing does where a few large values
    turn them against it.
    """
    if dimension.is_missing:
        return float(np.isnan(column[members]).mean()), float(np.isnan(column).mean())
    own, all_known = (c[~np.isnan(c)] for c in (column[members], column))
    if not len(own):
        return None, None
    if not dimension.feature.is_share:
        value, usual = float(np.median(own)), float(np.median(all_known))
        if usual > 0 and (value > usual) == (difference > 0) and value != usual:
            return value, usual
    value, usual = float(own.mean()), float(all_known.mean())
    return (None, None) if (value - usual) * difference < 0 else (value, usual)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _amount(value: float, column: str) -> str:
    if "hours" in column:
        return f"{value / 24:.0f} days" if value >= 48 else f"{value:.0f} hours"
    if "seconds" in column:
        return f"{value / 60:.0f} minutes" if value >= 120 else f"{value:.0f} seconds"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
