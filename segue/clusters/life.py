"""The life of clusters: which new group is which old cluster, and what is said when none is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from segue.clusters.kept import Cluster
from segue.clusters.vectors import Ints

#: A new clustering that agrees so well with the last one (adjusted Rand index) is the same clustering.
AGREES = 0.8

#: A cluster is the same one when it shares at least half of its people, old and new together (Jaccard index);
#: below, it dissolves: Hennig (2007), "Cluster-wise assessment of cluster stability".
_SAME = 0.5

#: A part of a cluster that went elsewhere counts from this share of the cluster on.
_PART = 0.25
_MOST = 0.5

#: Without agreement, a new clustering has to separate people better by so much (silhouette).
_BETTER = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeEvent:
    """Something that happened to a cluster."""

    event: str  # born, split, merged or died
    cluster_id: int
    cluster_name: str
    others: tuple[int, ...]  # ids: split into these, merged from these
    person_count: int
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """How the groups of a new clustering follow the clusters of the last one."""

    ids: tuple[int, ...]  # id of each new group, in the order of its label
    agreement: float  # adjusted Rand index between old and new, for people in both
    events: tuple[LifeEvent, ...]  # without names of new clusters, which are given later


def succeed(old: Ints, new: Ints, clusters: Sequence[Cluster], *, is_strange: np.ndarray, next_id: int) -> Succession:
    """Match new groups to old clusters by the people they share.

    Args:
        old: place of each person's last cluster in `clusters`; -1: none.
        new: label of each person's new group; -1: none.
        clusters: those of the last clustering.
        is_strange: whether a person lies outside all of the last clusters, and is none of theirs, wherever assigned.
        next_id: the first id that was never used.
    """
    groups = int(new.max(initial=-1)) + 1
    shared = np.zeros((groups, len(clusters)), dtype=np.int64)
    # Newcomers take nothing away from the cluster that grows by them.
    both = (old >= 0) & (new >= 0) & ~is_strange
    np.add.at(shared, (new[both], old[both]), 1)
    sizes = np.bincount(new[new >= 0], minlength=groups)
    new_sizes, old_sizes = shared.sum(axis=1), np.bincount(old[(old >= 0) & ~is_strange], minlength=len(clusters))
    union = new_sizes[:, None] + old_sizes[None, :] - shared
    overlap = shared / np.maximum(union, 1)
    # Only what passes competes: two pairs that do not could together outweigh one that does.
    same = np.where(overlap >= _SAME, overlap, 0)
    heir: dict[int, int] = {int(g): int(c) for g, c in zip(*linear_sum_assignment(-same), strict=True) if same[g, c]}
    ids = []
    for group in range(groups):
        if group in heir:
            ids.append(clusters[heir[group]].cluster_id)
        else:
            ids.append(next_id)
            next_id += 1
    events: list[LifeEvent] = []
    explained: set[int] = set()  # new groups
    gone: set[int] = set()  # old clusters
    for place, cluster in enumerate(clusters):
        went = [g for g in range(groups) if shared[g, place] >= _PART * max(old_sizes[place], 1)]
        mine = [g for g in went if shared[g, place] >= _MOST * sizes[g]]
        if len(mine) >= 2:
            events.append(_event("split", cluster, [ids[g] for g in mine], int(old_sizes[place])))
            explained |= set(mine)
            gone.add(place)
    for group in range(groups):
        came = [c for c in range(len(clusters)) if shared[group, c] >= _MOST * max(old_sizes[c], 1) and old_sizes[c]]
        if len(came) >= 2:
            made = Cluster(cluster_id=ids[group], cluster_name="")
            events.append(_event("merged", made, [clusters[c].cluster_id for c in came], int(sizes[group])))
            explained.add(group)
            gone |= set(came)
    for group in range(groups):
        if group not in heir and group not in explained:
            made = Cluster(cluster_id=ids[group], cluster_name="")
            events.append(_event("born", made, [], int(sizes[group])))
    for place, cluster in enumerate(clusters):
        if place not in heir.values() and place not in gone:
            events.append(_event("died", cluster, [], int(old_sizes[place])))
    agreement = float(adjusted_rand_score(old[both], new[both])) if both.any() else 0.0
    return Succession(
        ids=tuple(ids),
        agreement=agreement,
        events=tuple(events),
    )


def verdict(found: Succession, *, before: float | None, after: float | None, is_stable: bool) -> tuple[bool, str]:
    """Whether a new clustering is published, and why.

    It is when it agrees with the last one; or when it separates people better (silhouette on the same people, those
    whom both group, and scales), is stable under resampling, and what changed is explained by splits, mergers and new
    people.

    Args:
        before: silhouette of the last clusters on these people; None: they no longer tell people apart.
        after: silhouette of the new ones on the same.
        is_stable: whether the number of clusters is stable under resampling.
    """
    agreement = f"agreement with the last clusters {found.agreement:.2f} (adjusted Rand index)"
    if found.agreement >= AGREES:
        return True, f"published: {agreement}"
    better = after is not None and (before is None or after >= before + _BETTER)
    if better and is_stable and found.events:
        told = ", ".join(f"{e.event} {e.cluster_id}" for e in found.events)
        return True, f"published: {agreement}, and what changed is explained: {told}"
    lacks = (
        "its clusters are not stable under resampling" if not is_stable
        else f"it does not separate people better (silhouette {_figure(after)} after {_figure(before)})" if not better
        else "what changed has no explanation"
    )  # fmt: skip
    return False, f"not published: {agreement} is below {AGREES}, and {lacks}"


def _event(event: str, cluster: Cluster, others: list[int], count: int) -> LifeEvent:
    return LifeEvent(
        event=event,
        cluster_id=cluster.cluster_id,
        cluster_name=cluster.cluster_name,
        others=tuple(others),
        person_count=count,
        explanation="",
    )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
