"""What does who-is-who cost? A full build, an addition to it, and a look-up in the engine.

Links are made by numpy: people with a few browsers, an account for most, some devices; a thousandth of the devices is
shared. The full build judges all of them with the guards (`segue.identity.join`, arrays in, labels out), against
scipy's `connected_components` on the same arrays and against label propagation in DuckDB's SQL, which is what a
warehouse without a graph library does. Then the tables: `stitch` from nothing, and again after 1 % more links came.

    python -m benchmarks.identity_cost [--quick] [--links N]
"""

import argparse
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks._report import report
from segue.identifiers import Rules
from segue.identity import stitch
from segue.identity.join import Links, Nodes, join
from segue.models.check import empty_lake
from segue.realtime.people import People

START = datetime(2026, 1, 1, tzinfo=UTC)
_KINDS = ["user_id", "anonymous_id", "device_id"]
_DAYS = 100
#: In turns; the medians are compared.
_ROUNDS = 5
_SEEN = datetime(2026, 1, 1)  # noqa: DTZ001 — naive UTC, as in the warehouse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 thousand links")
    parser.add_argument("--links", type=int)
    options = parser.parse_args()
    count = options.links or (200_000 if options.quick else 5_000_000)
    nodes, left, right, moment = _world(count, seed=1)
    links = len(left)
    print(f"{links:,} links of {len(nodes.first):,} identifiers", flush=True)

    size = (len(nodes.first),) * 2
    rules = Rules()
    none = np.full(links, -1, np.int64)
    rule = pa.array(np.zeros(links, np.int8)).cast(pa.string())
    ours = Links(a=left, b=right, moment=moment, rule=rule, device=none, is_weak=none > 0)
    theirs, own = [], []
    for _ in range(_ROUNDS):
        seconds, _found = _timed(
            lambda: connected_components(
                coo_array((np.ones(links, np.int8), (left, right)), shape=size), directed=False
            )
        )
        theirs.append(seconds)
        seconds, found = _timed(lambda: join(nodes, ours, rules))
        own.append(seconds)
    scipy_seconds, ours_seconds = median(theirs), median(own)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"  scipy's components   {scipy_seconds:8.2f} s")
    print(f"  full build, guarded  {ours_seconds:8.2f} s: {len(np.unique(found.label)):,} people, {len(found.by):,} "
          f"merges, {len(found.refused):,} refused; peak {peak:.1f} GB of memory", flush=True)  # fmt: skip
    sql_seconds, rounds = _timed(lambda: _label_propagation(len(nodes.first), left, right))
    print(f"  label propagation    {sql_seconds:8.2f} s in DuckDB, {rounds} rounds", flush=True)

    full_seconds, add_seconds = _tables(count, rules)
    lookup = _lookup()
    print(f"  a person is looked up in the engine in {lookup:.2f} µs")
    checks = {
        "full build at most 2x scipy's components": ours_seconds <= 2 * scipy_seconds,
        "at least 5x faster than label propagation in SQL": sql_seconds >= 5 * ours_seconds,
        "adding 1 % at least 20x cheaper than the full build": full_seconds >= 20 * add_seconds,
        "a look-up takes microseconds": lookup < 10,
    }
    for name, holds in checks.items():
        print(f"  {'holds ' if holds else 'MISSED'} {name}")
    report(
        "identity_cost",
        figure=ours_seconds / scipy_seconds,
        unit="full build, in times of scipy's connected_components",
        against=f"scipy {scipy_seconds:.2f} s; SQL label propagation {sql_seconds:.2f} s",
        goal="<= 2x scipy, >= 5x faster than SQL, additions >= 20x cheaper, look-up in microseconds",
        holds=all(checks.values()),
        links=links,
        build_seconds=round(ours_seconds, 2),
        peak_gb=round(peak, 2),
        sql_ratio=round(sql_seconds / ours_seconds, 2),
        tables_full_seconds=round(full_seconds, 2),
        tables_add_seconds=round(add_seconds, 2),
        add_ratio=round(full_seconds / add_seconds, 1),
        lookup_microseconds=round(lookup, 2),
        checks=checks,
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def _world(count: int, *, seed: int) -> tuple[Nodes, np.ndarray, np.ndarray, np.ndarray]:
    """Identifiers in the order of age; links of a browser or a device and an account, in the order of moments."""
    rng = np.random.default_rng(seed)
    people = count // 3
    users = np.arange(people)
    browser_owner = rng.integers(0, people, 2 * people)
    device_owner = rng.integers(0, people, people)
    # Each browser is seen with its owner's account, each device too; a third of the browsers on one of the devices.
    shared = rng.random(people) < 0.001
    device_user = np.where(shared, rng.integers(0, people, people), device_owner)
    one = [people + np.arange(2 * people), 3 * people + np.arange(people), 3 * people + np.flatnonzero(shared)]
    other = [browser_owner, device_owner, device_user[shared]]
    left, right = np.concatenate(one), np.concatenate(other)
    kind = np.repeat([0, 1, 2], [people, 2 * people, people])
    span = _DAYS * 86_400_000_000
    moment = rng.integers(0, span, len(left))
    first = np.full(4 * people, span, np.int64)
    np.minimum.at(first, left, moment)
    np.minimum.at(first, right, moment)
    # Half of the browsers were there before anybody signed in.
    early = rng.random(2 * people) < 0.5
    first[people : 3 * people][early] = (first[people : 3 * people][early] * rng.random(early.sum())).astype(np.int64)
    order = np.argsort(first, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    by_moment = np.argsort(moment, kind="stable")
    assert len(users) == people
    nodes = Nodes(kind=kind[order], kinds=_KINDS, first=first[order])
    return nodes, place[left][by_moment], place[right][by_moment], moment[by_moment]


def _label_propagation(count: int, left: np.ndarray, right: np.ndarray) -> int:
    with duckdb.connect(":memory:") as con:
        con.register("l", pa.table({"a": left, "b": right}))
        con.execute("create table links as select a, b from l union all select b, a from l")
        con.execute("create table labels as select range as node, range as label from range($1)", [count])
        for rounds in range(1, 100):
            con.execute(
                "create or replace table next as select n.node, least(n.label, coalesce(m.label, n.label)) as label"
                " from labels n left join (select links.a as node, min(labels.label) as label from links"
                " join labels on labels.node = links.b group by 1) m using (node)"
            )
            row = con.execute(
                "select count(*) from labels join next using (node) where labels.label <> next.label"
            ).fetchone()
            con.execute("drop table labels; alter table next rename to labels")
            if row is None or row[0] == 0:
                return rounds
    return rounds


def _tables(count: int, rules: Rules) -> tuple[float, float]:
    """Seconds of `stitch` from nothing, and after 1 % more links came."""
    con = empty_lake()
    con.execute("create schema staging; create schema src")
    people = count // 3
    con.execute(
        """
        create table src.events as
        select range as n, (hash(range) % $1)::bigint as p,
            timestamp '2026-01-01' + to_minutes(range * 140000 // $2) as seen
        from range($2)
        """,
        [people, count],
    )
    con.execute(
        """
        create table src.links as
        select 'anonymous_id' as left_type, 'a' || n as left_value, 'user_id' as right_type, 'u' || p as right_value,
            'same_message' as rule, seen as first_seen_at, seen as last_seen_at, seen as first_received_at,
            1::bigint as link_count, 'm' || n as first_message_id, seen as last_received_at, n as last_load_id
        from src.events
        """
    )
    bounds = (count - count // 100, count)
    seconds = []
    for bound in bounds:
        con.execute(f"create or replace table staging.stg_links as from src.links where last_load_id < {bound}")
        con.execute(
            """
            create or replace table staging.stg_identifiers as
            select identifier_type, identifier_value, null::varchar as refused_reason, min(seen) as first_seen_at,
                max(seen) as last_seen_at, min(seen) as first_received_at, max(seen) as last_received_at,
                max(load) as last_load_id
            from (
                select left_type as identifier_type, left_value as identifier_value, first_seen_at as seen,
                    last_load_id as load from staging.stg_links
                union all select right_type, right_value, first_seen_at, last_load_id from staging.stg_links
            ) group by all
            """
        )
        as_of = START + timedelta(minutes=bound * 140000 // count)
        con.execute("begin")
        elapsed, found = _timed(lambda as_of=as_of: stitch(con, as_of=as_of, rules=rules))
        con.execute("commit")
        seconds.append(elapsed)
        print(
            f"  tables: {found.judged_count:,} links judged, {found.written_count:,} rows written, {elapsed:.2f} s",
            flush=True,
        )
    con.close()
    return seconds[0], seconds[1]


def _lookup() -> float:
    """Microseconds from an identifier to the id of its person, among 200,000."""
    people = People(Rules())
    rows = []
    for n in range(100_000):
        seen = {"first_seen_at": _SEEN, "last_seen_at": _SEEN, "refused_reason": None}
        rows += [
            {"identifier_type": kind, "identifier_value": f"{kind}{n}"} | seen for kind in ("user_id", "anonymous_id")
        ]
    links = [
        {"left_type": "anonymous_id", "left_value": f"anonymous_id{n}", "right_type": "user_id",
         "right_value": f"user_id{n}", "rule": "same_message", "first_seen_at": _SEEN}
        for n in range(100_000)
    ]  # fmt: skip
    people.resolve(people.learn(rows, links), START + timedelta(days=1))
    keys = [("user_id", f"user_id{n}") for n in np.random.default_rng(1).integers(0, 100_000, 50_000).tolist()]
    for key in keys:
        people.person(people.known(key))
    elapsed, _ = _timed(lambda: [people.person(people.known(key)) for key in keys])
    return elapsed / len(keys) * 1e6


if __name__ == "__main__":
    main()
