"""What the check knows of Segue's own tables is what their rooms create."""

import importlib

import pytest

from segue.models.check import empty_lake
from segue.models.tables import TABLES, create_empty

ROOMS = ("events", "identity", "segments", "clusters", "propensity")


@pytest.mark.parametrize("room", ROOMS)
def test_the_tables_of_a_room_are_known_with_every_column_and_type(room: str) -> None:
    con = empty_lake()
    importlib.import_module(f"segue.{room}").ensure_tables(con)
    query = "select table_schema || '.' || table_name, column_name, data_type from information_schema.columns"
    made: dict[str, dict[str, str]] = {}
    for relation, column, kind in con.execute(f"{query} where table_catalog = 'lake'").fetchall():
        made.setdefault(relation, {})[column] = kind
    other = empty_lake()
    for relation in made:
        assert relation in TABLES, f"{relation} is not in segue/models/tables.py"
        create_empty(other, relation, TABLES[relation])
    for relation, column, kind in other.execute(f"{query} where table_catalog = 'lake'").fetchall():
        made[relation][column] = "" if made[relation].get(column) == kind else f"{made[relation].get(column)} / {kind}"
    assert {r: {c: k for c, k in columns.items() if k} for r, columns in made.items()} == {r: {} for r in made}
