"""From links to people: a pure function on Arrow tables.

Links are judged one after another, strictly in the order in which they became known (`first_received_at`), never by
event time: a late message must not rewrite what was concluded before it came. What was known at a time is then a
prefix of what is known later, so running each day and rebuilding at once are the same walk.

Of links that became known at the same instant, the strongest goes first: `alias`, then links of a user_id, then the
rest by rule. Only columns that never change decide ties.

A device alone is weak evidence. When a new anonymous_id appears on a device that is known already, it may be the
owner after deleting cookies, or somebody else of the family. So that link is judged an hour later: who signs in
meanwhile is believed first. And once two user_ids were seen on a device, it joins no anonymous_id any more.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from segue.clock import to_warehouse
from segue.identity.walk import walk

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: Why a link can be refused: code → sentence.
REASONS = {
    "different_user_ids": "both sides already have a user_id of their own; a shared device or address does not make "
    "them one person, only an alias from one user_id to the other does",
    "shared_device": "people with different user_ids share the device, so it does not tell whose browser this is",
}

#: How long a link of a known device and another anonymous_id waits for a sign-in.
DEVICE_WAIT = timedelta(hours=1)

#: Stronger first; only decides between links that became known at the same instant.
_RULES = ("alias", "same_message", "email", "device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Who is who. Rows refer to the tables that were passed."""

    person_ids: pa.Array  # per row of `identifiers`
    merged_from: pa.Array  # the id that went, in the order of the merges
    merged_into: pa.Array  # the id that stayed at that moment; may itself have gone later
    merged_by: Ints  # row of `links`
    refused: Ints  # rows of `links`, in the order in which they were judged
    reasons: tuple[str, ...]  # per refused link; keys of REASONS


def person_id_of(identifier_type: str, identifier_value: str) -> str:
    """The id of a new person whose oldest identifier this is."""
    return "p_" + short_hash(identifier_type, identifier_value)


def short_hash(*parts: str) -> str:
    """16 hexadecimal digits: among 10 million people, two ids collide with a probability of 3 in a million."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def resolve_as_of(identifiers: pa.Table, links: pa.Table, *, as_of: datetime) -> Resolution:
    """As `resolve` without memory, of what had been received by `as_of`.

    The rows of the result refer to the filtered tables, which keep their order.
    """
    moment = pa.scalar(to_warehouse(as_of), pa.timestamp("us"))
    known, judged = (t.filter(pc.less_equal(t["first_received_at"], moment)) for t in (identifiers, links))
    return resolve(known, judged, as_of=as_of)


def resolve(
    identifiers: pa.Table, links: pa.Table, previous: pa.Table | None = None, *, as_of: datetime | None = None
) -> Resolution:
    """Join linked identifiers into people.

    A person's id is made from its oldest identifier, by (first_received_at, type, value). When two people turn out to
    be one, the older id stays. That is a merge if both were known before the link was; otherwise one has just grown.
    A link that would join two people who both have a user_id is refused, unless it is an alias of two user_ids: that
    says so in words. An alias of an anonymous_id only says whose browser it is, and browsers are shared.

    Args:
        identifiers: identifier_type, identifier_value, first_received_at (naive UTC); each identifier once.
        links: left_type, left_value, right_type, right_value, rule, first_received_at; ends are in `identifiers`.
        previous: identifier_type, identifier_value, person_id as published before. These stay together and keep their
            ids, whatever the links say now. Changes nothing when messages came in the order of `first_received_at`.
        as_of: aware; links that have to wait until later than this are not judged yet. None: no link waits.

    Raises:
        ValueError: when a link names an identifier that is not in `identifiers`.
    """
    order = pc.sort_indices(
        identifiers, sort_keys=[(c, "ascending") for c in ("first_received_at", "identifier_type", "identifier_value")]
    ).to_numpy()
    table = identifiers.take(order)
    # From here on an identifier is its place in the order of age: smaller is older.
    types = table["identifier_type"].combine_chunks()
    values = table["identifier_value"].combine_chunks()
    keys = _keys(types, values)
    received = _micros(table["first_received_at"])
    nodes = _Nodes(keys, received, pc.equal(types, "user_id").to_numpy(zero_copy_only=False), previous)

    ends = _positions(keys, links)
    left, right = ends[: links.num_rows], ends[links.num_rows :]
    # A link cannot be known before its ends are.
    known_at = np.maximum(_micros(links["first_received_at"]), np.maximum(received[left], received[right]))
    device, is_weak = _devices(links, left, right)
    waits = is_weak & (received[device] < known_at)
    known_at[waits] += DEVICE_WAIT // timedelta(microseconds=1)
    rows = _judging_order(links, left, right, known_at)
    if as_of is not None:
        rows = rows[known_at[rows] <= _micros(pa.array([to_warehouse(as_of)], pa.timestamp("us")))[0]]
    rows = rows[nodes.of[left[rows]] != nodes.of[right[rows]]]
    judged = _Links(
        a=nodes.of[left[rows]],
        b=nodes.of[right[rows]],
        known_at=known_at[rows],
        is_stated=_are_stated(links)[rows],
        device=device[rows],
        is_weak=is_weak[rows],
    )
    label, merges, refused = _join(nodes, judged)

    # The name of a component is that of its first node by name_rank.
    first = np.full(int(label.max(initial=-1)) + 1, 2 * nodes.count, dtype=np.int64)
    np.minimum.at(first, label, nodes.name_rank)
    ids = nodes.names(first[label[nodes.of]], types, values)
    person_ids = ids.take(pa.array(np.argsort(order)))
    loser, winner, edge = (np.array(c, dtype=np.int64) for c in (zip(*merges, strict=True) if merges else ((), (), ())))
    return Resolution(
        person_ids=person_ids,
        merged_from=nodes.names(loser, types, values),
        merged_into=nodes.names(winner, types, values),
        merged_by=rows[edge],
        refused=rows[np.array([link for link, _ in refused], dtype=np.int64)],
        reasons=tuple(reason for _, reason in refused),
    )


class _Nodes:
    """What is joined: people as published before, and identifiers that are new. Ordered by age."""

    def __init__(self, keys: pa.Array, received: Ints, is_user: Flags, previous: pa.Table | None) -> None:
        count = len(keys)
        group = np.arange(count, dtype=np.int64)
        self._published: pa.Array = pa.array([], pa.string())
        code = np.full(count, -1, dtype=np.int64)
        if previous is not None and previous.num_rows and count:
            place = pc.index_in(keys, value_set=_keys(previous["identifier_type"], previous["identifier_value"]))
            encoded = previous["person_id"].combine_chunks().take(place).dictionary_encode()
            self._published = encoded.dictionary
            code = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            group = np.where(code >= 0, code + count, group)
        _, self.oldest, inverse = np.unique(group, return_index=True, return_inverse=True)
        # Number the nodes by their oldest identifier.
        by_age = np.argsort(self.oldest)
        rank = np.empty_like(by_age)
        rank[by_age] = np.arange(len(by_age))
        self.oldest = self.oldest[by_age]
        self.of: Ints = rank[inverse]
        self.count = len(self.oldest)
        self.code = code[self.oldest]
        self.is_published: Flags = self.code >= 0
        self.received = received[self.oldest]
        self.has_user = np.zeros(self.count, dtype=np.bool_)
        np.logical_or.at(self.has_user, self.of, is_user)
        # Published names win over new ones; among equals, the older.
        self.name_rank: Ints = np.arange(self.count) + np.where(self.is_published, 0, self.count)

    def names(self, ranks: Ints, types: pa.Array, values: pa.Array) -> pa.Array:
        """Person ids from name ranks."""
        wanted, inverse = np.unique(ranks, return_inverse=True)
        node = wanted % self.count if self.count else wanted
        oldest = pa.array(self.oldest[node])
        kept = self._published.take(pa.array(self.code[node], mask=~self.is_published[node])).to_pylist()
        pairs = zip(kept, types.take(oldest).to_pylist(), values.take(oldest).to_pylist(), strict=True)
        names = [name if name is not None else person_id_of(kind, value) for name, kind, value in pairs]
        return pa.array(names, pa.string()).take(pa.array(inverse))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Links:
    """Links between different nodes, in the order in which they are judged."""

    a: Ints
    b: Ints
    known_at: Ints  # microseconds
    is_stated: Flags  # may join people with different user_ids
    device: Ints  # the device_id whose link it is; -1: of none
    is_weak: Flags  # of a device and an anonymous_id


def _join(nodes: _Nodes, links: _Links) -> tuple[Ints, list[tuple[int, int, int]], list[tuple[int, str]]]:
    """Component of each node, the merges, the refused links; as if the links were judged one by one.

    Only where a guard may refuse, or where people may have merged, are they really walked one by one: the rest, nearly
    everything, goes through scipy.
    """
    count, a, b = nodes.count, links.a, links.b
    whole = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    components, label = connected_components(whole, directed=False) if len(a) else (count, np.arange(count))
    label = label.astype(np.int64)
    users = np.bincount(label, weights=nodes.has_user, minlength=components)
    contested = users[label[a]] > 1
    # Of links that no guard can refuse, those that join something are the minimum spanning forest by rank.
    free = np.flatnonzero(~contested)
    forest = free[_forest(a[free], b[free], count)]
    merging = forest[_may_merge(nodes, a[forest], b[forest], links.known_at[forest], label)]
    walked = np.sort(np.concatenate([np.flatnonzero(contested), merging]))
    if not len(walked):
        return label, [], []
    touched, local = np.unique(np.concatenate([a[walked], b[walked]]), return_inverse=True)
    half = len(walked)
    walk_result = walk(
        local[:half].tolist(),
        local[half:].tolist(),
        known_at=links.known_at[walked].tolist(),
        is_stated=links.is_stated[walked].tolist(),
        device=links.device[walked].tolist(),
        is_weak=links.is_weak[walked].tolist(),
        received=nodes.received[touched].tolist(),
        has_user=nodes.has_user[touched].tolist(),
        is_published=nodes.is_published[touched].tolist(),
        name_rank=nodes.name_rank[touched].tolist(),
    )
    guarded = users[label[touched]] > 1
    label[touched[guarded]] = components + np.array(walk_result.root, dtype=np.int64)[guarded]
    merges = [(loser, winner, int(walked[edge])) for loser, winner, edge in walk_result.merges]
    return label, merges, [(int(walked[edge]), reason) for edge, reason in walk_result.refused]


def _forest(a: Ints, b: Ints, count: int) -> Ints:
    """Positions of the links that join two components when all are taken in the given order (Kruskal)."""
    if not len(a):
        return a
    pair = np.minimum(a, b) * count + np.maximum(a, b)
    _, first = np.unique(pair, return_index=True)  # the first of several links between the same two
    weights = (first + 1).astype(np.float64)  # no weight may be zero: that would be no edge
    tree = minimum_spanning_tree(coo_array((weights, (a[first], b[first])), shape=(count, count)).tocsr())
    return np.sort(tree.data.astype(np.int64) - 1)


def _may_merge(nodes: _Nodes, a: Ints, b: Ints, known_at: Ints, label: Ints) -> Flags:
    """Whether the component of each tree link may contain a merge.

    It does not when at every instant at most one link leads from what is new to what was known.
    """
    known_a, known_b = (nodes.is_published[n] | (nodes.received[n] < known_at) for n in (a, b))
    component = label[a]
    candidates = np.zeros(int(label.max(initial=-1)) + 1, dtype=np.bool_)
    candidates[component[known_a & known_b]] = True
    growing = known_a ^ known_b
    order = np.lexsort((known_at[growing], component[growing]))
    c, t = component[growing][order], known_at[growing][order]
    candidates[c[1:][(c[1:] == c[:-1]) & (t[1:] == t[:-1])]] = True
    chosen: Flags = candidates[component]
    return chosen


def _devices(links: pa.Table, left: Ints, right: Ints) -> tuple[Ints, Flags]:
    """The device of each link of the rule `device`, and whether its other end is an anonymous_id."""
    by_device = _is(links["rule"], "device")
    on_left, on_right = (_is(links[f"{side}_type"], "device_id") & by_device for side in ("left", "right"))
    device = np.where(on_left, left, np.where(on_right, right, -1))
    is_anonymous = (on_left & _is(links["right_type"], "anonymous_id")) | (
        on_right & _is(links["left_type"], "anonymous_id")
    )
    return device, is_anonymous


def _are_stated(links: pa.Table) -> Flags:
    """Links that may join people with different user_ids: somebody said that they are one."""
    users = (_is(links[f"{side}_type"], "user_id") for side in ("left", "right"))
    return _is(links["rule"], "alias") & next(users) & next(users)


def _judging_order(links: pa.Table, left: Ints, right: Ints, known_at: Ints) -> Ints:
    rule = np.full(links.num_rows, len(_RULES), dtype=np.int64)
    for rank, name in enumerate(_RULES):
        rule[_is(links["rule"], name)] = rank
    names_a_user = _is(links["left_type"], "user_id") | _is(links["right_type"], "user_id")
    strength = np.where(rule == 0, 0, np.where(names_a_user, 1, 2))
    # The ends' places in the order of age: they never change relative to each other.
    older, younger = np.minimum(left, right), np.maximum(left, right)
    order: Ints = np.lexsort((younger, older, rule, strength, known_at))
    return order


def _keys(types: Any, values: Any) -> pa.Array:
    joined = pc.binary_join_element_wise(types, values, "\x1f")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _positions(keys: pa.Array, links: pa.Table) -> Ints:
    """Places of the left ends, then of the right ends."""
    ends = pa.concat_arrays([_keys(links[f"{side}_type"], links[f"{side}_value"]) for side in ("left", "right")])
    found = pc.index_in(ends, value_set=keys)
    if found.null_count:
        missing = ends.filter(found.is_null())[0].as_py().replace("\x1f", " ")
        raise ValueError(f"a link names {missing}, which is not among the identifiers")
    positions: Ints = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return positions


def _is(column: Any, value: str) -> Flags:
    flags: Flags = pc.equal(column, value).to_numpy().astype(np.bool_)
    return flags


def _micros(column: Any) -> Ints:
    micros: Ints = column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy().astype(np.int64)
    return micros
