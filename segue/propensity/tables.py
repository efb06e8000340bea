"""The tables of the schema `propensity`: versions, and which of them is in force since when."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import duckdb

from segue.clock import from_warehouse, to_warehouse
from segue.errors import BadInputError
from segue.propensity.declarations import Propensity
from segue.propensity.train import Trained, code_version
from segue.scoring import Population
from segue.warehouse import Connection

_TABLES = {
    "published": "name varchar, version varchar, model_file varchar, published_at timestamp, reason varchar",
    "versions": "name varchar, version varchar, as_of timestamp, status varchar, reason varchar, seed bigint, "
    "code_version varchar, declaration json, features json, data_hash varchar, first_cutoff timestamp, "
    "last_cutoff timestamp, row_count bigint, positive_count bigint, metrics json, model_file varchar",
    "drift": 'name varchar, version varchar, as_of timestamp, "column" varchar, stability_index double',
    "next_changes": "cohort varchar, from_segment varchar, to_segment varchar, horizon_days bigint, "
    "stay_count bigint, changed_count bigint, probability double, as_of timestamp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A model that was trained, or why there was none to train."""

    name: str
    version: str | None
    as_of: datetime  # aware
    status: str  # published, challenger, refused
    reason: str
    seed: int
    fingerprint: str  # of the declaration
    data_hash: str | None
    populations: Mapping[str, Population]
    metrics: Mapping[str, Any] | None
    model_file: str | None


def ensure_tables(con: Connection) -> None:
    """Create the schema `propensity` and its tables where they are missing."""
    con.execute("create schema if not exists propensity")
    for table, columns in _TABLES.items():
        con.execute(f"create table if not exists propensity.{table} ({columns})")


def versions(con: Connection, name: str | None = None) -> tuple[Version, ...]:
    """Every version, newest first."""
    try:
        rows = con.execute(
            "select name, version, as_of, status, reason, seed, declaration, data_hash, features, metrics, model_file"
            " from propensity.versions where $1 is null or name = $1 order by as_of desc, name",
            [name],
        ).fetchall()
    except duckdb.CatalogException:
        return ()
    return tuple(
        Version(
            name=row[0],
            version=row[1],
            as_of=from_warehouse(row[2]),
            status=row[3],
            reason=row[4],
            seed=row[5],
            fingerprint=json.loads(row[6])["fingerprint"],
            data_hash=row[7],
            populations={
                f: Population(edges=tuple(p["edges"]), shares=tuple(p["shares"]), count=p["count"])
                for f, p in json.loads(row[8] or "{}").items()
            },
            metrics=json.loads(row[9]) if row[9] else None,
            model_file=row[10],
        )
        for row in rows
    )


def in_force(con: Connection, name: str, *, as_of: datetime | None = None) -> tuple[str, str] | None:
    """Version and file of the model in force; None when there is none."""
    try:
        row = con.execute(
            "select version, model_file from propensity.published"
            " where name = $1 and ($2 is null or published_at <= $2) order by published_at desc limit 1",
            [name, to_warehouse(as_of) if as_of is not None else None],
        ).fetchone()
    except duckdb.CatalogException:
        return None
    return None if row is None or row[1] is None else (str(row[0]), str(row[1]))


def withdrawn(con: Connection, name: str, *, as_of: datetime | None = None) -> str | None:
    """Why the model was withdrawn; None when one is in force or none ever was."""
    try:
        row = con.execute(
            "select version, reason from propensity.published"
            " where name = $1 and ($2 is null or published_at <= $2) order by published_at desc limit 1",
            [name, to_warehouse(as_of) if as_of is not None else None],
        ).fetchone()
    except duckdb.CatalogException:
        return None
    return None if row is None or row[0] is not None else str(row[1])


def write_version(
    con: Connection,
    propensity: Propensity,
    trained: Trained,
    *,
    as_of: datetime,
    seed: int,
    status: str,
    reason: str,
    populations: Mapping[str, Population],
    model_file: str | None,
) -> None:
    """Note what training came to; the same version at the same time is one row."""
    con.execute(
        "delete from propensity.versions where name = $1 and as_of = $2", [propensity.name, to_warehouse(as_of)]
    )
    cutoffs = [to_warehouse(t) for t in trained.examples.cutoffs]
    row: dict[str, Any] = {
        "name": propensity.name,
        "version": trained.scorer.version if trained.scorer is not None else None,
        "as_of": to_warehouse(as_of),
        "status": status,
        "reason": reason,
        "seed": seed,
        "code_version": code_version(),
        "declaration": json.dumps(
            {
                "fingerprint": propensity.fingerprint,
                "description": propensity.description,
                "score": propensity.score,
                "features": propensity.features,
                "horizon_days": propensity.horizon_days,
                "margin": propensity.margin,
            }
        ),
        "features": json.dumps({name: asdict(p) for name, p in populations.items()}),
        "data_hash": trained.examples.data_hash,
        "first_cutoff": cutoffs[0] if cutoffs else None,
        "last_cutoff": cutoffs[-1] if cutoffs else None,
        "row_count": len(trained.examples.labels),
        "positive_count": int(trained.examples.labels.sum()),
        "metrics": trained.backtest.to_json() if trained.backtest is not None else None,
        "model_file": model_file,
    }
    listed, places = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))
    con.execute(f"insert into propensity.versions ({listed}) values ({places})", list(row.values()))


def publish(
    con: Connection, name: str, *, version: str | None, model_file: str | None, as_of: datetime, reason: str
) -> None:
    """Put a version in force from a time on; None: no model is in force from then on."""
    con.execute("delete from propensity.published where name = $1 and published_at = $2", [name, to_warehouse(as_of)])
    con.execute(
        "insert into propensity.published (name, version, model_file, published_at, reason)"
        " values ($1, $2, $3, $4, $5)",
        [name, version, model_file, to_warehouse(as_of), reason],
    )


def withdraw(con: Connection, name: str, *, as_of: datetime, reason: str) -> str:
    """Take the model out of force, so that nobody has the score. To be called inside a transaction.

    It stays so: later trainings are challengers until `rollback` puts a version in force.

    Returns:
        The version that was in force.

    Raises:
        BadInputError: when no model is in force.
    """
    ensure_tables(con)
    present = in_force(con, name)
    if present is None:
        raise BadInputError(f"no model of {name} is in force", fix="`segue propensity list` says why")
    publish(con, name, version=None, model_file=None, as_of=as_of, reason=reason)
    return present[0]


def rollback(con: Connection, name: str, *, to: str | None, as_of: datetime) -> str:
    """Put an earlier version in force again. To be called inside a transaction.

    Args:
        to: the version; None: the one that was in force before the present one.

    Returns:
        The version that is in force now.

    Raises:
        BadInputError: when there is no such version, or none before.
    """
    ensure_tables(con)
    rows = con.execute(
        "select version, model_file from propensity.published where name = $1 and model_file is not null"
        " order by published_at desc",
        [name],
    ).fetchall()
    rows += con.execute(
        "select version, model_file from propensity.versions where name = $1 and model_file is not null"
        " and $2 is not null order by as_of desc",
        [name, to],
    ).fetchall()
    present = in_force(con, name)
    found = next(((v, f) for v, f in rows if (v == to if to is not None else present is None or v != present[0])), None)
    if found is None:
        raise BadInputError(
            f"{name} has no version {to}" if to is not None else f"{name} has no earlier version to go back to",
            fix=f"`segue propensity versions {name}` lists them",
        )
    publish(con, name, version=found[0], model_file=found[1], as_of=as_of, reason="rolled back by hand")
    return str(found[0])
