"""Links judged one by one: the part that cannot be done for all at once, since each verdict depends on those before."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What became of the links."""

    root: list[int]  # per node: one node of its component
    merges: list[tuple[int, int, int]]  # name rank that went, name rank that stayed, position of the link
    refused: list[tuple[int, str]]  # position of the link, reason


def walk(
    left: Sequence[int],
    right: Sequence[int],
    *,
    known_at: Sequence[int],
    is_stated: Sequence[bool],
    device: Sequence[int],
    is_weak: Sequence[bool],
    received: Sequence[int],
    has_user: Sequence[bool],
    is_published: Sequence[bool],
    name_rank: Sequence[int],
) -> Walk:
    """Join nodes along the links, in the given order, with the guard.

    Args:
        left, right, known_at, is_stated: per link: its ends, when it became known, whether it may join user_ids.
        device, is_weak: per link: the device that it comes from (-1: none), and whether the other end is an
            anonymous_id, so that a shared device proves nothing.
        received, has_user, is_published, name_rank: per node: when it became known, whether a user_id is in it,
            whether its name has been published, and the rank of that name (the lowest of a component names it).
    """
    parent = list(range(len(received)))
    size = [1] * len(received)
    # Of a component; kept at its root.
    since, users, published, name = list(received), list(has_user), list(is_published), list(name_rank)
    merges: list[tuple[int, int, int]] = []
    refused: list[tuple[int, str]] = []
    shared: set[int] = set()
    for link, (a, b) in enumerate(zip(left, right, strict=True)):
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a == b:
            continue
        if users[a] and users[b] and not is_stated[link]:
            refused.append((link, "different_user_ids"))
            shared.add(device[link])
            continue
        if is_weak[link] and device[link] in shared:
            refused.append((link, "shared_device"))
            continue
        moment = known_at[link]
        if (published[a] or since[a] < moment) and (published[b] or since[b] < moment):
            merges.append((max(name[a], name[b]), min(name[a], name[b]), link))
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        since[a] = min(since[a], since[b])
        users[a] = users[a] or users[b]
        published[a] = published[a] or published[b]
        name[a] = min(name[a], name[b])
    for node in range(len(parent)):
        root = node
        while parent[root] != root:
            root = parent[root]
        parent[node] = root
    return Walk(root=parent, merges=merges, refused=refused)
