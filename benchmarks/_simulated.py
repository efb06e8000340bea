"""A simulated shop for the benchmarks of discovery: its events in a warehouse of its own, and the truth about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from segue.events import ingest
from segue.events.simulator import simulate
from segue.models import Project, prepare
from segue.settings import Settings
from segue.warehouse import Connection, Warehouse

UNTIL = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A warehouse with events until `UNTIL`; nothing is built from them."""

    warehouse: Warehouse
    project: Project
    truth: Path


def shop(home: Path, *, people: int, days: int, seed: int) -> Shop:
    """Simulate, and load."""
    report = simulate(home / "history", people=people, days=days, seed=seed, until=UNTIL)
    settings = Settings(home=home, _env_file=None)  # type: ignore[call-arg]
    warehouse = Warehouse(settings)
    ingest(warehouse, [report.events], as_of=UNTIL)
    return Shop(warehouse=warehouse, project=prepare(settings), truth=home / "history" / "truth")


def truth_of(con: Connection, truth: Path) -> Mapping[str, tuple[str, bool]]:
    """person_id → what they were made as, and whether they have stopped coming.

    Args:
        con: with `identity.identifiers`.
    """
    with duckdb.connect(":memory:") as other:
        known = other.execute(
            "select i.identifier_type, i.identifier_value, p.archetype, p.has_churned"
            f" from '{truth}/identifiers.parquet' i join '{truth}/people.parquet' p on p.person = i.person"
            " where not i.is_shared"
        ).to_arrow_table()
    con.register("known", known)
    rows = con.execute(
        "select i.person_id, mode(k.archetype), bool_or(k.has_churned) from identity.identifiers i"
        " join known k using (identifier_type, identifier_value) group by i.person_id"
    ).fetchall()
    con.unregister("known")
    return {person: (archetype, churned) for person, archetype, churned in rows}
