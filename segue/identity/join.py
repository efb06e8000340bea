"""Links to people, in arrays: as if each link were judged by itself in its order, at a few times the cost of finding
connected components (docs/decisions/0004-identity.md)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segue.identifiers import Rules
from segue.identity.walk import Walker

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Merges = tuple[Ints, Ints, Ints]  # node that named who went, node that named who stayed, link

#: Where several people meet in a component of more links, the others would wait for each of its steps.
_LONG = 200

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Identifiers in the order of age."""

    kind: Ints  # place in `kinds`
    kinds: list[str]
    first: Ints  # microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Links between different nodes, in the order in which they are judged; none is judged before it was seen."""

    a: Ints
    b: Ints
    moment: Ints  # microseconds
    rule: Any  # Arrow
    device: Ints  # the device whose link it is; -1: of none
    is_weak: Flags  # of a device and a browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What became of nodes and links."""

    label: Ints  # per node: of its person
    # The merges, in their order.
    gone: Ints  # node that named the person who went
    stayed: Ints  # node that named the person who stayed
    by: Ints  # link
    refused: list[tuple[int, str, str]]  # link, reason, detail


def join(nodes: Nodes, links: Links, rules: Rules) -> Joined:
    """Who is one person, the merges, the refused links; as if the links were judged one by one.

    Only where a guard may refuse are they really walked one by one. Elsewhere people are the connected components, and
    only the merges are to be found: at once where a single person grows, step by step where people meet.
    """
    label = components(len(nodes.first), links.a, links.b)
    if not len(links.a):
        none = np.empty(0, np.int64)
        return Joined(label=label, gone=none, stayed=none, by=none, refused=[])
    component = label[links.a]
    is_contested = _contested(nodes, label, rules)
    merges, births = _growing(nodes.first, links, component, is_contested)
    is_met = (births > 1) & ~is_contested
    if is_met.any():
        is_long = np.bincount(component, minlength=len(births)) > _LONG
        is_contested |= is_met & is_long
        merges.append(_march(nodes.first, links, np.flatnonzero((is_met & ~is_long)[component]), component))
    refused: list[tuple[int, str, str]] = []
    if is_contested.any():
        label, walked, refused = _walk(nodes, links, np.flatnonzero(is_contested[component]), label, rules)
        merges.append(walked)
    gone, stayed, by = (np.concatenate(parts) for parts in zip(*merges, strict=True))
    order = np.argsort(by)
    gone, stayed, by = gone[order], stayed[order], by[order]
    return Joined(label=label, gone=gone, stayed=stayed, by=by, refused=refused)


def components(count: int, a: Ints, b: Ints) -> Ints:
    """Label of each node's connected component."""
    if not len(a):
        return np.arange(count)
    small = np.int32 if count < 2**31 else np.int64
    graph = coo_array((np.ones(len(a)), (a.astype(small), b.astype(small))), shape=(count, count))
    graph.has_canonical_format = True  # a link twice does no harm, so nobody need look for it
    label: Ints = connected_components(graph, directed=False)[1]
    return label


def _contested(nodes: Nodes, label: Ints, rules: Rules) -> Flags:
    """Components in which a guard may refuse something: together, their nodes exceed a limit."""
    # One count of every kind in every component.
    width = max(1, len(nodes.kinds))
    count = int(label.max(initial=-1)) + 1
    of_kind = np.bincount(label * np.int64(width) + nodes.kind, minlength=count * width).reshape(count, width)
    found: Flags = of_kind @ np.ones(width, np.int64) > rules.largest_person
    for code, kind in enumerate(nodes.kinds):
        rule = rules.of(kind)
        is_over = of_kind[:, code] > rule.max_per_person
        if rule.window_days is None:
            found |= is_over
        elif is_over.any():
            # When a link is judged, its ends and all before them were seen: values that count together lie within one
            # window.
            own = np.flatnonzero((nodes.kind == code) & is_over[label])
            own = own[np.argsort(label[own], kind="stable")]
            newer, older = own[rule.max_per_person :], own[: -rule.max_per_person]
            window = timedelta(days=rule.window_days) // _MICROSECOND
            is_near = (label[newer] == label[older]) & (nodes.first[newer] - nodes.first[older] < window)
            found[label[newer[is_near]]] = True
    return found


def _growing(first: Ints, links: Links, component: Ints, is_contested: Flags) -> tuple[list[Merges], Ints]:
    """The merges of components in which one person grows: every link but the first has an end that was linked before.

    Whoever is linked for the first time then joins the one person there is, so nothing has to be followed: the name of
    that person is the oldest node so far.

    Returns:
        The merges; the links of two new ends in each component: 1 where one person grows.
    """
    a, b, moment = links.a, links.b, links.moment
    # A node's first link; in small numbers, because memory is what this costs.
    rows = np.arange(len(a), dtype=np.int32 if len(a) < 2**31 else np.int64)
    began = np.full(len(first), len(a), rows.dtype)
    np.minimum.at(began, a, rows)
    np.minimum.at(began, b, rows)
    new_count = np.bincount(began, minlength=len(a) + 1)
    new_count[-1] = 0  # nodes without a link
    new_count = new_count.astype(np.int8)  # at most 2; small, because it is looked up in no order
    births = np.flatnonzero(new_count == 2)
    birth_count = np.bincount(component[births], minlength=len(is_contested))
    is_grown = (birth_count == 1) & ~is_contested
    births = births[is_grown[component[births]]]
    older, younger = np.minimum(a[births], b[births]), np.maximum(a[births], b[births])
    is_merge = first[younger] < moment[births]  # and then the older was there as well
    found = [(younger[is_merge], older[is_merge], births[is_merge])]
    # Who joins: the other nodes. Of interest are those that were there before, and those that are older than the
    # first two.
    core = np.full(len(is_contested), -1, rows.dtype if len(first) < 2**31 else np.int64)
    core[component[births]] = older
    joins = np.flatnonzero(new_count[began] == 1)
    when = began[joins]
    own = component[when]
    is_free = first[joins] < moment[when]
    counts = is_grown[own] & (is_free | (joins < core[own]))
    joins, when, own, is_free = joins[counts], when[counts], own[counts], is_free[counts]
    if not len(joins):
        return found, birth_count
    # In the order of components, and of links within each, after the birth.
    has_joins = np.zeros(len(is_contested), np.bool_)
    has_joins[own] = True
    births = births[has_joins[component[births]]]
    node_of = np.full(len(a), -1)
    node_of[births], node_of[when] = core[component[births]], joins
    is_candidate = np.zeros(len(a), np.bool_)
    is_candidate[when] = is_free
    keys = np.sort(np.concatenate([component[births], own]) * np.int64(len(a)) + np.concatenate([births, when]))
    own, when = np.divmod(keys, len(a))
    node = node_of[when]
    # The oldest so far: each component's numbers are smaller than all of the one before.
    shift = (len(is_contested) - own) * np.int64(len(first))
    oldest = np.minimum.accumulate(node + shift)
    candidate = np.flatnonzero(is_candidate[when])
    person = oldest[candidate - 1] - shift[candidate]
    node, when = node[candidate], when[candidate]
    is_merge = first[person] < moment[when]
    person, node, when = person[is_merge], node[is_merge], when[is_merge]
    found.append((np.maximum(person, node), np.minimum(person, node), when))
    return found, birth_count


def _march(first: Ints, links: Links, rows: Ints, component: Ints) -> Merges:
    """The merges of components in which nothing is refused: all of them take their first link, then their second, …

    A person is kept at its oldest identifier, and paths are shortened as they are walked.
    """
    rows = rows[np.argsort(component[rows], kind="stable")]
    own = component[rows]
    begins = np.flatnonzero(np.diff(own, prepend=-1))
    step = np.arange(len(rows)) - np.repeat(begins, np.diff(begins, append=len(rows)))
    rows = rows[np.argsort(step, kind="stable")]
    parent = np.arange(len(first))
    found: list[Ints] = [np.empty((3, 0), np.int64)]
    end = 0
    for size in np.bincount(step).tolist():
        now = rows[end : end + size]
        end += size
        left, right = _roots(parent, links.a[now]), _roots(parent, links.b[now])
        older, younger, moment = np.minimum(left, right), np.maximum(left, right), links.moment[now]
        parent[younger] = older
        merged = (left != right) & (first[older] < moment) & (first[younger] < moment)
        found.append(np.stack([younger[merged], older[merged], now[merged]]))
    gone, stayed, by = np.concatenate(found, axis=1)
    return gone, stayed, by


def _roots(parent: Ints, nodes: Ints) -> Ints:
    root: Ints = parent[nodes]
    while True:
        above = parent[root]
        if np.array_equal(above, root):
            parent[nodes] = root
            return root
        root = above


def _walk(
    nodes: Nodes, links: Links, rows: Ints, label: Ints, rules: Rules
) -> tuple[Ints, Merges, list[tuple[int, str, str]]]:
    """Judge some links one by one: everybody's label, the merges, the refused."""
    half = len(rows)
    touched, local = np.unique(np.concatenate([links.a[rows], links.b[rows]]), return_inverse=True)
    walker = Walker(rules)
    for place, kind, first in zip(
        touched.tolist(), nodes.kind[touched].tolist(), nodes.first[touched].tolist(), strict=True
    ):
        walker.add(nodes.kinds[kind], place, first)
    device = links.device[rows]
    steps = zip(
        rows.tolist(), local[:half].tolist(), local[half:].tolist(), links.moment[rows].tolist(),
        links.rule.take(pa.array(rows)).to_pylist(),
        np.where(device < 0, -1, np.searchsorted(touched, device)).tolist(),
        links.is_weak[rows].tolist(), strict=True,
    )  # fmt: skip
    merges: list[tuple[int, int, int]] = []
    refused: list[tuple[int, str, str]] = []
    for link, left, right, moment, rule, at_device, is_weak in steps:
        verdict = walker.judge(left, right, moment=moment, rule=rule, device=at_device, is_weak=is_weak)
        if verdict is None or verdict[0] == "grown":
            continue
        if verdict[0] == "merged":
            one, other = verdict[1]
            merges.append((walker.age[one], walker.age[other], link))
        else:
            refused.append((link, *verdict[1]))
    roots = np.array([walker.root(node) for node in range(len(touched))], dtype=np.int64)
    label = label.astype(np.int64)
    label[touched] = len(nodes.first) + roots
    gone, stayed, by = np.array(merges, np.int64).reshape(-1, 3).T
    return label, (gone, stayed, by), refused
