"""From links to people: a pure function on Arrow tables (docs/decisions/0004-identity.md).

Who is who depends on what happened when. Links are judged one after another in the order of their event time; of links
of one moment, the strongest goes first: a statement (`merge`, `alias`), then by the priorities of the types. Nothing in
that order depends on when a message was received, so the same messages give the same people however late they came.

A device alone is weak evidence. When a new browser appears on a device that is known already, it may be the owner
after deleting cookies, or somebody else of the family. So that link is judged an hour later; and who signs in on the
browser, then or ever, is believed first: the link is judged after the first sign-in. Until there is one, the device
speaks. And once accounts of different people were seen on a device, it joins no browser any more.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segue.clock import to_warehouse
from segue.identifiers import Rules
from segue.identity.join import Flags, Ints, Links, Nodes, components, join

#: Rules that state in words that two are one; they go before evidence of the same moment.
STATEMENTS = ("merge", "alias")

#: The smallest priority number is 1; statements come before.
_STATED = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Who is who. Rows refer to the tables that were passed."""

    person_ids: pa.Array  # per row of `identifiers`
    component_ids: pa.Array  # the same for identifiers that are linked, directly or through others, refused or not
    merged_from: pa.Array  # the id that went, in the order of the merges
    merged_into: pa.Array  # the id that stayed at that moment; may itself have gone later
    merged_by: Ints  # row of `links`
    refused: Ints  # rows of `links`, in the order in which they were judged
    reasons: tuple[str, ...]  # per refused link; keys of REASONS
    details: tuple[str, ...]


def person_id_of(identifier_type: str, identifier_value: str) -> str:
    """The id of a person whose oldest identifier this is."""
    return "p_" + short_hash(identifier_type, identifier_value)


def short_hash(*parts: str) -> str:
    """16 hexadecimal digits: among 10 million people, two ids collide with a probability of 3 in a million."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def strength(rule: str, left_type: str, right_type: str, rules: Rules) -> tuple[int, int]:
    """Smaller is stronger: of links of one moment, it goes first."""
    if rule in STATEMENTS:
        return _STATED + STATEMENTS.index(rule), 0
    low, high = sorted((rules.of(left_type).priority, rules.of(right_type).priority))
    return low, high


def resolve(
    identifiers: pa.Table, links: pa.Table, *, rules: Rules | None = None, as_of: datetime | None = None
) -> Resolution:
    """Join linked identifiers into people.

    A person's id is made from its oldest identifier, by (first_seen_at, type, value). When two people turn out to be
    one, the older id stays. That is a merge if both had been seen before the link; otherwise one has just grown.

    Args:
        identifiers: identifier_type, identifier_value, first_seen_at (naive UTC); each identifier once.
        links: left_type, left_value, right_type, right_value, rule, first_seen_at; ends are in `identifiers`. With a
            column is_cut: links that somebody has split by hand.
        rules: limits and priorities; None: the shipped ones.
        as_of: aware; links that have to wait until later than this are not judged yet. None: no link waits.

    Raises:
        ValueError: when a link names an identifier that is not in `identifiers`.
    """
    rules = rules or Rules()
    order = pc.sort_indices(
        identifiers, sort_keys=[(c, "ascending") for c in ("first_seen_at", "identifier_type", "identifier_value")]
    ).to_numpy()
    table = identifiers.take(order)
    # From here on an identifier is its place in the order of age: smaller is older.
    types = table["identifier_type"].combine_chunks()
    values = table["identifier_value"].combine_chunks()
    kinds = types.dictionary_encode()
    first = _micros(table["first_seen_at"])
    ends = _positions(_keys(types, values), links)
    left, right = ends[: links.num_rows], ends[links.num_rows :]
    # A link cannot be judged before its ends were seen.
    moment = np.maximum(_micros(links["first_seen_at"]), np.maximum(first[left], first[right]))
    is_cut = np.zeros(links.num_rows, np.bool_)
    if "is_cut" in links.column_names:
        is_cut = links["is_cut"].to_numpy().astype(np.bool_)
    device, is_weak = _devices(links, left, right)
    waits = np.flatnonzero(is_weak & (first[device] < moment))
    if len(waits):
        browser = np.where(device == left, right, left)[waits]
        signed_in = _sign_ins(links, left, right, moment, ~is_cut, len(types))[browser]
        moment[waits] = np.maximum(moment[waits] + rules.device_wait // timedelta(microseconds=1), signed_in)
    rows = _judging_order(links, left, right, moment, rules)
    if as_of is not None:
        rows = rows[moment[rows] <= _micros(pa.array([to_warehouse(as_of)], pa.timestamp("us")))[0]]
    cut, rows = rows[is_cut[rows]], rows[~is_cut[rows]]
    rows = rows[left[rows] != right[rows]]
    nodes = Nodes(kind=kinds.indices.to_numpy().astype(np.int64), kinds=kinds.dictionary.to_pylist(), first=first)
    judged = Links(
        a=left[rows],
        b=right[rows],
        moment=moment[rows],
        rule=links["rule"].take(pa.array(rows)),
        device=device[rows],
        is_weak=is_weak[rows],
    )
    found = join(nodes, judged, rules)
    label = found.label
    oldest = _oldest(label)
    is_whole = len(rows) == links.num_rows and not found.refused
    component = oldest if is_whole else _oldest(components(len(types), left, right))
    # The oldest of a component names a person, and so does whoever stayed until it went.
    ids = _ids(types, values, np.concatenate([oldest, found.gone]))
    own = pa.array(np.argsort(order))

    def of(places: Ints) -> pa.Array:
        return ids.take(pa.array(places))

    return Resolution(
        person_ids=of(oldest).take(own),
        component_ids=of(component).take(own),
        merged_from=of(found.gone),
        merged_into=of(found.stayed),
        merged_by=rows[found.by],
        refused=np.concatenate([cut, rows[np.array([link for link, *_ in found.refused], dtype=np.int64)]]),
        reasons=("split",) * len(cut) + tuple(reason for _, reason, _ in found.refused),
        details=("",) * len(cut) + tuple(detail for *_, detail in found.refused),
    )


def _ids(types: pa.Array, values: pa.Array, places: Ints) -> pa.Array:
    """Ids of the people whom these places name, each made once; null at other places."""
    is_named = np.zeros(len(types), np.bool_)
    is_named[places] = True
    named = np.flatnonzero(is_named)
    pairs = zip(types.take(pa.array(named)).to_pylist(), values.take(pa.array(named)).to_pylist(), strict=True)
    made = pa.array([person_id_of(*pair) for pair in pairs], pa.string())
    return made.take(pa.array(np.cumsum(is_named) - 1, mask=~is_named))


def _oldest(label: Ints) -> Ints:
    """The first node of each node's group."""
    oldest = np.empty(int(label.max(initial=-1)) + 1, np.int64)
    # Of assignments to one place the last holds.
    oldest[label[::-1]] = np.arange(len(label))[::-1]
    found: Ints = oldest[label]
    return found


def _devices(links: pa.Table, left: Ints, right: Ints) -> tuple[Ints, Flags]:
    """The device of each link of the rule `device`, and whether its other end is an anonymous_id."""
    by_device = _is(links["rule"], "device")
    on_left, on_right = (_is(links[f"{side}_type"], "device_id") & by_device for side in ("left", "right"))
    device = np.where(on_left, left, np.where(on_right, right, -1))
    is_anonymous = (on_left & _is(links["right_type"], "anonymous_id")) | (
        on_right & _is(links["left_type"], "anonymous_id")
    )
    return device, is_anonymous


def _sign_ins(links: pa.Table, left: Ints, right: Ints, moment: Ints, is_valid: Flags, count: int) -> Ints:
    """When somebody first signed in on each browser; the earliest time there is where nobody did."""
    never = np.iinfo(np.int64).max
    found = np.full(count, never)
    is_valid = is_valid & ~_is(links["rule"], "merge")  # what a person decides is no sign-in
    for one, other, browser in (("left", "right", left), ("right", "left", right)):
        is_sign_in = is_valid & _is(links[f"{one}_type"], "anonymous_id") & _is(links[f"{other}_type"], "user_id")
        np.minimum.at(found, browser[is_sign_in], moment[is_sign_in])
    found[found == never] = np.iinfo(np.int64).min
    return found


def _judging_order(links: pa.Table, left: Ints, right: Ints, moment: Ints, rules: Rules) -> Ints:
    codes = [links[name].combine_chunks().dictionary_encode() for name in ("rule", "left_type", "right_type")]
    names = [code.dictionary.to_pylist() for code in codes]
    rule, left_kind, right_kind = (code.indices.to_numpy().astype(np.int64) for code in codes)
    priorities = [np.array([rules.of(kind).priority for kind in kinds] or [0]) for kinds in names[1:]]
    one, other = priorities[0][left_kind], priorities[1][right_kind]
    stated = np.array([_STATED + STATEMENTS.index(name) if name in STATEMENTS else 0 for name in names[0]] or [0])[rule]
    low = np.where(stated < 0, stated, np.minimum(one, other))
    high = np.where(stated < 0, 0, np.maximum(one, other))
    by_name = np.argsort(np.argsort(np.array(names[0] or [""])))[rule]
    # The ends' places in the order of age settle the rest.
    order: Ints = np.lexsort(
        (left > right, np.maximum(left, right), np.minimum(left, right), by_name, high, low, moment)
    )
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
