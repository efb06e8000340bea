"""Messages, what staging makes of them, and the rules of identity written once more, plainly and slowly."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from segue.identifiers import Rules
from segue.warehouse import Connection

START = datetime(2026, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1900, 1, 1)
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
            "refused_reason": None,
            "last_load_id": max(received for _, received in when),
            "last_received_at": naive(max(received for _, received in when)),
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
            "last_load_id": max(received for _, received, _ in when),
            "last_received_at": naive(max(received for _, received, _ in when)),
        }
        for (a, b, rule), when in links.items()
    ]
    return pa.Table.from_pylist(identifiers, IDENTIFIERS), pa.Table.from_pylist(rows, LINKS)


_T, _S = pa.timestamp("us"), pa.string()
IDENTIFIERS = pa.schema(
    [
        *[(name, _S) for name in ("identifier_type", "identifier_value")],
        *[(name, _T) for name in ("first_seen_at", "last_seen_at", "first_received_at")],
        ("refused_reason", _S),
        ("last_load_id", pa.int64()),
        ("last_received_at", _T),
    ]
)
LINKS = pa.schema(
    [
        *[(name, _S) for name in ("left_type", "left_value", "right_type", "right_value", "rule")],
        *[(name, _T) for name in ("first_seen_at", "last_seen_at", "first_received_at")],
        ("link_count", pa.int64()),
        ("first_message_id", _S),
        ("last_load_id", pa.int64()),
        ("last_received_at", _T),
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


def plainly(identifiers: pa.Table, links: pa.Table, *, rules: Rules | None = None, as_of: datetime | None = None):
    """The rules of `segue.identity.graph.resolve`, link by link, with sets.

    Returns:
        identifier → the naming identifier; merges as (from, into, link); refused links.
    """
    rules = rules or Rules()
    seen = {(r["identifier_type"], r["identifier_value"]): r["first_seen_at"] for r in identifiers.to_pylist()}
    people = {key: {key} for key in seen}
    age = lambda key: (seen[key], key)  # noqa: E731

    def judged(row: dict) -> tuple:
        ends = [(row["left_type"], row["left_value"]), (row["right_type"], row["right_value"])]
        moment = max(row["first_seen_at"], *(seen[end] for end in ends))
        if is_weak(row) and seen[ends[0]] < moment:
            moment = max(moment + rules.device_wait, signed_in.get(ends[1], EARLIEST))
        low, high = sorted(rules.of(kind).priority for kind, _ in ends)
        if row["rule"] in ("merge", "alias"):
            low, high = (-2 if row["rule"] == "merge" else -1), 0
        # Of two accounts that each say they are the other, the link that names the older one first goes first.
        return moment, low, high, row["rule"], *sorted(map(age, ends)), age(ends[0]) > age(ends[1])

    def is_weak(row: dict) -> bool:
        return row["rule"] == "device" and row["right_type"] == "anonymous_id"

    signed_in: dict[Key, datetime] = {}
    for row in links.to_pylist():
        browser, account = (row["left_type"], row["left_value"]), (row["right_type"], row["right_value"])
        if (browser[0], account[0]) == ("anonymous_id", "user_id") and row["rule"] != "merge":
            moment = max(row["first_seen_at"], seen[browser], seen[account])
            signed_in[browser] = min(moment, signed_in.get(browser, moment))

    def obstacle(a: set[Key], b: set[Key], row: dict, moment: datetime) -> str | None:
        if len(a) + len(b) > rules.largest_person:
            return "too_large"
        for kind in {k for k, _ in a} & {k for k, _ in b}:
            if row["rule"] == "alias" and row["left_type"] == row["right_type"] == kind == "user_id":
                continue
            rule = rules.of(kind)
            since = EARLIEST if rule.window_days is None else moment - timedelta(days=rule.window_days)
            if sum(k == kind and seen[k, v] > since for k, v in a | b) > rule.max_per_person:
                return "limit"
        return None

    def only_accounts(a: set[Key], b: set[Key]) -> bool:
        return all(any(k == "user_id" for k, _ in one) for one in (a, b))

    merges, refused, refusals = [], [], dict.fromkeys(seen, 0)
    for row in sorted(links.to_pylist(), key=judged):
        left, right = (row["left_type"], row["left_value"]), (row["right_type"], row["right_value"])
        moment = judged(row)[0]
        if as_of is not None and moment > as_of.replace(tzinfo=None):
            continue
        a, b = people[left], people[right]
        if a is b:
            continue
        link = (row["left_value"], row["right_value"], row["rule"])
        if is_weak(row) and refusals[left] >= rules.shared_device_users - 1:
            refused.append((*link, "shared_device"))
            continue
        why = None if row["rule"] == "merge" else obstacle(a, b, row, moment)
        if why is not None:
            refused.append((*link, why))
            if why == "limit" and row["rule"] == "device" and only_accounts(a, b):
                refusals[left] += 1
            continue
        older, younger = sorted((min(a, key=age), min(b, key=age)), key=age)
        if seen[older] < moment and seen[younger] < moment:
            merges.append((younger, older, link))
        together = a | b
        people |= dict.fromkeys(together, together)
    return {key: min(members, key=age) for key, members in people.items()}, merges, refused
