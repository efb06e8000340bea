"""A cluster as a few readable predicates: what a shallow tree finds, in words that SQL knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from segue.clusters.vectors import Floats

#: The shallowest tree is taken whose F1 is within this of the best.
_AS_GOOD = 0.01
_DEPTHS = (1, 2, 3, 4)

#: Every third person judges what was learnt from the others.
_HELD_OUT = 3

#: A way into the cluster by which fewer of its people come is not worth a line.
_LEAST_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one column has to be: low < value <= high."""

    column: str
    low: float | None
    high: float | None
    or_missing: bool  # whether people without a value are meant as well

    def sql(self) -> str:
        """The predicate."""
        name = '"' + self.column.replace('"', '""') + '"' if not self.column.isidentifier() else self.column
        parts = [f"{name} > {_number(self.low)}"] if self.low is not None else []
        parts += [f"{name} <= {_number(self.high)}"] if self.high is not None else []
        if not self.or_missing:
            return " and ".join(parts) or f"{name} is not null"
        inner = " and ".join(parts)
        if not inner:
            return f"{name} is null"
        return f"({name} is null or {inner})" if len(parts) == 1 else f"({name} is null or ({inner}))"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRules:
    """Who is meant: whoever fulfils all bounds of one of the ways."""

    ways: tuple[tuple[Bound, ...], ...]
    precision: float  # of those meant, the share in the cluster; of people that were not learnt from
    recall: float  # of those in the cluster, the share meant
    judged_count: int  # people by whom it was judged

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def learn(raw: Floats, columns: Sequence[str], members: np.ndarray, *, seed: int = 0) -> ClusterRules:
    """Find predicates that hold for the members and for few others.

    Trees of depth 1 to 4 are grown on two thirds of people and judged by the others; the shallowest that is nearly as
    good as the best is taken, its thresholds rounded as far as that changes nothing that matters.

    Args:
        raw: people × columns; NaN is missing.
        members: whether each person is in the cluster; some are and some are not.

    Returns:
        Without ways when members are nowhere the most.
    """
    order = np.random.default_rng(seed).permutation(len(raw))
    judges = np.zeros(len(raw), dtype=bool)
    judges[order[::_HELD_OUT]] = True
    if not members[judges].any() or not members[~judges].any():
        judges[:] = True
    learners = ~judges if not judges.all() else judges
    leaf = max(2, int(_LEAST_SHARE * members[learners].sum()))
    found = []
    for depth in _DEPTHS:
        tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=leaf, random_state=seed)
        tree.fit(raw[learners], members[learners])
        ways = _rounded(_ways(tree, columns), raw[learners], columns, members[learners])
        found.append(_judged(ways, raw[judges], columns, members[judges]))
    best = max(r.f1 for r in found)
    return next(r for r in found if r.f1 >= best - _AS_GOOD)


def holds(ways: Sequence[Sequence[Bound]], raw: Floats, columns: Sequence[str]) -> np.ndarray:
    """Whether each person is meant."""
    places = {name: n for n, name in enumerate(columns)}
    meant = np.zeros(len(raw), dtype=bool)
    for way in ways:
        one = np.ones(len(raw), dtype=bool)
        for bound in way:
            column = raw[:, places[bound.column]]
            inside = ~np.isnan(column)
            if bound.low is not None:
                inside &= column > bound.low
            if bound.high is not None:
                inside &= column <= bound.high
            if bound.or_missing:
                # With no bounds at all, only the missing are meant.
                inside = (inside if bound.low is not None or bound.high is not None else False) | np.isnan(column)
            one &= inside
        meant |= one
    return meant


def _judged(
    ways: tuple[tuple[Bound, ...], ...], raw: Floats, columns: Sequence[str], members: np.ndarray
) -> ClusterRules:
    meant = holds(ways, raw, columns)
    both = int((meant & members).sum())
    return ClusterRules(
        ways=ways,
        precision=both / max(int(meant.sum()), 1),
        recall=both / max(int(members.sum()), 1),
        judged_count=len(raw),
    )


def _ways(tree: DecisionTreeClassifier, columns: Sequence[str]) -> tuple[tuple[Bound, ...], ...]:
    """The leaves in which most are members, as bounds per column."""
    inner = tree.tree_
    inside = list(tree.classes_).index(True) if True in tree.classes_ else -1
    ways: list[tuple[Bound, ...]] = []

    def walk(node: int, bounds: Mapping[str, Bound]) -> None:
        if inner.children_left[node] < 0:
            if inside >= 0 and inner.value[node][0][inside] > 0.5:
                ways.append(tuple(bounds.values()))
            return
        name, threshold = columns[inner.feature[node]], float(inner.threshold[node])
        was = bounds.get(name, Bound(column=name, low=None, high=None, or_missing=True))
        missing_left = bool(inner.missing_go_to_left[node])
        only_missing = not np.isfinite(threshold)
        left = Bound(
            column=name, low=was.low, high=was.high if only_missing else _least(was.high, threshold),
            or_missing=was.or_missing and missing_left,
        )  # fmt: skip
        right = Bound(
            column=name, low=None if only_missing else _most(was.low, threshold),
            high=None if only_missing else was.high,
            or_missing=was.or_missing and not missing_left,
        )  # fmt: skip
        walk(inner.children_left[node], {**bounds, name: left})
        walk(inner.children_right[node], {**bounds, name: right})

    walk(0, {})
    return tuple(ways)


def _rounded(
    ways: tuple[tuple[Bound, ...], ...], raw: Floats, columns: Sequence[str], members: np.ndarray
) -> tuple[tuple[Bound, ...], ...]:
    """With as few digits as cost at most one person in two hundred, and without ways by which hardly anybody comes."""
    exact = _judged(ways, raw, columns, members)
    least = _LEAST_SHARE * members.sum()
    kept = tuple(w for w in ways if (holds([w], raw, columns) & members).sum() >= least) or ways
    can_miss = {c for n, c in enumerate(columns) if np.isnan(raw[:, n]).any()}
    for digits in (1, 2, 3, 6):
        rounded = tuple(
            tuple(
                Bound(
                    column=b.column,
                    low=_round(b.low, digits),
                    high=_round(b.high, digits),
                    or_missing=b.or_missing and b.column in can_miss,
                )
                for b in way
            )
            for way in kept
        )
        if _judged(rounded, raw, columns, members).f1 >= exact.f1 - 0.005:
            return rounded
    return kept


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _least(a: float | None, b: float) -> float:
    return b if a is None else min(a, b)


def _most(a: float | None, b: float) -> float:
    return b if a is None else max(a, b)


def _number(value: float | None) -> str:
    assert value is not None
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
