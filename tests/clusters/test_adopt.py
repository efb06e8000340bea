"""A cluster becomes SQL: readable, faithful, and the analyst's from then on."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.tree import DecisionTreeClassifier

from segue.clusters import Adoption, adopt, discover, ensure_tables, write
from segue.clusters.rules import Bound, _ways, holds, learn
from segue.errors import BadInputError
from segue.models.check import empty_lake
from segue.warehouse import Connection
from tests.clusters.planted import planted, put


@pytest.fixture(scope="module")
def con() -> Iterator[Connection]:
    connection = empty_lake()
    put(connection, planted()[0])
    discover(connection, as_of=datetime(2026, 3, 1, tzinfo=UTC))
    yield connection
    connection.close()


def names(con: Connection) -> list[str]:
    return [n for (n,) in con.execute("select cluster_name from clusters.profiles where method = 'kmeans'").fetchall()]


def adopted(con: Connection, name: str, segment: str | None = None) -> Adoption:
    return adopt(con, name, segment=segment, features=(), priority=7, min_events=5)


def runnable(sql: str) -> str:
    return re.sub(r"\{\{ ref\('person_features'\) \}\}", "marts.person_features", sql)


def test_the_sql_of_every_cluster_means_its_people(con: Connection) -> None:
    for name in names(con):
        adoption = adopted(con, name)
        inside, both = con.execute(
            f"""
            select count(*), count(a.person_id) from ({runnable(adoption.sql)}) s
            left join clusters.assignments a
                on a.person_id = s.person_id and a.method = 'kmeans' and a.cluster_name = $1
            """,
            [name],
        ).fetchall()[0]
        precision, recall = both / inside, both / adoption.member_count
        assert 2 * precision * recall / (precision + recall) >= 0.85, name
        assert adoption.rules.f1 >= 0.85
        assert len(adoption.rules.ways) <= 4
        assert f"precision {adoption.rules.precision:.2f}" in adoption.sql


def test_a_cluster_is_found_by_number_and_in_any_case(con: Connection) -> None:
    first = names(con)[0]
    number = con.execute(
        "select cluster_id from clusters.profiles where method = 'kmeans' and cluster_name = $1", [first]
    ).fetchall()[0][0]
    assert adopted(con, first.upper()).cluster_name == adopted(con, str(number)).cluster_name == first


def test_a_cluster_that_is_not_there_is_said_with_those_that_are(con: Connection) -> None:
    with pytest.raises(BadInputError, match="no cluster 'Nobody'") as caught:
        adopted(con, "Nobody")
    assert names(con)[0] in str(caught.value)


def test_the_files_are_a_segment_that_nobody_overwrites(con: Connection, tmp_path: Path) -> None:
    adoption = adopted(con, names(con)[0], "night_people")
    sql, meta = write(adoption, tmp_path)
    assert sql == tmp_path / "models" / "segments" / "night_people.sql"
    assert sql.read_text() == adoption.sql
    (entry,) = yaml.safe_load(meta.read_text())["models"]
    assert entry["name"] == "night_people"
    assert entry["config"]["meta"]["segue"] == {"priority": 7, "min_share": 0.01, "realtime": True}
    with pytest.raises(BadInputError, match="there is a model night_people already"):
        write(adoption, tmp_path)


def test_a_name_that_sql_does_not_know_is_refused(con: Connection, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be the name"):
        write(adopted(con, names(con)[0], "Night People!"), tmp_path)


def test_missing_values_are_meant_when_the_cluster_lacks_them() -> None:
    raw = np.column_stack([np.r_[np.full(40, np.nan), np.linspace(1, 9, 60)], np.tile([0.0, 1.0], 50)])
    members = np.isnan(raw[:, 0])
    rules = learn(raw, ["basket", "other"], members)
    assert rules.f1 == 1.0
    assert [b.sql() for way in rules.ways for b in way] == ["basket is null"]
    assert holds(rules.ways, raw, ["basket", "other"]).tolist() == members.tolist()


def test_who_lacks_a_value_is_not_meant_by_the_bounds_above_the_split() -> None:
    value = np.r_[np.full(1000, 1.0), np.full(100, 8.0), np.full(100, np.nan)].reshape(-1, 1)
    members = np.r_[np.zeros(1000), np.arange(100) % 20 < 9, np.arange(100) % 20 > 0].astype(bool)
    tree = DecisionTreeClassifier(max_depth=2, min_samples_leaf=10, random_state=0).fit(value, members)
    ways = _ways(tree, ["basket"])
    assert [b.sql() for way in ways for b in way] == ["basket is null"]
    assert holds(ways, value, ["basket"]).tolist() == np.isnan(value[:, 0]).tolist()


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_cluster_that_no_rule_tells_apart_is_refused(share: float) -> None:
    with closing(empty_lake()) as con:
        people = planted()[0]
        put(con, people.assign(**dict.fromkeys(people.columns[1:], 7.0)))
        ensure_tables(con)
        con.execute(
            "insert into clusters.assignments (person_id, method, cluster_id) select person_id, 'kmeans',"
            " (row_number() over (order by hash(person_id)) > $1 * 250)::int from marts.person_features",
            [share],
        )
        con.execute(
            "insert into clusters.profiles (method, cluster_id, cluster_name, as_of)"
            " values ('kmeans', 0, 'Odd', timestamp '2026-03-01')"
        )
        with pytest.raises(BadInputError, match=r"no rule on .*night_share.* tells the people of the cluster 'Odd'"):
            adopted(con, "Odd")


@pytest.mark.parametrize(
    ("bound", "sql"),
    [
        (Bound(column="a", low=1.5, high=None, or_missing=False), "a > 1.5"),
        (Bound(column="a", low=1.0, high=3.0, or_missing=False), "a > 1 and a <= 3"),
        (Bound(column="a", low=None, high=3.0, or_missing=True), "(a is null or a <= 3)"),
        (Bound(column="a", low=1.0, high=3.0, or_missing=True), "(a is null or (a > 1 and a <= 3))"),
        (Bound(column="Odd name", low=0.25, high=None, or_missing=False), '"Odd name" > 0.25'),
    ],
)
def test_bounds_are_written_as_analysts_write_them(bound: Bound, sql: str) -> None:
    assert bound.sql() == sql
