"""Messages, what staging makes of them, and the rules of identity written once more, plainly and slowly."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from segue.warehouse import Connection

START = datetime(2026, 1, 1, tzinfo=UTC)
Key = tuple[str, str]


def at(minutes: int) -> datetime:
    """So many minutes times 20 after the start of the test's world; aware. So a device waits for three."""
    return START + timedelta(minutes=20 * minutes)


def naive(minutes: int) -> datetime:
    return at(minutes).replace(tzinfo=None)


@dataclass(frozen=True)
class Message:
    """What identity needs of one message."""

    received: int
    user: str | None = None
    anonymous: str | None = None
    device: str | None = None
    email: str | None = None
    previous: str | None = None  # an alias message of an anonymous id
    account: str | None = None  # an alias message of another user_id
    late: int = 0  # minutes between its happening and its arrival

    def identifiers(self) -> list[Key]:
        pairs = {"user_id": self.user, "anonymous_id": self.anonymous, "device_id": self.device, "email": self.email}
        found = [(kind, value) for kind, value in pairs.items() if value is not None]
        found += [("anonymous_id", self.previous)] if self.previous else []
        return found + ([("user_id", self.account)] if self.account else [])

    def links(self) -> list[tuple[Key, Key, str]]:
        user, anonymous = ("user_id", self.user), ("anonymous_id", self.anonymous)
        device, email = ("device_id", self.device), ("email", self.email)
        pairs = [
            (anonymous, user, "same_message"),
            (device, user, "device"),
            (device, anonymous, "device"),
            (email, user if self.user else anonymous, "email"),
            (("anonymous_id", self.previous), user, "alias"),
            (("user_id", self.account), user, "alias"),
        ]
        return [(a, b, rule) for a, b, rule in pairs if a[1] is not None and b[1] is not None and a != b]


def staged(messages: Iterable[Message], when_is: Callable[[int], datetime] | None = None) -> tuple[pa.Table, pa.Table]:
    """What staging.stg_identifiers and staging.stg_links hold after these messages.

    Args:
        when_is: naive UTC from the numbers in the messages; None: as in `at`.
    """
    naive = when_is or globals()["naive"]
    times: dict[Key, list[tuple[int, int]]] = {}
    links: dict[tuple[Key, Key, str], list[tuple[int, int, str]]] = {}
    for number, m in enumerate(messages):
        for key in m.identifiers():
            times.setdefault(key, []).append((m.received - m.late, m.received))
        for link in m.links():
            links.setdefault(link, []).append((m.received - m.late, m.received, f"m{number}"))
    identifiers = [
        {
            "identifier_type": kind,
            "identifier_value": value,
            "first_seen_at": naive(min(seen for seen, _ in when)),
            "last_seen_at": naive(max(seen for seen, _ in when)),
            "first_received_at": naive(min(received for _, received in when)),
        }
        for (kind, value), when in times.items()
    ]
    rows = [
        {
            "left_type": a[0],
            "left_value": a[1],
            "right_type": b[0],
            "right_value": b[1],
            "rule": rule,
            "first_seen_at": naive(min(seen for seen, _, _ in when)),
            "last_seen_at": naive(max(seen for seen, _, _ in when)),
            "first_received_at": naive(min(received for _, received, _ in when)),
            "link_count": len(when),
            "first_message_id": min(when)[2],
        }
        for (a, b, rule), when in links.items()
    ]
    return pa.Table.from_pylist(identifiers, IDENTIFIERS), pa.Table.from_pylist(rows, LINKS)


_T, _S = pa.timestamp("us"), pa.string()
IDENTIFIERS = pa.schema(
    [
        *[(name, _S) for name in ("identifier_type", "identifier_value")],
        *[(name, _T) for name in ("first_seen_at", "last_seen_at", "first_received_at")],
    ]
)
LINKS = pa.schema(
    [
        *[(name, _S) for name in ("left_type", "left_value", "right_type", "right_value", "rule")],
        *[(name, _T) for name in ("first_seen_at", "last_seen_at", "first_received_at")],
        ("link_count", pa.int64()),
        ("first_message_id", _S),
    ]
)


def stage(con: Connection, messages: Sequence[Message], *, until: int | None = None) -> None:
    """Write the staging tables, as dbt would after a load."""
    tables = staged(m for m in messages if until is None or m.received <= until)
    con.execute("create schema if not exists staging")
    for name, table in zip(("stg_identifiers", "stg_links"), tables, strict=True):
        con.register("arriving", table)
        con.execute(f"create or replace table staging.{name} as from arriving")
        con.unregister("arriving")


@dataclass
class Component:
    """A person, plainly."""

    members: set[Key]
    since: datetime
    name: tuple[int, datetime, Key]  # 0 if published; age of the naming identifier; that identifier
    published: str | None


def plainly(
    identifiers: pa.Table, links: pa.Table, previous: dict[Key, str] | None = None, *, as_of: datetime | None = None
):
    """The rules of `segue.identity.graph.resolve`, link by link, with sets.

    Returns:
        identifier → the published id or the naming identifier; merges as (from, into, link); refused links.
    """
    previous = previous or {}
    age = {(r["identifier_type"], r["identifier_value"]): r["first_received_at"] for r in identifiers.to_pylist()}
    components: dict[Key, Component] = {}
    by_id: dict[str, list[Key]] = {}
    for key in age:
        by_id.setdefault(previous.get(key, repr(key)), []).append(key)
    for members in by_id.values():
        oldest = min(members, key=lambda k: (age[k], k))
        published = previous.get(oldest)
        one = Component(set(members), age[oldest], (0 if published else 1, age[oldest], oldest), published)
        components |= dict.fromkeys(members, one)

    def is_weak(row: dict) -> bool:
        return row["rule"] == "device" and row["right_type"] == "anonymous_id"

    def order(row: dict) -> tuple:
        ends = [(row["left_type"], row["left_value"]), (row["right_type"], row["right_value"])]
        ends.sort(key=lambda k: (age[k], k))
        rules = ["alias", "same_message", "email", "device"]
        strength = 0 if row["rule"] == "alias" else 1 if any(kind == "user_id" for kind, _ in ends) else 2
        known_at = max(row["first_received_at"], *(age[end] for end in ends))
        if is_weak(row) and age[row["left_type"], row["left_value"]] < known_at:
            known_at += timedelta(hours=1)
        return known_at, strength, rules.index(row["rule"]), *((age[end], end) for end in ends)

    merges, refused = [], []
    shared = set()
    for row in sorted(links.to_pylist(), key=order):
        if as_of is not None and order(row)[0] > as_of.replace(tzinfo=None):
            continue
        a, b = components[row["left_type"], row["left_value"]], components[row["right_type"], row["right_value"]]
        if a is b:
            continue
        link = (row["left_value"], row["right_value"], row["rule"])
        users = [any(kind == "user_id" for kind, _ in c.members) for c in (a, b)]
        is_stated = row["rule"] == "alias" and row["left_type"] == row["right_type"] == "user_id"
        if all(users) and not is_stated:
            refused.append((*link, "different_user_ids"))
            if row["rule"] == "device":
                shared.add(row["left_value"])
            continue
        if is_weak(row) and row["left_value"] in shared:
            refused.append((*link, "shared_device"))
            continue
        winner, loser = sorted((a, b), key=lambda c: c.name)
        moment = order(row)[0]
        if all(c.published or c.since < moment for c in (a, b)):
            merges.append((loser.published or loser.name[2], winner.published or winner.name[2], link))
        joined = Component(a.members | b.members, min(a.since, b.since), winner.name, winner.published)
        components |= dict.fromkeys(joined.members, joined)
    return {key: c.published or c.name[2] for key, c in components.items()}, merges, refused
