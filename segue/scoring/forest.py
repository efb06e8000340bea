"""Gradient-boosted trees as plain arrays: scored the same one by one and by the million, explained, kept in a file."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from segue.durable import sync
from segue.errors import BadInputError

Floats = npt.NDArray[np.float64]

#: Raise it when the file changes its form.
FORM = 1

#: Up to so many rows all trees are walked at once, which has less overhead; beyond, tree by tree in compiled code.
_FEW = 48

_NODE = {
    "value": np.float64, "feature": np.int64, "threshold": np.float64, "missing_left": np.uint8,
    "left": np.int64, "right": np.int64, "is_leaf": np.uint8,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one feature adds to a score."""

    feature: str
    value: float | None  # of the person; None: missing
    log_odds: float  # added to the base


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The trees of a gradient boosting, nodes one after the other; children are places in these arrays."""

    value: Floats  # of a node: what the tree says there, in log-odds, learning rate included
    feature: npt.NDArray[np.int64]
    threshold: Floats
    missing_left: npt.NDArray[np.uint8]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    is_leaf: npt.NDArray[np.uint8]
    roots: npt.NDArray[np.int64]  # where each tree begins
    baseline: float
    _compiled: list[Any] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, model: Any) -> Self:
        """The trees of a fitted `HistGradientBoostingClassifier` for two classes, without categories."""
        parts: dict[str, list[Any]] = {name: [] for name in _NODE}
        roots, start = [], 0
        for (tree,) in model._predictors:
            nodes = tree.nodes
            is_leaf = nodes["is_leaf"].astype(np.uint8)
            # Only what leaves say has been multiplied by the learning rate.
            shrunk = np.where(is_leaf, nodes["value"], nodes["value"] * model.learning_rate)
            parts["value"].append(shrunk)
            parts["feature"].append(nodes["feature_idx"].astype(np.int64))
            parts["threshold"].append(nodes["num_threshold"])
            parts["missing_left"].append(nodes["missing_go_to_left"])
            here = np.arange(len(nodes)) + start
            parts["left"].append(np.where(is_leaf, here, nodes["left"].astype(np.int64) + start))
            parts["right"].append(np.where(is_leaf, here, nodes["right"].astype(np.int64) + start))
            parts["is_leaf"].append(is_leaf)
            roots.append(start)
            start += len(nodes)
        arrays: dict[str, Any] = {name: np.concatenate(parts[name]).astype(kind) for name, kind in _NODE.items()}
        return cls(
            **arrays,
            _compiled=[],
            roots=np.array(roots, dtype=np.int64),
            baseline=float(model._baseline_prediction[0, 0]),
        )

    def raw(self, matrix: Floats, *, threads: int = 1) -> Floats:
        """Log-odds of rows × features; NaN is missing. Bit by bit the same for a row alone and among many."""
        if len(matrix) <= _FEW:
            return self._together(matrix)
        trees, no_categories, no_map = self._compile()
        matrix = np.ascontiguousarray(matrix)
        total = np.full(len(matrix), self.baseline)
        for tree in trees:
            total += tree.predict(matrix, no_categories, no_map, threads)
        return total

    def _together(self, matrix: Floats) -> Floats:
        rows = np.arange(len(matrix))[:, None]
        at = np.broadcast_to(self.roots, (len(matrix), len(self.roots)))
        while not self.is_leaf[at].all():
            at = self._step(matrix, rows, at)
        # One after the other, as in `raw`: a sum in another order is another number.
        steps = np.concatenate([np.full((len(matrix), 1), self.baseline), self.value[at]], axis=1)
        total: Floats = np.cumsum(steps, axis=1)[:, -1]
        return total

    def _step(self, matrix: Floats, rows: Any, at: Any) -> Any:
        value = matrix[rows, self.feature[at]]
        goes_left = np.where(np.isnan(value), self.missing_left[at] == 1, value <= self.threshold[at])
        return np.where(goes_left, self.left[at], self.right[at])

    def contributions(self, row: Floats) -> tuple[float, Floats]:
        """The base, and what each feature adds to it, in log-odds; together they are the row's log-odds.

        What a tree says changes from node to node on the way down; each change is put down to the feature that the
        node asks for. Method: Saabas (2014), "Interpreting random forests".
        """
        added = np.zeros(len(row))
        matrix, at = row.reshape(1, -1), self.roots.reshape(1, -1)
        base = self.baseline + float(self.value[self.roots].sum())
        while not self.is_leaf[at].all():
            following = self._step(matrix, np.zeros((1, 1), dtype=np.int64), at)
            np.add.at(added, self.feature[at[0]], self.value[following[0]] - self.value[at[0]])
            at = following
        return base, added

    def _compile(self) -> tuple[list[Any], Any, Any]:
        no_categories, no_map = np.zeros((0, 8), dtype=np.uint32), np.zeros(0, dtype=np.uint32)
        if not self._compiled:
            from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
            from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

            ends = [*self.roots[1:], len(self.value)]
            for start, end in zip(self.roots, ends, strict=True):
                nodes = np.zeros(end - start, dtype=PREDICTOR_RECORD_DTYPE)
                part = slice(start, end)
                nodes["value"], nodes["is_leaf"] = self.value[part], self.is_leaf[part]
                nodes["feature_idx"], nodes["num_threshold"] = self.feature[part], self.threshold[part]
                nodes["missing_go_to_left"] = self.missing_left[part]
                nodes["left"], nodes["right"] = self.left[part] - start, self.right[part] - start
                self._compiled.append(TreePredictor(nodes, no_categories, no_categories))
        return self._compiled, no_categories, no_map


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A model as it is published: trees, and how their answer becomes a probability."""

    name: str  # of the propensity
    version: str
    features: tuple[str, ...]
    forest: Forest
    slope: float  # calibration: probability = 1 / (1 + exp(−(slope × log-odds + offset)))
    offset: float
    about: Mapping[str, Any]  # as_of, seed and what else makes it again

    def probability(self, matrix: Floats, *, threads: int = 1) -> Floats:
        """Of rows × features, in the order of `features`; NaN or infinite is missing."""
        clean = np.where(np.isfinite(matrix), matrix, np.nan)
        return self.calibrated(self.forest.raw(clean, threads=threads))

    def calibrated(self, log_odds: Floats) -> Floats:
        """The probability that log-odds of the trees mean."""
        found: Floats = 1 / (1 + np.exp(-(self.slope * log_odds + self.offset)))
        return found

    def why(self, row: Floats) -> tuple[float, tuple[Contribution, ...]]:
        """The base in log-odds, and what each feature adds, largest first; calibrated, so they sum to the score's."""
        clean = np.where(np.isfinite(row), row, np.nan)
        base, added = self.forest.contributions(clean)
        found = [
            Contribution(feature=f, value=None if np.isnan(v) else float(v), log_odds=float(self.slope * a))
            for f, v, a in zip(self.features, clean, added, strict=True)
        ]
        return self.slope * base + self.offset, tuple(sorted(found, key=lambda c: (-abs(c.log_odds), c.feature)))


def save_scorer(scorer: Scorer, path: Path) -> None:
    """Write a model file; a crash leaves none or a whole one."""
    said = {
        "form": FORM, "name": scorer.name, "version": scorer.version, "features": scorer.features,
        "slope": scorer.slope, "offset": scorer.offset, "baseline": scorer.forest.baseline, "about": dict(scorer.about),
    }  # fmt: skip
    buffer = io.BytesIO()
    arrays = {name: getattr(scorer.forest, name) for name in (*_NODE, "roots")}
    np.savez(buffer, said=np.frombuffer(json.dumps(said, sort_keys=True).encode(), dtype=np.uint8), **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def load_scorer(path: Path) -> Scorer:
    """Read a model file.

    Raises:
        BadInputError: when it is missing, damaged, or of another version of Segue.
    """
    fix = "`segue propensity reproduce VERSION` makes it again; `segue propensity rollback` goes back to an earlier one"
    try:
        with np.load(path, allow_pickle=False) as content:
            said = json.loads(content["said"].tobytes())
            if said.get("form") != FORM:
                raise BadInputError(
                    f"the model file {path} is of form {said.get('form')!r}, and this version reads {FORM}", fix=fix
                )
            arrays = {name: content[name].astype(kind) for name, kind in _NODE.items()}
            roots = content["roots"]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile) as error:
        raise BadInputError(f"the model file {path} cannot be read: {error}", fix=fix) from None
    return Scorer(
        name=said["name"],
        version=said["version"],
        features=tuple(said["features"]),
        forest=Forest(**arrays, roots=roots, baseline=said["baseline"]),
        slope=said["slope"],
        offset=said["offset"],
        about=said["about"],
    )


def missing_features(scorer: Scorer, given: Sequence[str]) -> list[str]:
    """Features of the model that are not given."""
    return [name for name in scorer.features if name not in given]
