"""One number per row, whoever asks: alone, among many, from a file, in SQL."""

import json
import logging
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from segue.errors import BadInputError
from segue.scoring import Forest, Scorer, load_scorer, register, save_scorer
from segue.scoring import function as function_module

FEATURES = ("recency", "visits", "basket")


def world(seed: int = 0, count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, 3))
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    return matrix, np.nan_to_num(matrix[:, 0]) + random.normal(size=count) > 0


@pytest.fixture(scope="module")
def model() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0).fit(*world())


def made(model: HistGradientBoostingClassifier, **changes: object) -> Scorer:
    values: dict[str, object] = {
        "name": "churn", "version": "v1", "features": FEATURES, "forest": Forest.of(model), "slope": 1.0,
        "offset": 0.0, "about": {"seed": 0},
    }  # fmt: skip
    return Scorer(**{**values, **changes})  # type: ignore[arg-type]


def test_the_arrays_say_what_the_library_says(model: HistGradientBoostingClassifier) -> None:
    matrix, _ = world(1)
    expected = model.predict_proba(matrix)[:, 1]
    np.testing.assert_allclose(made(model).probability(matrix), expected, rtol=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 120))
@settings(max_examples=25, deadline=None)
def test_a_row_gets_the_same_number_alone_and_among_many(model, seed: int, count: int) -> None:
    matrix, _ = world(seed, count)
    forest = Forest.of(model)
    together = forest.raw(np.vstack([matrix] * 8))[:count]
    alone = np.concatenate([forest.raw(row.reshape(1, -1)) for row in matrix])
    assert np.array_equal(together, alone)


def test_contributions_add_up_to_the_score(model: HistGradientBoostingClassifier) -> None:
    scorer = made(model, slope=0.8, offset=-0.2)
    for row in world(2, 20)[0]:
        base, parts = scorer.why(row)
        score = scorer.probability(row.reshape(1, -1))[0]
        assert base + sum(p.log_odds for p in parts) == pytest.approx(np.log(score / (1 - score)))
        assert abs(parts[0].log_odds) >= abs(parts[-1].log_odds)
    strongest = max(range(3), key=lambda n: np.nanstd([made(model).forest.contributions(r)[1][n] for r in world(3)[0]]))
    assert FEATURES[strongest] == "recency"


def test_a_file_holds_the_whole_model(model: HistGradientBoostingClassifier, tmp_path: Path) -> None:
    scorer = made(model, slope=0.5, offset=0.1)
    save_scorer(scorer, tmp_path / "m.npz")
    again = load_scorer(tmp_path / "m.npz")
    matrix = world(4)[0]
    assert np.array_equal(again.probability(matrix), scorer.probability(matrix))
    assert (again.name, again.version, again.features, again.about) == ("churn", "v1", FEATURES, {"seed": 0})
    assert [p.name for p in tmp_path.iterdir()] == ["m.npz"]


def sql(con: duckdb.DuckDBPyConnection, file: str | None, names: str = ",".join(FEATURES), count: int = 3) -> list:
    return [
        v for (v,) in con.execute(
            "select propensity_score($1, $2, [i / 3 - 1, null, case when i = 1 then 'inf'::double else i end])"
            f" from range({count}) t(i) order by i",
            [file, names],
        ).fetchall()
    ]  # fmt: skip


@pytest.fixture
def con():
    function_module._read.cache_clear()
    function_module._unusable.clear()
    function_module._places.cache_clear()
    connection = duckdb.connect()
    register(connection)
    yield connection
    connection.close()


def test_sql_says_the_same_in_any_order_of_features(con, model, tmp_path: Path) -> None:
    scorer = made(model)
    file = tmp_path / "m.npz"
    save_scorer(scorer, file)
    rows = np.array([[i / 3 - 1, np.nan, np.nan if i == 1 else i] for i in range(3)])
    assert sql(con, str(file)) == scorer.probability(rows).tolist()
    swapped = con.execute(
        "select propensity_score($1, 'basket,spare,visits,recency', [0.0::double, 9, null, -1])", [str(file)]
    ).fetchall()
    assert swapped == [(sql(con, str(file))[0],)]
    assert len(sql(con, str(file), count=5000)) == 5000


def test_without_a_model_there_is_no_score(con) -> None:
    assert sql(con, None) == [None, None, None]
    assert con.execute("select propensity_score(null, 'a', [1.0]) from range(0)").fetchall() == []


def test_a_model_that_cannot_be_used_gives_null_and_is_told_once(con, model, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.ERROR)
    assert sql(con, str(tmp_path / "gone.npz")) == [None] * 3
    assert sql(con, str(tmp_path / "gone.npz")) == [None] * 3
    assert len(caplog.records) == 1
    save_scorer(made(model), tmp_path / "m.npz")
    assert sql(con, str(tmp_path / "m.npz"), names="recency,visits,purse") == [None] * 3
    assert "needs the feature basket, which is not there any more" in caplog.text


def test_a_model_that_comes_back_is_used_at_once(con, model, tmp_path: Path, caplog) -> None:
    file = tmp_path / "m.npz"
    assert sql(con, str(file)) == [None] * 3
    save_scorer(made(model), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert sql(con, str(file)) == [None] * 3
    file.write_bytes(whole)
    scores = sql(con, str(file))
    assert None not in scores
    file.unlink()
    assert sql(con, str(file)) == scores  # read once
    assert len(caplog.records) == 1


@pytest.mark.parametrize("place", ["middle", "end", "compression"])
def test_a_damaged_file_is_refused(model, tmp_path: Path, place: str) -> None:
    save_scorer(made(model), tmp_path / "m.npz")
    damaged = bytearray((tmp_path / "m.npz").read_bytes())
    if place == "end":
        del damaged[-100:]
    else:
        damaged[len(damaged) // 2 if place == "middle" else damaged.index(b"PK\x01\x02") + 10] ^= 0x40
    (tmp_path / "m.npz").write_bytes(damaged)
    with pytest.raises(BadInputError, match="cannot be read"):
        load_scorer(tmp_path / "m.npz")


def test_a_file_of_another_version_is_refused_with_the_way_out(model, tmp_path: Path) -> None:
    save_scorer(made(model), tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as content:
        arrays = dict(content)
    said = {**json.loads(arrays["said"].tobytes()), "form": 99}
    np.savez(tmp_path / "m.npz", **{**arrays, "said": np.frombuffer(json.dumps(said).encode(), dtype=np.uint8)})
    with pytest.raises(BadInputError, match=r"is of form 99, and this version reads 1") as caught:
        load_scorer(tmp_path / "m.npz")
    assert "segue propensity rollback" in str(caught.value)
    (tmp_path / "broken.npz").write_bytes(b"PK nonsense")
    with pytest.raises(BadInputError, match="cannot be read"):
        load_scorer(tmp_path / "broken.npz")
