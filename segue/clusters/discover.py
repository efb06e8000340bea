"""Discovery: read the features, find groups in two ways, write what was found."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segue.clock import to_warehouse
from segue.clusters.features import Feature, choose
from segue.clusters.methods import Candidate, Found, hdbscan, kmeans
from segue.clusters.profiles import Profile, by_size, profiles
from segue.clusters.vectors import Ints, Vectors, vectors
from segue.errors import WarehouseError
from segue.warehouse import Connection

#: With fewer people a cluster is an anecdote.
FEWEST_PEOPLE = 20

#: Events from which on a person's behaviour can be compared.
MIN_EVENTS = 5

#: The name in `clusters.assignments` of people who lie between all groups.
NO_CLUSTER = "No cluster"

_TABLES = {
    "assignments": "person_id varchar, method varchar, cluster_id integer, cluster_name varchar, distance double, "
    "as_of timestamp",
    "profiles": "method varchar, cluster_id integer, cluster_name varchar, profile varchar, person_count bigint, "
    "share double, features json, as_of timestamp",
    "runs": "method varchar, as_of timestamp, parameters json, criterion varchar, silhouette double, "
    "person_count bigint, left_out_count bigint",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodReport:
    """What one method found."""

    method: str  # kmeans or hdbscan
    cluster_count: int
    silhouette: float | None  # None when there are no clusters
    criterion: str  # how the number of clusters was chosen, or why there are none
    person_count: int  # compared
    left_out_count: int  # too little activity, or in no cluster
    profiles: tuple[Profile, ...]  # largest first
    candidates: tuple[Candidate, ...] = ()  # K-Means: what was tried
    labels: Ints = field(repr=False)  # per person compared; -1 is no cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport:
    """What a discovery found and wrote."""

    as_of: datetime
    person_count: int  # people compared
    left_out_count: int  # people with too little activity to be compared
    feature_count: int
    note: str  # why there are no clusters; empty when there are
    methods: tuple[MethodReport, ...]
    people: Vectors = field(repr=False)

    def method(self, name: str) -> MethodReport:
        """The report of `kmeans` or `hdbscan`."""
        return next(m for m in self.methods if m.method == name)


def ensure_tables(con: Connection) -> None:
    """Create the schema `clusters` and its tables where they are missing."""
    con.execute("create schema if not exists clusters")
    for table, columns in _TABLES.items():
        con.execute(f"create table if not exists clusters.{table} ({columns})")


def discover(
    con: Connection,
    *,
    as_of: datetime,
    seed: int = 0,
    features: Sequence[Feature] = (),
    min_events: int = MIN_EVENTS,
) -> ClusterReport:
    """Find groups of people who behave alike, by K-Means and by HDBSCAN. To be called inside a transaction.

    The number of clusters is chosen by stability under resampling first and the silhouette second; see
    `segue.clusters.methods.kmeans`. How columns are scaled: `segue.clusters.vectors.vectors`.

    `clusters.assignments` and `clusters.profiles` hold the newest discovery; `clusters.runs` keeps one row per method
    and as_of. The same features and seed give the same rows.

    Args:
        con: a connection on which the warehouse is the default catalog, with marts.person_features.
        as_of: the time that the features are of.
        seed: of everything random.
        features: which columns are compared (`features_of`); none: those that Segue ships.
        min_events: people with a smaller event_count are left apart, where that column exists.

    Raises:
        WarehouseError: when marts.person_features has not been built.
        DefinitionError: when a feature's column does not exist or holds no numbers.
    """
    ensure_tables(con)
    ids, people, left_out = _read(con, features, min_events)
    note = _why_none(people, min_events)
    if note:
        nobody = np.full(len(ids), -1, dtype=np.int64)
        none = Found(
            labels=nobody,
            distances=np.full(len(ids), np.nan),
            silhouette=None,
            criterion=note,
            parameters={"seed": seed},
        )
        found = {"kmeans": none, "hdbscan": none}
    else:
        # One thread: sums in the same order every time, so the same clusters to the last digit.
        with threadpool_limits(1):
            found = {"kmeans": kmeans(people.matrix, seed=seed), "hdbscan": hdbscan(people.matrix, seed=seed)}
    reports = []
    for name, result in found.items():
        labels = by_size(result.labels)
        told = profiles(people, labels) if not note else ()
        reports.append(
            MethodReport(
                method=name,
                cluster_count=len(told),
                silhouette=result.silhouette,
                criterion=result.criterion,
                person_count=len(ids),
                left_out_count=left_out + int((labels < 0).sum()),
                profiles=told,
                candidates=result.candidates,
                labels=labels,
            )
        )
    report = ClusterReport(
        as_of=as_of,
        person_count=len(ids),
        left_out_count=left_out,
        feature_count=len(people.features),
        note=note,
        methods=tuple(reports),
        people=people,
    )
    _write(con, report, found, ids, min_events)
    return report


def _why_none(people: Vectors, min_events: int) -> str:
    count = len(people.raw)
    if count < FEWEST_PEOPLE:
        return f"too few people to compare: {count} with at least {min_events} events, and {FEWEST_PEOPLE} are needed"
    if len(np.unique(people.matrix, axis=0)) < 2:
        return f"all {count} people are the same in every feature"
    return ""


def _read(con: Connection, wanted: Sequence[Feature], min_events: int) -> tuple[list[str], Vectors, int]:
    """People in the order of their ids, their vectors, and how many had too little activity."""
    try:
        described = con.execute("describe marts.person_features").fetchall()
    except duckdb.CatalogException:
        raise WarehouseError("marts.person_features has not been built", fix="`segue refresh` builds it") from None
    columns = {row[0]: row[1] for row in described}
    features = choose(columns, wanted)
    quoted = ['"' + f.column.replace('"', '""') + '"' for f in features]
    casts = "".join(f", {q}::double as f{n}" for n, q in enumerate(quoted))
    enough = f"coalesce(event_count, 0) >= {int(min_events)}" if "event_count" in columns else "true"
    table = con.execute(
        f"select person_id{casts} from marts.person_features where {enough} order by person_id"
    ).to_arrow_table()
    everybody = con.execute("select count(*) from marts.person_features").fetchone()
    assert everybody is not None
    raw = np.empty((table.num_rows, len(features)))
    for n in range(len(features)):
        raw[:, n] = table[f"f{n}"].to_numpy()
    return table["person_id"].to_pylist(), vectors(raw, features), everybody[0] - table.num_rows


def _write(con: Connection, report: ClusterReport, found: dict[str, Found], ids: list[str], min_events: int) -> None:
    moment = to_warehouse(report.as_of)
    for table in ("assignments", "profiles"):
        con.execute(f"delete from clusters.{table}")
    con.execute("delete from clusters.runs where as_of = $1", [moment])
    columns = [f.column for f in report.people.features]
    for one in report.methods:
        result = found[one.method]
        parameters = {
            **result.parameters,
            "min_events": min_events,
            "features": columns,
            "logged": [d.feature.column for d in report.people.dimensions if d.is_logged],
            "candidates": [asdict(c) for c in one.candidates],
        }
        con.execute(
            "insert into clusters.runs values ($1, $2, $3, $4, $5, $6, $7)",
            [
                one.method,
                moment,
                json.dumps(parameters),
                one.criterion,
                one.silhouette,
                one.person_count,
                one.left_out_count,
            ],
        )
        for p in one.profiles:
            con.execute(
                "insert into clusters.profiles values ($1, $2, $3, $4, $5, $6, $7, $8)",
                [one.method, p.cluster_id, p.cluster_name, p.profile, p.person_count, p.share, _json(p), moment],
            )
        if one.profiles:
            con.register("assignments_now", _assignments(one, result, ids, moment))
            con.execute("insert into clusters.assignments by name from assignments_now")
            con.unregister("assignments_now")


def _assignments(report: MethodReport, found: Found, ids: list[str], moment: datetime) -> Any:
    names = np.array([*(p.cluster_name for p in report.profiles), NO_CLUSTER], dtype=object)
    return pa.table(
        {
            "person_id": pa.array(ids, pa.string()),
            "method": pa.array([report.method] * len(ids), pa.string()),
            "cluster_id": pa.array(report.labels, pa.int32()),
            "cluster_name": pa.array(names[report.labels], pa.string()),
            "distance": pa.array(np.round(found.distances, 6), from_pandas=True),
            "as_of": pa.array([moment] * len(ids), pa.timestamp("us")),
        }
    )


def _json(profile: Profile) -> str:
    return json.dumps([asdict(d) for d in profile.differences])
