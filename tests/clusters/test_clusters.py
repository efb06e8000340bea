"""Discovery: what was planted is found, the same again; what cannot be found is said."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from segue.clusters import ClusterReport, Feature, discover, ensure_tables, plot
from segue.clusters import methods as methods_module
from segue.clusters.methods import Candidate, _choose, kmeans
from segue.errors import DefinitionError, WarehouseError
from segue.models.check import empty_lake
from segue.warehouse import Connection
from tests.clusters.planted import planted, put

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def con() -> Iterator[Connection]:
    connection = empty_lake()
    yield connection
    connection.close()


def run(con: Connection, people: pd.DataFrame, **options: object) -> ClusterReport:
    put(con, people)
    return discover(con, as_of=AS_OF, **options)  # type: ignore[arg-type]


def tables(con: Connection) -> list[list[tuple]]:
    queries = (
        "select person_id, method, cluster_id, cluster_name from clusters.assignments order by all",
        "from clusters.profiles order by all",
        "from clusters.events order by all",
    )
    return [con.execute(query).fetchall() for query in queries]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_clusters_are_found_by_both_methods(con: Connection, seed: int) -> None:
    people, kinds = planted(seed=seed)
    report = run(con, people)
    for method in ("kmeans", "hdbscan"):
        found = report.method(method)
        assert adjusted_rand_score(kinds, found.labels) >= 0.8
        assert found.silhouette is not None
        assert found.silhouette > 0.3


def test_the_rows_say_what_the_report_says(con: Connection) -> None:
    people, _ = planted()
    report = run(con, people)
    found = report.method("kmeans")
    assigned = con.execute(
        "select cluster_id, cluster_name, count(*), min(distance) >= 0 from clusters.assignments"
        " where method = 'kmeans' group by all order by 1"
    ).fetchall()
    assert assigned == [(p.cluster_id, p.cluster_name, p.person_count, True) for p in found.profiles]
    told = con.execute(
        "select cluster_id, cluster_name, profile, person_count, share from clusters.profiles"
        " where method = 'kmeans' order by 1"
    ).fetchall()
    assert told == [(p.cluster_id, p.cluster_name, p.profile, p.person_count, p.share) for p in found.profiles]
    (run_row,) = con.execute(
        "select criterion, silhouette, person_count, left_out_count, parameters"
        " from clusters.runs where method = 'kmeans'"
    ).fetchall()
    assert run_row[:4] == (found.criterion, found.silhouette, 250, 0)
    assert json.loads(run_row[4])["k"] == 4
    assert "stable under resampling" in found.criterion


def test_clusters_are_numbered_by_size(con: Connection) -> None:
    report = run(con, planted()[0])
    for found in report.methods:
        counts = [p.person_count for p in found.profiles]
        assert counts == sorted(counts, reverse=True)
        assert [p.cluster_id for p in found.profiles] == list(range(found.cluster_count))


def test_a_rerun_gives_the_same_rows(con: Connection) -> None:
    people, _ = planted()
    run(con, people)
    before = tables(con)
    run(con, people.sample(frac=1, random_state=3))  # in another order
    assert tables(con) == before


def test_runs_are_kept_and_the_rest_is_of_the_newest(con: Connection) -> None:
    put(con, planted()[0])
    discover(con, as_of=AS_OF)
    discover(con, as_of=LATER)
    for table in ("assignments", "profiles"):
        assert con.execute(f"select distinct as_of from clusters.{table}").fetchall() == [(LATER.replace(tzinfo=None),)]
    assert con.execute("select count(*), count(distinct as_of) from clusters.runs").fetchall() == [(4, 2)]


def only(people: pd.DataFrame, count: int) -> pd.DataFrame:
    return people.head(count)


def same(people: pd.DataFrame) -> pd.DataFrame:
    return people.assign(**dict.fromkeys(people.columns[1:], 7.0))


@pytest.mark.parametrize(
    ("people", "note"),
    [
        pytest.param(only(planted()[0], 0), "too few people to compare: 0", id="nobody"),
        pytest.param(only(planted()[0], 1), "too few people to compare: 1", id="one person"),
        pytest.param(only(planted()[0], 19), "too few people to compare: 19", id="nineteen people"),
        pytest.param(same(planted()[0]), "all 250 people are the same", id="all the same"),
        pytest.param(
            planted()[0].assign(event_count=4), "too few people to compare: 0 with at least 5 events", id="all passive"
        ),
        pytest.param(
            planted()[0].assign(**dict.fromkeys(planted()[0].columns[2:], np.nan)),
            "all 250 people are the same",
            id="empty",
        ),
    ],
)
def test_where_nothing_can_be_found_it_is_said_and_no_failure(con: Connection, people: pd.DataFrame, note: str) -> None:
    ensure_tables(con)
    report = run(con, people)
    assert report.note.startswith(note)
    assert [m.cluster_count for m in report.methods] == [0, 0]
    runs = con.execute("select method, criterion, silhouette from clusters.runs order by 1").fetchall()
    assert runs == [("hdbscan", report.note, None), ("kmeans", report.note, None)]
    for table in ("assignments", "profiles"):
        assert con.execute(f"select count(*) from clusters.{table}").fetchall() == [(0,)]
    assert plot(report).startswith(b"\x89PNG")


def test_the_last_clusters_stay_when_none_can_be_found_any_more(con: Connection) -> None:
    run(con, planted()[0])
    before = tables(con)
    report = run(con, planted()[0].head(3))
    assert report.method("kmeans").decision == "the last clusters stay"
    assert tables(con) == before


def test_twenty_people_are_enough(con: Connection) -> None:
    report = run(con, planted((10, 10))[0])
    assert report.method("kmeans").cluster_count >= 2


def test_constant_infinite_and_missing_columns_do_no_harm(con: Connection) -> None:
    people, kinds = planted()
    people["pages_per_session"] = 3.0
    people["weekend_share"] = np.where(np.arange(len(people)) % 9 == 0, np.inf, people["weekend_share"])
    people["category_count"] = np.nan
    report = run(con, people)
    assert adjusted_rand_score(kinds, report.method("kmeans").labels) >= 0.8
    assert np.isfinite(report.people.matrix).all()
    used = {d.feature.column for d in report.people.dimensions}
    assert not used & {"pages_per_session", "category_count"}


def test_one_giant_value_does_not_make_a_cluster_of_one(con: Connection) -> None:
    people, kinds = planted()
    people.loc[5, ["average_basket", "search_count", "premium_use_count"]] = [9e9, 1e7, 1e7]
    report = run(con, people)
    assert min(p.person_count for p in report.method("kmeans").profiles) >= 5
    assert adjusted_rand_score(kinds, report.method("kmeans").labels) >= 0.8


def test_people_with_little_activity_are_left_apart_and_counted(con: Connection) -> None:
    people, _ = planted()
    people.loc[people.index[:30], "event_count"] = 4
    people.loc[people.index[30:33], "event_count"] = np.nan
    report = run(con, people)
    assert (report.person_count, report.left_out_count) == (217, 33)
    assert report.method("kmeans").left_out_count == 33
    assert con.execute("select count(distinct person_id) from clusters.assignments").fetchall() == [(217,)]


def test_people_between_all_groups_are_in_no_cluster(con: Connection) -> None:
    people, _ = planted()
    strange = planted(seed=9)[0].head(60).copy()
    random = np.random.default_rng(0)
    for column in strange.columns[2:]:
        strange[column] = random.permutation(people[column].to_numpy())[:60]
    strange["person_id"] = [f"q_{n:03d}" for n in range(60)]
    report = run(con, pd.concat([people, strange]))
    apart = con.execute(
        "select count(*), any_value(cluster_name), count(distance) from clusters.assignments where cluster_id = -1"
    ).fetchone()
    assert apart is not None
    assert apart[0] == int((report.method("hdbscan").labels == -1).sum()) > 10
    assert apart[1:] == ("No cluster", 0)


def test_what_holds_together_only_by_chance_is_said_to_be_unstable() -> None:
    noise = np.random.default_rng(0).normal(size=(120, 6))
    assert "no number of clusters is stable" in kmeans(noise, seed=0).criterion


def test_many_people_go_through_samples(con: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_LARGE": 400, "_SAMPLE": 300, "_DENSITY_SAMPLE": 300, "_SILHOUETTE_SAMPLE": 200}.items():
        monkeypatch.setattr(methods_module, name, value)
    people, kinds = planted((300, 250, 200, 150))
    report = run(con, people)
    for method in ("kmeans", "hdbscan"):
        assert adjusted_rand_score(kinds, report.method(method).labels) >= 0.8
    assert report.method("kmeans").person_count == 900


def test_analysts_choose_the_columns(con: Connection) -> None:
    chosen = Feature(column="night_share", high="owls", low="larks")
    report = run(con, planted()[0], features=[chosen])
    names = {p.cluster_name for p in report.method("kmeans").profiles}
    assert {d.feature.column for d in report.people.dimensions} == {"night_share"}
    assert names >= {"Owls", "Larks"} or any("wl" in n for n in names)
    assert plot(report).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("column", "message"), [("no_such", "no column 'no_such'"), ("person_id", "is VARCHAR; clusters compare numbers")]
)
def test_a_column_that_cannot_be_compared_is_named(con: Connection, column: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        run(con, planted()[0], features=[Feature(column=column, high="", low="")])


def test_features_that_were_never_built_are_said_to_be_so(con: Connection) -> None:
    with pytest.raises(WarehouseError, match="has not been built"):
        discover(con, as_of=AS_OF)


def test_other_peoples_columns_are_compared_when_none_of_ours_is_there(con: Connection) -> None:
    random = np.random.default_rng(1)
    people = pd.DataFrame(
        {
            "person_id": [f"p{n}" for n in range(60)],
            "rides": np.r_[random.poisson(3, 30), random.poisson(40, 30)],
            "is_member": np.r_[np.zeros(30), np.ones(30)],
        }
    )
    report = run(con, people)
    assert report.method("kmeans").cluster_count == 2
    assert {p.cluster_name for p in report.method("kmeans").profiles} <= {
        "High rides, high is member",
        "Low rides, low is member",
        "High is member, high rides",
        "Low is member, low rides",
    }


@pytest.mark.parametrize(
    ("tried", "chosen"),
    [
        pytest.param([(2, 0.99, 0.30, 40), (3, 0.90, 0.60, 40)], 2, id="stability before silhouette"),
        pytest.param([(2, 0.99, 0.30, 40), (3, 0.95, 0.60, 40)], 3, id="as stable: the silhouette decides"),
        pytest.param([(2, 0.99, 0.60, 40), (3, 0.99, 0.58, 40)], 3, id="as good: more clusters tell more"),
        pytest.param([(2, 0.99, 0.30, 40), (3, 1.00, 0.60, 4)], 2, id="a handful of people is no cluster"),
        pytest.param([(2, 0.50, 0.60, 40), (3, 0.70, 0.30, 40)], 3, id="none is stable: the most stable"),
        pytest.param([(2, 0.99, -0.10, 40), (3, 0.99, -0.20, 40)], 2, id="negative silhouettes"),
        pytest.param([(2, 0.99, 0.10, 3)], 2, id="nothing to choose from"),
    ],
)
def test_the_number_of_clusters_follows_the_stated_criterion(
    tried: list[tuple[int, float, float, int]], chosen: int
) -> None:
    candidates = tuple(
        Candidate(cluster_count=k, stability=stability, silhouette=silhouette, smallest=smallest)
        for k, stability, silhouette, smallest in tried
    )
    assert _choose(candidates, 200)[0] == chosen
