"""Clusters over time: ids and names stay, what comes and goes is told, and nobody flips at a border."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from segue.clusters import ClusterReport, Feature, discover
from segue.clusters.features import feature
from segue.clusters.kept import Cluster, Kept
from segue.clusters.life import succeed, verdict
from segue.clusters.methods import Found, silhouette, silhouettes
from segue.clusters.outcome import Outcome, _succession
from segue.clusters.vectors import vectors
from segue.models.check import empty_lake
from segue.warehouse import Connection
from tests.clusters.planted import planted, put

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def con() -> Iterator[Connection]:
    connection = empty_lake()
    yield connection
    connection.close()


def day(con: Connection, people: pd.DataFrame, number: int, **options: object) -> ClusterReport:
    put(con, people)
    return discover(con, as_of=START + timedelta(days=number), **options)  # type: ignore[arg-type]


def ids(con: Connection) -> dict[str, int]:
    return dict(
        con.execute("select person_id, cluster_id from clusters.assignments where method = 'kmeans'").fetchall()
    )


def noisy(people: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same people on another day."""
    random = np.random.default_rng(seed)
    counts = ["event_count", "session_count_28d", "premium_use_count", "search_count", "order_count"]
    again = people.copy()
    for name in again.columns[1:]:
        drawn = random.poisson(people[name]) if name in counts else people[name] * random.normal(1, 0.05, len(people))
        again[name] = np.clip(drawn, 0, 1) if name.endswith("_share") else drawn
    again["event_count"] += 5
    return again


def test_ids_and_names_stay_while_nothing_changes(con: Connection) -> None:
    people = planted()[0]
    first = day(con, people, 0)
    assert {e.event for e in first.method("kmeans").events} == {"born"}
    names, before = {p.cluster_id: p.cluster_name for p in first.method("kmeans").profiles}, ids(con)
    for number in range(1, 6):
        report = day(con, noisy(people, number), number).method("kmeans")
        assert {p.cluster_id: p.cluster_name for p in report.profiles} == names
        assert not report.events
    kept = np.mean([before[person] == now for person, now in ids(con).items()])
    assert kept >= 0.95
    assert con.execute("select count(distinct as_of) from clusters.sizes where method = 'kmeans'").fetchall() == [(6,)]


def test_people_who_behave_like_nobody_before_are_a_cluster_that_is_born(con: Connection) -> None:
    people, kinds = planted((90, 70, 50, 40))
    old = people[kinds < 3]
    day(con, old, 0)
    report = day(con, people, 1).method("kmeans")
    born = [e for e in report.events if e.event == "born"]
    assert report.decision.startswith("published: ")
    assert "of people lie outside all clusters" in report.decision
    assert len(born) == 1
    assert born[0].person_count == pytest.approx(40, abs=4)
    assert born[0].cluster_name in born[0].explanation
    newcomers = set(people[kinds == 3]["person_id"])
    now = ids(con)
    assert np.mean([now[person] == born[0].cluster_id for person in newcomers]) >= 0.9
    told = con.execute(
        "select event, cluster_id from clusters.events where method = 'kmeans' and as_of > $1",
        [START.replace(tzinfo=None)],
    ).fetchall()
    assert ("born", born[0].cluster_id) in told


CLUSTERS = (Cluster(cluster_id=4, cluster_name="Owls"), Cluster(cluster_id=7, cluster_name="Larks"))


def heirs(old: list[int], new: list[int], strange: list[int] | None = None) -> tuple[tuple[int, ...], set[tuple]]:
    is_strange = np.array(strange or [0] * len(old), dtype=bool)
    found = succeed(np.array(old), np.array(new), CLUSTERS, is_strange=is_strange, next_id=9)
    return found.ids, {(e.event, e.cluster_id, e.others) for e in found.events}


@pytest.mark.parametrize(
    ("old", "new", "strange", "expected_ids", "events"),
    [
        pytest.param([0] * 6 + [1] * 4, [1] * 6 + [0] * 4, None, (7, 4), set(), id="numbered otherwise"),
        pytest.param([0] * 6 + [1] * 4, [0] * 5 + [1] * 5, None, (4, 7), set(), id="one person moved"),
        pytest.param(
            [0] * 10 + [1] * 4, [0] * 5 + [2] * 5 + [1] * 4, None, (4, 7, 9), {("split", 4, (4, 9))}, id="split"
        ),
        pytest.param([0] * 6 + [1] * 4, [0] * 10, None, (4,), {("merged", 4, (4, 7))}, id="merged"),
        pytest.param(
            [0] * 10 + [1] * 4, [0] * 6 + [2] * 4 + [1] * 4, [0] * 6 + [1] * 4 + [0] * 4, (4, 7, 9),
            {("born", 9, ())}, id="born of people far from the centre",
        ),
        pytest.param([0] * 6 + [1] * 2 + [-1] * 5, [0] * 6 + [0] * 2 + [1] * 5, None, (4, 9),
                     {("merged", 4, (4, 7)), ("born", 9, ())}, id="born of newcomers"),
        pytest.param([0] * 6 + [1] * 6, [0] * 6 + [0, 0, 1, 1, -1, -1], None, (4, 9),
                     {("born", 9, ()), ("died", 7, ())}, id="died"),
        pytest.param([0] * 15 + [1] * 5, [0] * 11 + [1] * 4 + [0] * 5, None, (4, 9),
                     {("split", 4, (4, 9)), ("merged", 4, (4, 7))}, id="parts that went elsewhere take no id"),
    ],
)  # fmt: skip
def test_a_new_clustering_is_told_by_the_people_it_shares_with_the_last(
    old: list[int], new: list[int], strange: list[int] | None, expected_ids: tuple[int, ...], events: set[tuple]
) -> None:
    assert heirs(old, new, strange) == (expected_ids, events)


def test_a_clustering_that_is_no_better_and_no_agreement_is_not_published() -> None:
    random = np.random.default_rng(0)
    old, new = random.integers(0, 2, 200), random.integers(0, 2, 200)
    found = succeed(old, new, CLUSTERS, is_strange=np.zeros(200, dtype=bool), next_id=9)
    is_published, why = verdict(found, before=0.3, after=0.29, is_stable=True)
    assert not is_published
    assert "below 0.8" in why
    assert "does not separate people better" in why
    assert verdict(found, before=0.3, after=0.4, is_stable=False) == (False, why.partition(", and")[0] + ", and its "
        "clusters are not stable under resampling")  # fmt: skip


def test_the_last_and_the_new_clustering_are_measured_by_the_people_whom_both_group() -> None:
    random = np.random.default_rng(0)
    raw = np.r_[random.normal(0, 1, 50), random.normal(9, 1, 50), random.uniform(-5, 14, 50)].reshape(-1, 1)
    old, new = np.repeat([0, 1, -1], 50), np.r_[random.integers(0, 2, 90), np.full(60, -1)]
    people = vectors(raw, [feature("search_count")])
    assigned = Outcome(
        people=people, labels=old, distances=np.zeros(150), clusters=CLUSTERS, decision="", found=None,
        is_published=False,
    )  # fmt: skip
    # What a method says of its own groups is by other people, and by other measures.
    found = Found(labels=new, distances=np.zeros(150), silhouette=0.95, criterion="", parameters={})
    outcome = _succession(
        people, found, CLUSTERS, old, strange=np.zeros(150, dtype=bool), unused=9, why="", assigned=assigned,
        is_stable=True, seed=0, drift=None,
    )  # fmt: skip
    assert not outcome.is_published
    assert "does not separate people better (silhouette 0.0" in outcome.decision
    grouped = new >= 0
    before, after = silhouettes(people.matrix, old, new, 0)
    assert before == silhouette(people.matrix[grouped], old[grouped], 0)
    assert after == silhouette(people.matrix[grouped], new[grouped], 0)
    assert before is not None
    assert before > 0.7


def test_nobody_flips_at_a_border() -> None:
    people = np.array([[0.48], [0.52], [0.56], [0.9]])
    kept = Kept(
        columns=("x",), dimensions=(), clusters=CLUSTERS, centres=np.array([[0.0], [1.0]]), far=9.0,
        populations=(),
    )  # fmt: skip
    labels, _, _ = kept.assign(people, np.array([1, 0, 0, 0]), stay=0.9)
    assert labels.tolist() == [1, 0, 1, 1]
    assert kept.assign(people, np.full(4, -1), stay=0.9)[0].tolist() == [0, 1, 1, 1]


def test_clusters_of_another_version_are_found_anew_and_keep_their_ids(con: Connection) -> None:
    people = planted()[0]
    day(con, people, 0)
    before, names = (
        ids(con),
        con.execute("select cluster_id, cluster_name from clusters.profiles order by all").fetchall(),
    )
    model = json.loads(con.execute("select model from clusters.models").fetchall()[0][0])
    con.execute("update clusters.models set model = $1", [json.dumps({**model, "form": 0})])
    report = day(con, people, 1).method("kmeans")
    assert "of another version of Segue" in report.decision
    assert ids(con) == before
    assert con.execute("select cluster_id, cluster_name from clusters.profiles order by all").fetchall() == names


def test_a_column_that_came_or_went_is_named(con: Connection) -> None:
    people = planted()[0]
    day(con, people, 0)
    report = day(con, people.rename(columns={"search_count": "searches"}), 1)
    assert "the compared columns have changed: −search_count" in report.method("kmeans").decision
    chosen = [Feature(column=c, high="h", low="l") for c in ("searches", "mobile_share")]
    report = day(con, people.rename(columns={"search_count": "searches"}), 2, features=chosen)
    assert "+searches" in report.method("kmeans").decision


def test_edited_words_of_a_column_are_spoken_from_the_next_run_on(con: Connection) -> None:
    people = planted()[0]
    columns = ("mobile_share", "night_share", "search_count", "average_basket")
    day(con, people, 0, features=[feature(c) for c in columns])
    edited = [feature(c, {"high": "owls", "low": "larks"} if c == "night_share" else None) for c in columns]
    report = day(con, people, 1, features=edited).method("kmeans")
    assert "assigned to the clusters that are there" in report.decision
    assert any("owls" in p.profile.lower() for p in report.profiles)


def test_a_population_that_drifted_is_noticed(con: Connection) -> None:
    people = planted()[0]
    day(con, people, 0)
    day(con, people.assign(session_count_28d=people["session_count_28d"] * 3), 1)
    ((drift, column),) = con.execute(
        "select drift, drift_column from clusters.decisions where method = 'kmeans' order by as_of desc limit 1"
    ).fetchall()
    assert drift > 0.25
    assert column == "session_count_28d"
