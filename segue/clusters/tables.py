"""The tables of the schema `clusters`, and how they are written."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from segue.clusters.kept import Cluster, Kept
from segue.clusters.life import LifeEvent
from segue.clusters.plane import Cells
from segue.clusters.profiles import Profile
from segue.clusters.vectors import Floats, Ints
from segue.warehouse import Connection

#: The name in `clusters.assignments` of people who lie between all groups.
NO_CLUSTER = "No cluster"

_TABLES = {
    "assignments": "person_id varchar, method varchar, cluster_id integer, cluster_name varchar, distance double, "
    "as_of timestamp",
    "profiles": "method varchar, cluster_id integer, cluster_name varchar, profile varchar, person_count bigint, "
    "share double, features json, as_of timestamp",
    "runs": "method varchar, as_of timestamp, parameters json, criterion varchar, silhouette double, "
    "person_count bigint, left_out_count bigint",
    "decisions": "method varchar, as_of timestamp, decision varchar, agreement double, drift double, "
    "drift_column varchar, far_share double",
    "events": "method varchar, as_of timestamp, event varchar, cluster_id integer, cluster_name varchar, "
    "others json, person_count bigint, explanation varchar",
    "sizes": "method varchar, as_of timestamp, cluster_id integer, cluster_name varchar, person_count bigint",
    "map": "method varchar, as_of timestamp, cluster_id integer, across integer, up integer, person_count bigint",
    "models": "method varchar, as_of timestamp, model varchar",
}


def ensure_tables(con: Connection) -> None:
    """Create the schema `clusters` and its tables where they are missing."""
    con.execute("create schema if not exists clusters")
    for table, columns in _TABLES.items():
        con.execute(f"create table if not exists clusters.{table} ({columns})")


def newest_model(con: Connection, method: str) -> str | None:
    """What the last published clustering left; None when there was none."""
    row = con.execute(
        "select model from clusters.models where method = $1 order by as_of desc limit 1", [method]
    ).fetchone()
    return None if row is None else str(row[0])


def next_id(con: Connection, method: str) -> int:
    """The first cluster id that was never used."""
    row = con.execute(
        "select coalesce(max(cluster_id), -1) + 1 from ("
        " select cluster_id from clusters.events where method = $1"
        " union all select cluster_id from clusters.profiles where method = $1)",
        [method],
    ).fetchone()
    assert row is not None
    return int(row[0])


def last_told(con: Connection, method: str) -> tuple[Cluster, ...]:
    """The clusters that people were last told of."""
    query = "select cluster_id, cluster_name from clusters.profiles where method = $1 order by cluster_id"
    return tuple(
        Cluster(cluster_id=int(i), cluster_name=str(name)) for i, name in con.execute(query, [method]).fetchall()
    )


def write_model(con: Connection, method: str, moment: datetime, kept: Kept) -> None:
    """Keep a published clustering; earlier ones stay, by their time."""
    con.execute("delete from clusters.models where method = $1 and as_of = $2", [method, moment])
    con.execute("insert into clusters.models values ($1, $2, $3)", [method, moment, kept.to_json()])


def write_events(con: Connection, method: str, moment: datetime, events: Sequence[LifeEvent]) -> None:
    """What happened to clusters at a time."""
    con.execute("delete from clusters.events where method = $1 and as_of = $2", [method, moment])
    for e in events:
        con.execute(
            "insert into clusters.events values ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                method, moment, e.event, e.cluster_id, e.cluster_name, json.dumps(e.others), e.person_count,
                e.explanation,
            ],
        )  # fmt: skip


def write_people(
    con: Connection,
    method: str,
    moment: datetime,
    *,
    ids: pa.Array,
    labels: Ints,
    distances: Floats,
    profiles: Sequence[Profile],
) -> None:
    """Who is in which cluster, what each is like, and how large each is: replaces what was known of the method.

    Args:
        ids: person_id of each label.
        labels: places in `profiles`; -1: no cluster.
    """
    con.execute("delete from clusters.assignments where method = $1", [method])
    con.execute("delete from clusters.profiles where method = $1", [method])
    con.execute("delete from clusters.sizes where method = $1 and as_of = $2", [method, moment])
    for p in profiles:
        con.execute(
            "insert into clusters.profiles values ($1, $2, $3, $4, $5, $6, $7, $8)",
            [method, p.cluster_id, p.cluster_name, p.profile, p.person_count, p.share, _json(p), moment],
        )
        con.execute(
            "insert into clusters.sizes values ($1, $2, $3, $4, $5)",
            [method, moment, p.cluster_id, p.cluster_name, p.person_count],
        )
    numbers = np.array([*(p.cluster_id for p in profiles), -1])
    names = pa.array([*(p.cluster_name for p in profiles), NO_CLUSTER], pa.string())
    count = len(labels)
    places = pa.array(np.where(labels < 0, len(profiles), labels), pa.int32())
    con.register(
        "assignments_now",
        pa.table(
            {
                "person_id": ids,
                "method": pa.array([method]).take(pa.array(np.zeros(count, dtype=np.int32))),
                "cluster_id": pa.array(numbers[labels], pa.int32()),
                "cluster_name": names.take(places),
                "distance": pa.array(np.round(distances, 6), from_pandas=True),
                "as_of": pa.array([moment], pa.timestamp("us")).take(pa.array(np.zeros(count, dtype=np.int32))),
            }
        ),
    )
    con.execute("insert into clusters.assignments by name from assignments_now")
    con.unregister("assignments_now")


def write_map(con: Connection, method: str, moment: datetime, cells: Cells, profiles: Sequence[Profile]) -> None:
    """Where the people of each cluster stand in the plane, as counts: replaces what was known of the method."""
    con.execute("delete from clusters.map where method = $1", [method])
    numbers = np.array([*(p.cluster_id for p in profiles), -1])
    con.register(
        "map_now",
        pa.table(
            {
                "cluster_id": pa.array(numbers[cells.label], pa.int32()),
                "across": pa.array(cells.across, pa.int32()),
                "up": pa.array(cells.up, pa.int32()),
                "person_count": pa.array(cells.person_count),
            }
        ),
    )
    con.execute("insert into clusters.map by name select $1 as method, $2 as as_of, * from map_now", [method, moment])
    con.unregister("map_now")


def _json(profile: Profile) -> str:
    return json.dumps([asdict(d) for d in profile.differences])


def write_run(con: Connection, moment: datetime, values: dict[str, Any]) -> None:
    """How a method chose its clusters, and whether they were published; one row of each per method and time."""
    for table in ("runs", "decisions"):
        con.execute(f"delete from clusters.{table} where method = $1 and as_of = $2", [values["method"], moment])
    run = ("method", "parameters", "criterion", "silhouette", "person_count", "left_out_count")
    con.execute(
        "insert into clusters.runs (method, parameters, criterion, silhouette, person_count, left_out_count, as_of)"
        " values ($1, $2, $3, $4, $5, $6, $7)",
        [*(values[name] for name in run), moment],
    )
    decision = ("method", "decision", "agreement", "drift", "drift_column", "far_share")
    con.execute(
        "insert into clusters.decisions (method, decision, agreement, drift, drift_column, far_share, as_of)"
        " values ($1, $2, $3, $4, $5, $6, $7)",
        [*(values[name] for name in decision), moment],
    )
