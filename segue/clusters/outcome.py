"""What one method comes to: people assigned to the clusters that are there, or found anew under the ids of those."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from segue.clusters import life
from segue.clusters.kept import Cluster, Drift, Kept
from segue.clusters.methods import Found, hdbscan, kmeans, silhouettes
from segue.clusters.profiles import by_size
from segue.clusters.tables import last_told, next_id
from segue.clusters.vectors import Floats, Ints, Vectors
from segue.warehouse import Connection

#: A person moves only to a cluster whose centre is nearer than this share of the distance to their own.
STAY = 0.9

_NEIGHBOURS = 5
_NEIGHBOUR_SAMPLE = 10_000


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one method comes to."""

    people: Vectors  # as measured
    labels: Ints  # places in `clusters`
    distances: Floats
    clusters: tuple[Cluster, ...]
    decision: str
    found: Found | None  # a fit of today; None when people were only assigned
    is_published: bool  # of that fit
    agreement: float | None = None
    drift: Drift | None = None
    events: tuple[life.LifeEvent, ...] = ()


def outcome_of_kmeans(
    con: Connection, people: Vectors, fresh: Vectors, before: Ints, *, kept: Kept | None, why: str, seed: int
) -> Outcome:
    """People stay near the centres that were kept; when they have drifted, or none were, clusters are found anew.

    Args:
        people: measured as those whom `kept` was found among.
        fresh: the same people, measured by themselves.
        before: id of each person's last cluster; -1: none, -2: not there before.
        kept: None: find clusters anew.
        why: that is so; empty when there is something kept.
    """
    drift = None
    assigned = None
    if kept is not None:
        places = {c.cluster_id: n for n, c in enumerate(kept.clusters)}
        labels, own, nearest = kept.assign(people.matrix, _placed(before, places), stay=STAY)
        drift = kept.drift(people, nearest)
        why = drift.reason
        assigned = Outcome(
            people=people, labels=labels, distances=own, clusters=kept.clusters, found=None, is_published=False,
            drift=drift, decision="assigned to the clusters that are there; the population has not drifted",
        )  # fmt: skip
        if not why:
            return assigned
        strange = nearest > kept.far
        known, old = kept.clusters, labels
    else:
        strange = np.zeros(len(before), dtype=bool)
        known = last_told(con, "kmeans")
        old = _placed(before, {c.cluster_id: n for n, c in enumerate(known)})
    found = kmeans(fresh.matrix, seed=seed)
    found = _ranked(found)
    is_stable = not found.criterion.startswith("no number")
    return _succession(
        fresh, found, known, old, strange=strange, unused=next_id(con, "kmeans"), why=why, assigned=assigned,
        is_stable=is_stable, seed=seed, drift=drift,
    )  # fmt: skip


def outcome_of_hdbscan(con: Connection, first: Outcome, before: Ints, *, seed: int) -> Outcome:
    """People keep their groups and newcomers follow their neighbours; groups are found anew when K-Means' are.

    Args:
        first: what K-Means came to, with the people as it measured them.
        before: id of each person's last group; -1: none, -2: not there before.
    """
    known = last_told(con, "hdbscan")
    old = _placed(before, {c.cluster_id: n for n, c in enumerate(known)})
    people = first.people
    assigned = None
    if known:
        assigned = Outcome(
            people=people, labels=_follow_neighbours(people.matrix, old, before == -2, seed),
            distances=np.full(len(old), np.nan), clusters=known, found=None, is_published=False,
            decision="people keep their groups, newcomers follow their neighbours",
        )  # fmt: skip
        if first.found is None:
            return assigned
    # Density is looked for in main components, where what columns have in common is one direction already.
    found = hdbscan(people.matrix / np.array([d.weight for d in people.dimensions]), seed=seed)
    found = replace(found, labels=by_size(found.labels))
    if assigned is not None and not len(np.unique(found.labels[found.labels >= 0])):
        return replace(assigned, decision=f"not published: {found.criterion}")
    return _succession(
        people, found, known, old, strange=np.zeros(len(old), dtype=bool), unused=next_id(con, "hdbscan"),
        why="" if known else "there are no groups yet", assigned=assigned, is_stable=True, seed=seed, drift=None,
    )  # fmt: skip


def _succession(
    people: Vectors,
    found: Found,
    known: tuple[Cluster, ...],
    old: Ints,
    *,
    strange: np.ndarray,
    unused: int,
    why: str,
    assigned: Outcome | None,
    is_stable: bool,
    seed: int,
    drift: Drift | None,
) -> Outcome:
    """The new clusters under the ids of the old ones, or the old ones when the new are not to be published."""
    succession = life.succeed(old, found.labels, known, is_strange=strange, next_id=unused)
    if assigned is None:
        is_published, decision = True, f"published: {why}"
    else:
        before, after = silhouettes(people.matrix, old, found.labels, seed)
        is_published, decision = life.verdict(succession, before=before, after=after, is_stable=is_stable)
        decision = f"{decision}; {why}" if why else decision
    if not is_published:
        assert assigned is not None
        return replace(assigned, decision=decision, agreement=succession.agreement)
    names = {c.cluster_id: c.cluster_name for c in known}
    return Outcome(
        people=people,
        labels=found.labels,
        distances=found.distances,
        clusters=tuple(Cluster(cluster_id=i, cluster_name=names.get(i, "")) for i in succession.ids),
        decision=decision,
        found=found,
        is_published=True,
        agreement=succession.agreement if known else None,
        drift=drift,
        events=succession.events,
    )


def _ranked(found: Found) -> Found:
    """The same with groups numbered by size, centres too."""
    labels = by_size(found.labels)
    assert found.centres is not None
    first = [int(np.argmax(labels == n)) for n in range(int(labels.max()) + 1)]
    return replace(found, labels=labels, centres=found.centres[found.labels[first]])


def _placed(ids: Ints, places: dict[int, int]) -> Ints:
    """Places of ids; -1 for those that have none."""
    found = np.full(len(ids), -1, dtype=np.int64)
    for number, place in places.items():
        found[ids == number] = place
    return found


def _follow_neighbours(matrix: Floats, old: Ints, is_new: np.ndarray, seed: int) -> Ints:
    """The groups of people, newcomers as most of their five nearest neighbours."""
    known = np.flatnonzero(~is_new)
    if not is_new.any() or len(known) < _NEIGHBOURS:
        return old
    if len(known) > _NEIGHBOUR_SAMPLE:
        known = np.sort(np.random.default_rng(seed).choice(known, _NEIGHBOUR_SAMPLE, replace=False))
    labels = old.copy()
    labels[is_new] = KNeighborsClassifier(_NEIGHBOURS).fit(matrix[known], old[known]).predict(matrix[is_new])
    return labels
