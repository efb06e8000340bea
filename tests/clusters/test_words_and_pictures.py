"""Names, sentences, vectors, YAML, picture."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.clusters import discover, features_of, plot
from segue.clusters.features import SHIPPED, feature
from segue.clusters.plane import ACROSS, UP, cells
from segue.clusters.profiles import by_size, profiles
from segue.clusters.vectors import vectors
from segue.errors import DefinitionError
from segue.models import Project
from segue.models.check import empty_lake
from tests.clusters.planted import planted, put

FEATURES = [feature(name) for name in ("average_basket", "night_share", "mobile_share", "order_count")]


@pytest.fixture(scope="module")
def report():
    con = empty_lake()
    put(con, planted()[0])
    yield discover(con, as_of=datetime(2026, 3, 1, tzinfo=UTC))
    con.close()


def told(baskets: tuple[float, float], nights: tuple[float, float]) -> list[str]:
    """The sentences about 60 people, and 20 others."""
    random = np.random.default_rng(0)
    group = np.repeat([0, 1], [60, 20])
    raw = np.column_stack([np.array(baskets)[group] * random.uniform(0.99, 1.01, 80), np.array(nights)[group]])
    return [p.profile for p in profiles(vectors(raw, FEATURES[:2]), group)]


def test_a_sentence_says_how_much_more_than_usual() -> None:
    assert told((20, 62), (0.1, 0.1))[1] == "3.1× the usual basket."


def test_a_sentence_gives_shares_beside_what_is_usual() -> None:
    assert told((20, 20), (0.1, 0.9)) == ["By day (90 %, usually 70 %).", "At night (90 %, usually 30 %)."]


def test_a_group_that_does_not_stand_out_is_said_to_be_average() -> None:
    raw = np.random.default_rng(0).normal(size=(80, 2))
    found = profiles(vectors(raw, FEATURES[:2]), np.zeros(80, dtype=np.int64))
    assert [(p.cluster_name, p.profile) for p in found] == [("Average", "Close to the average.")]


def test_who_lacks_a_value_is_told_by_the_lack() -> None:
    raw = np.column_stack([np.r_[np.full(40, np.nan), np.linspace(20, 60, 40)], np.random.default_rng(0).random(80)])
    found = profiles(vectors(raw, FEATURES[:2]), np.repeat([0, 1], 40))
    assert found[0].profile == "Never bought (100 %, usually 50 %)."
    assert found[0].cluster_name == "Never bought"


def test_a_sentence_does_not_contradict_the_name_where_a_few_large_values_make_the_mean() -> None:
    orders = np.r_[np.zeros(54), np.full(6, 60.0), np.full(20, 4.0)].reshape(-1, 1)
    found = profiles(vectors(orders, FEATURES[3:]), np.repeat([0, 1], [60, 20]))[1]
    assert found.cluster_name == "Frequent buyers"
    assert found.profile == "Frequent buyers."
    assert [(d.value, d.usual) for d in found.differences] == [(None, None)]


@given(st.integers(0, 10**6), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_names_are_unique_whatever_is_found(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    raw = random.lognormal(size=(60, len(FEATURES)))
    raw[random.random(raw.shape) < 0.2] = np.nan
    labels = by_size(np.r_[np.arange(count), random.integers(-1, count, 60 - count)].astype(np.int64))
    found = profiles(vectors(raw, FEATURES), labels)
    names = [p.cluster_name for p in found]
    assert len(set(names)) == len(names) == count
    assert all(p.profile.endswith(".") and (p.profile[0].isupper() or p.profile[0].isdigit()) for p in found)
    assert [p.person_count for p in found] == sorted((p.person_count for p in found), reverse=True)


def test_missing_is_not_zero() -> None:
    basket = np.r_[np.full(30, np.nan), np.full(30, 50.0), np.full(40, 60.0)]
    people = vectors(np.column_stack([basket]), FEATURES[:1])
    value, gap = people.matrix.T
    assert [d.is_missing for d in people.dimensions] == [False, True]
    assert value[0] == 0.0  # the median, not the value of somebody who spends nothing
    assert value[0] == value[-1]
    assert gap[0] > 0 > gap[-1]


def test_heavy_tails_are_logged_and_cut() -> None:
    spending = np.r_[np.random.default_rng(0).lognormal(3, 1.5, 300), 1e12]
    people = vectors(spending.reshape(-1, 1), FEATURES[:1])
    assert [d.is_logged for d in people.dimensions] == [True]
    assert people.matrix.max() == 4.0
    assert np.abs(people.matrix).mean() < 1.5


def test_mostly_zero_columns_still_count() -> None:
    orders = np.r_[np.zeros(90), np.full(10, 3.0)]
    people = vectors(orders.reshape(-1, 1), FEATURES[3:])
    assert len(np.unique(people.matrix)) == 2
    assert np.isfinite(people.matrix).all()


def project(tmp_path: Path, columns: dict[str, object]) -> Project:
    nodes = {
        "model.segue.person_features": {
            "resource_type": "model",
            "name": "person_features",
            "columns": {
                n: {"name": n, "config": {"meta": {"segue": {"cluster": said}}}} for n, said in columns.items()
            },
        }
    }
    nodes["model.segue.person_features"]["columns"]["country"] = {"name": "country"}
    (tmp_path / "manifest.json").write_text(json.dumps({"nodes": nodes}))
    return Project(fingerprint="", project_dir=tmp_path, target_dir=tmp_path, models=())


def test_yaml_says_which_columns_count_and_how_they_are_called(tmp_path: Path) -> None:
    chosen = features_of(
        project(tmp_path, {"night_share": True, "rides": {"high": "riders", "noun": "rides"}, "search_count": False})
    )
    assert [(f.column, f.high, f.low, f.noun) for f in chosen] == [
        ("night_share", "at night", "by day", None),
        ("rides", "riders", "low rides", "rides"),
    ]


def test_a_misspelt_key_in_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"person_features\.rides: `cluster` has no key 'hihg'"):
        features_of(project(tmp_path, {"rides": {"hihg": "riders"}}))


def test_every_shipped_column_has_words_of_its_own() -> None:
    for name in SHIPPED:
        assert feature(name).high
        assert not feature(name).high.startswith("high ")


@pytest.mark.parametrize("method", ["kmeans", "hdbscan"])
def test_the_picture_is_a_png_of_readable_size(report, method: str) -> None:
    picture = matplotlib.image.imread(io.BytesIO(plot(report, method=method)), format="png")
    assert picture.shape[0] >= 500
    assert picture.shape[1] >= 900
    assert picture.std() > 0.05


def test_no_figure_stays_open(report) -> None:
    import matplotlib.pyplot as plt

    plot(report)
    assert plt.get_fignums() == []


def test_the_map_counts_everybody_once_and_is_not_mirrored_by_the_order_of_people() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(-1, 3, 400)
    matrix = random.normal(size=(400, 4)) * [3, 2, 1, 1] + labels[:, None] * [4, -2, 0, 0]
    found = cells(matrix, labels)
    order = random.permutation(400)
    again = cells(matrix[order], labels[order])
    for name in ("label", "across", "up", "person_count"):
        assert getattr(found, name).tolist() == getattr(again, name).tolist()
    for label in range(-1, 3):
        assert found.person_count[found.label == label].sum() == (labels == label).sum()
    assert (found.across.min(), found.across.max()) == (0, ACROSS - 1)
    assert (found.up.min(), found.up.max()) == (0, UP - 1)
    one = cells(np.ones((30, 1)) * np.arange(30)[:, None], np.zeros(30, dtype=np.int64))
    assert set(one.up.tolist()) == {0}


def test_columns_that_say_the_same_have_one_vote_together() -> None:
    random = np.random.default_rng(4)
    much, when = random.normal(size=(2, 2000))
    people = vectors(np.column_stack([much, much, much, when]), FEATURES)
    assert [round(d.weight, 2) for d in people.dimensions] == [0.58, 0.58, 0.58, 1.0]
    spread = people.matrix.var(axis=0)
    assert spread[:3].sum() == pytest.approx(spread[3], rel=0.15)
    # A later day is measured with the weights of then.
    later = vectors(np.column_stack([much, when, much, when]), FEATURES, scaled_as=people.dimensions)
    assert later.dimensions == people.dimensions
