"""What a clustering leaves behind, so that the next run can assign people instead of finding groups anew."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from segue.clusters.features import Feature
from segue.clusters.vectors import Dimension, Floats, Ints, Vectors
from segue.scoring import DRIFTED, Population

#: Raise it when what is kept changes its form: an older one is then not read.
FORM = 2

#: People further out than this share of people when the clusters were found lie outside all of them.
_FAR_QUANTILE = 0.99

#: Share of people outside all clusters from which something new is there; one in a hundred is usual.
MANY_FAR = 0.03
_FEWEST_FAR = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster that people can be in: its id and name stay."""

    cluster_id: int
    cluster_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far today's people are from those that the clusters were found among."""

    index: float  # the largest population stability index of a dimension, less what chance alone gives
    column: str  # of that dimension
    far_share: float  # of people outside all clusters
    far_count: int

    @property
    def reason(self) -> str:
        """Why the clusters have to be found anew; empty when they need not."""
        if self.far_share > MANY_FAR and self.far_count >= _FEWEST_FAR:
            usual = 100 * (1 - _FAR_QUANTILE)
            return f"{100 * self.far_share:.0f} % of people lie outside all clusters ({usual:.0f} % is usual)"
        if self.index > DRIFTED:
            spoken = self.column.replace("_", " ")
            return f"the population has drifted: {spoken} has a stability index of {self.index:.2f} (limit {DRIFTED})"
        return ""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Scales, centres and the population of the last published clustering by K-Means."""

    columns: tuple[str, ...]  # that were compared, those that told nobody apart included
    dimensions: tuple[Dimension, ...]
    clusters: tuple[Cluster, ...]  # in the order of the centres
    centres: Floats  # cluster × dimension
    far: float  # distance beyond which a person lies outside all clusters
    populations: tuple[Population, ...]  # per dimension: how the people were distributed

    @classmethod
    def of(cls, people: Vectors, clusters: Sequence[Cluster], centres: Floats, distances: Floats) -> Self:
        """To be kept of a new clustering."""
        return cls(
            columns=tuple(f.column for f in people.features),
            dimensions=people.dimensions,
            clusters=tuple(clusters),
            centres=centres,
            far=float(np.quantile(distances, _FAR_QUANTILE)),
            populations=tuple(Population.of(column) for column in people.matrix.T),
        )

    def drift(self, people: Vectors, nearest: Floats) -> Drift:
        """How far people are from those then.

        Args:
            people: today's, scaled as then.
            nearest: of each person to the nearest centre.
        """
        found = [(0.0, "")]
        for column, then, dimension in zip(people.matrix.T, self.populations, self.dimensions, strict=True):
            found.append((then.index(column), dimension.feature.column))
        index, name = max(found)
        far = nearest > self.far
        return Drift(index=index, column=name, far_share=float(far.mean()), far_count=int(far.sum()))

    def assign(self, matrix: Floats, before: Ints, *, stay: float) -> tuple[Ints, Floats, Floats]:
        """The cluster of each person, the distance to its centre, and the distance to the nearest centre.

        Args:
            before: place of each person's cluster so far; -1: none.
            stay: a person moves only to a centre that is nearer than this share of the distance to their own.
        """
        labels, own, nearest = np.empty(len(matrix), dtype=np.int64), np.empty(len(matrix)), np.empty(len(matrix))
        for start in range(0, len(matrix), 50_000):
            part = slice(start, start + 50_000)
            away = np.linalg.norm(matrix[part, None, :] - self.centres[None, :, :], axis=2)
            best = away.argmin(axis=1)
            rows = np.arange(len(best))
            was = before[part]
            is_known = was >= 0
            kept = is_known & (away[rows, best] >= stay * away[rows, np.where(is_known, was, 0)])
            labels[part] = np.where(kept, was, best)
            own[part], nearest[part] = away[rows, labels[part]], away[rows, best]
        return labels, own, nearest

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(
            {
                "form": FORM,
                "columns": self.columns,
                "dimensions": [asdict(d) for d in self.dimensions],
                "clusters": [asdict(c) for c in self.clusters],
                "centres": self.centres.tolist(),
                "far": self.far,
                "populations": [asdict(p) for p in self.populations],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """What was kept; None when it is of another version of Segue, or damaged."""
        try:
            said: dict[str, Any] = json.loads(text)
            if said.pop("form") != FORM:
                return None
            dimensions = tuple(Dimension(**{**d, "feature": Feature(**d["feature"])}) for d in said.pop("dimensions"))
            clusters = tuple(Cluster(**c) for c in said.pop("clusters"))
            centres = np.array(said.pop("centres"), dtype=np.float64)
            populations = tuple(
                Population(edges=tuple(p["edges"]), shares=tuple(p["shares"]), count=p["count"])
                for p in said.pop("populations")
            )
            columns = tuple(said.pop("columns"))
            found = cls(
                columns=columns, dimensions=dimensions, clusters=clusters, centres=centres, populations=populations,
                **said,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return None
        return found if centres.shape == (len(clusters), len(dimensions)) else None
