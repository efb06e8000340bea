"""Versions: the better one is in force, an earlier one can be put back, and the last good one stays."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from segue.errors import BadInputError
from segue.models import Project
from segue.models.check import empty_lake
from segue.propensity import (
    Examples,
    Trained,
    ensure_tables,
    in_force,
    next_changes,
    publish,
    rollback,
    train,
    versions,
    withdraw,
    withdrawn,
)
from segue.propensity.card import card
from segue.propensity.next_changes import matrix
from segue.propensity.picture import plot_changes, plot_quality
from segue.propensity.refresh import _decide, _why_due
from segue.scoring import load_scorer
from segue.settings import Settings
from segue.warehouse import Connection, Warehouse
from tests.propensity.test_train import AS_OF, ASKED, made

DAY = timedelta(days=1)


def later(found: Examples) -> Trained:
    """Trained on examples of two weeks later, of which the champion of today has seen no outcome."""
    cutoffs = tuple(c + 14 * DAY for c in found.cutoffs)
    return train(replace(found, cutoffs=cutoffs), as_of=AS_OF + 14 * DAY, seed=0)


@pytest.fixture
def con() -> Connection:
    lake = empty_lake()
    ensure_tables(lake)
    return lake


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(Settings(home=tmp_path_factory.mktemp("home"), _env_file=None))  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def good():
    return train(made(), as_of=AS_OF, seed=0)


@pytest.fixture(scope="module")
def fresh() -> Trained:
    return later(made(seed=2))


def test_what_is_in_force_depends_on_the_time(con: Connection) -> None:
    publish(con, "churn", version="v1", model_file="1", as_of=AS_OF, reason="")
    publish(con, "churn", version="v2", model_file="2", as_of=AS_OF + DAY, reason="")
    publish(con, "churn", version=None, model_file=None, as_of=AS_OF + 2 * DAY, reason="withdrawn")
    assert in_force(con, "churn", as_of=AS_OF - DAY) is None
    assert in_force(con, "churn", as_of=AS_OF) == ("v1", "1")
    assert in_force(con, "churn", as_of=AS_OF + DAY) == ("v2", "2")
    assert in_force(con, "churn") is None
    assert in_force(con, "other") is None


def test_a_rollback_puts_the_one_before_in_force_and_can_be_undone(con: Connection) -> None:
    publish(con, "churn", version="v1", model_file="1", as_of=AS_OF, reason="")
    with pytest.raises(BadInputError, match="no earlier version"):
        rollback(con, "churn", to=None, as_of=AS_OF + DAY)
    publish(con, "churn", version="v2", model_file="2", as_of=AS_OF + DAY, reason="")
    assert rollback(con, "churn", to=None, as_of=AS_OF + 2 * DAY) == "v1"
    assert in_force(con, "churn") == ("v1", "1")
    assert rollback(con, "churn", to="v2", as_of=AS_OF + 3 * DAY) == "v2"
    with pytest.raises(BadInputError, match="has no version v9"):
        rollback(con, "churn", to="v9", as_of=AS_OF + 4 * DAY)


def test_a_good_model_is_published_and_a_worse_one_is_only_a_challenger(con: Connection, store, good, fresh) -> None:
    first = _decide(con, store, ASKED, good, None, as_of=AS_OF, seed=0)
    assert first.status == "published"
    champion = in_force(con, "churn")
    assert champion is not None
    assert load_scorer(Path(champion[1])).version == first.version
    (known,) = versions(con, "churn")
    assert known.metrics["model"]["auc"] == good.backtest.model.auc
    assert _why_due(ASKED, [known], {}, AS_OF + DAY) == ""
    assert _why_due(ASKED, [known], {}, AS_OF + 7 * DAY) == "it was trained 7 days ago"
    drift = {"visits": 0.4, "noise": 0.1}
    assert _why_due(ASKED, [known], drift, AS_OF + DAY) == "", "nothing could take its place yet"
    rarely = replace(ASKED, refit_days=30)
    assert _why_due(rarely, [known], drift, AS_OF + (ASKED.horizon_days - 1) * DAY) == ""
    assert _why_due(rarely, [known], drift, AS_OF + ASKED.horizon_days * DAY) == "visits drifted"
    tried = replace(known, status="challenger", as_of=AS_OF + ASKED.horizon_days * DAY)
    assert _why_due(rarely, [tried, known], drift, tried.as_of + DAY / 2) == "", "once a day is enough"
    assert _why_due(rarely, [tried, known], drift, tried.as_of + DAY) == "visits drifted"
    # A quarter of the outcomes before the last two dates are turned, so it is worse on the newest date.
    worse = made(seed=2)
    worse.labels[:] ^= (np.random.default_rng(0).random(len(worse.labels)) < 0.25) & (worse.at < 4)
    second = _decide(con, store, ASKED, later(worse), champion, as_of=AS_OF + 14 * DAY, seed=0)
    assert (second.status, second.version) == ("challenger", first.version)
    assert "the champion stays: log-loss" in second.reason
    assert in_force(con, "churn") == champion
    third = _decide(con, store, ASKED, fresh, champion, as_of=AS_OF + 14 * DAY, seed=0)
    assert third.status == "published"
    assert "of the champion" in third.reason


def test_a_drift_is_that_of_the_model_it_was_measured_for(
    tmp_path: Path, good, fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that takes its place because of it has seen the people of now."""
    warehouse = Warehouse(Settings(home=tmp_path, _env_file=None))  # type: ignore[call-arg]
    nothing = Project(fingerprint="", project_dir=tmp_path, target_dir=tmp_path, models=())
    room = sys.modules[_decide.__module__]
    monkeypatch.setattr(room, "_drift", lambda con, p, known, champion: {"visits": 0.9} if champion else {})
    monkeypatch.setattr(room, "examples", lambda *_, **__: {"churn": good.examples})
    reports = []
    for day, trained in ((0, good), (14, fresh), (15, None)):
        monkeypatch.setattr(room, "train", lambda *_, trained=trained, **__: trained)
        reports += room.refresh(warehouse, nothing, [ASKED], as_of=AS_OF + day * DAY)
    first, second, _ = reports
    assert [r.status for r in reports] == ["published", "published", "kept"]
    assert [r.drifted for r in reports] == [(), (), ("visits",)]
    with warehouse.read() as con:
        written = con.execute("select version, as_of::date from propensity.drift order by as_of").fetchall()
    assert written == [
        (first.version, (AS_OF + 14 * DAY).date()),
        (second.version, (AS_OF + 15 * DAY).date()),
    ]


def test_a_champion_is_not_judged_by_outcomes_that_it_has_learnt_from(con: Connection, store, good) -> None:
    """It would know them, and win whatever the challenger is worth."""
    first = _decide(con, store, ASKED, good, None, as_of=AS_OF, seed=0)
    report = _decide(con, store, ASKED, good, in_force(con, "churn"), as_of=AS_OF + 7 * DAY, seed=0)
    assert (report.status, report.version) == ("challenger", first.version)
    assert f"fairly from {AS_OF + 14 * DAY:%Y-%m-%d} on" in report.reason


def test_a_withdrawn_model_stays_withdrawn_until_one_is_put_in_force(con: Connection, store, good, fresh) -> None:
    first = _decide(con, store, ASKED, good, None, as_of=AS_OF, seed=0)
    assert first.status == "published"
    assert withdraw(con, "churn", as_of=AS_OF + DAY, reason="a campaign made it wrong") == first.version
    assert in_force(con, "churn") is None
    assert withdrawn(con, "churn", as_of=AS_OF) is None
    with pytest.raises(BadInputError, match="no model of churn is in force"):
        withdraw(con, "churn", as_of=AS_OF + DAY, reason="again")
    again = _decide(con, store, ASKED, good, None, as_of=AS_OF + 7 * DAY, seed=0)
    assert (again.status, again.version) == ("challenger", None)
    assert "withdrawn (a campaign made it wrong)" in again.reason
    assert in_force(con, "churn") is None
    assert rollback(con, "churn", to=None, as_of=AS_OF + 8 * DAY) == first.version
    assert withdrawn(con, "churn", as_of=AS_OF + 8 * DAY) is None
    after = _decide(con, store, ASKED, fresh, in_force(con, "churn"), as_of=AS_OF + 14 * DAY, seed=0)
    assert after.status == "published", "judged as any other again"


def test_a_challenger_can_be_put_in_force_and_taken_out_again(con: Connection, store, good) -> None:
    """A challenger was never in force; its file is there all the same."""
    first = _decide(con, store, ASKED, good, None, as_of=AS_OF, seed=0)
    con.execute(
        "insert into propensity.versions by name select * replace ('v2' as version, 'challenger' as status,"
        " 'v2.npz' as model_file) from propensity.versions"
    )
    assert rollback(con, "churn", to="v2", as_of=AS_OF + DAY) == "v2"
    assert in_force(con, "churn") == ("v2", "v2.npz")
    assert rollback(con, "churn", to=None, as_of=AS_OF + 2 * DAY) == first.version


def test_a_champion_whose_file_is_gone_gives_way(con: Connection, store, good) -> None:
    report = _decide(con, store, ASKED, good, ("v0", "/nowhere/v0.npz"), as_of=AS_OF, seed=0)
    assert report.status == "published"
    assert "could not be used" in report.reason


def test_a_refused_model_leaves_the_champion_in_force(con: Connection, store) -> None:
    publish(con, "churn", version="v1", model_file="1", as_of=AS_OF - DAY, reason="")
    report = _decide(con, store, ASKED, train(made(visits=0.0), as_of=AS_OF, seed=0), ("v1", "1"), as_of=AS_OF, seed=0)
    assert (report.status, report.version) == ("refused", "v1")
    assert in_force(con, "churn") == ("v1", "1")
    assert versions(con, "churn")[0].reason.startswith("not ahead of recency alone")


def test_the_card_says_what_one_has_to_know(con: Connection, store, good) -> None:
    _decide(con, store, ASKED, good, None, as_of=AS_OF, seed=0)
    (known,) = versions(con, "churn")
    page = card(con, ASKED, known)
    for said in (
        known.version,
        "recency alone",
        "How groups of people fare",
        "hours_since_last_seen",
        "in force",
        "US",
    ):
        assert str(said) in page
    assert f"Judged by {known.metrics['person_count']:,} examples at {len(known.metrics['dates'])} past dates" in page
    assert "http" not in page
    assert plot_quality(known.metrics, title="t").startswith(b"\x89PNG")


def entered(con: duckdb.DuckDBPyConnection, rows: list[tuple[str, str, int]], *, cause: str = "evaluation") -> None:
    """People who entered segments, on days from two months before AS_OF on."""
    con.execute("create schema if not exists segments")
    con.execute("create table if not exists segments.transitions (person_id varchar, segment varchar, change varchar,"
                " effective_at timestamp, cause varchar)")  # fmt: skip
    start = (AS_OF - timedelta(days=60)).replace(tzinfo=None)
    con.executemany(
        "insert into segments.transitions values (?, ?, ?, ?, ?)",
        [(p, s, "merged" if "merged" in cause else "entered", start + timedelta(days=d), cause) for p, s, d in rows],
    )


def test_the_next_change_is_counted_within_the_horizon_of_stays_that_had_the_time(con: Connection) -> None:
    entered(con, [(f"p{n}", "new", 1) for n in range(30)])
    entered(con, [(f"p{n}", "loyal", 10) for n in range(12)])  # 9 days later
    entered(con, [(f"p{n}", "loyal", 20) for n in range(12, 20)])  # 19 days later: too late to count
    entered(con, [(f"q{n}", "new", 55) for n in range(40)])  # too young to say anything
    found = next_changes(con, as_of=AS_OF, horizon_days=14)
    (overall,) = [c for c in found if c.cohort == "all"]
    assert (overall.from_segment, overall.to_segment) == ("new", "loyal")
    assert (overall.stay_count, overall.changed_count) == (30, 12)
    assert overall.probability == pytest.approx(13 / 32)
    assert {c.cohort for c in found} == {"all", "2026-04"}
    names, values = matrix(found)
    assert names == ["loyal", "new"]
    assert values[1][0] == overall.probability
    assert plot_changes(names, values, title="t").startswith(b"\x89PNG")
    assert con.execute("select count(*) from propensity.next_changes").fetchall() == [(2,)]


def test_who_comes_into_a_segment_by_an_edit_or_a_merge_has_gone_nowhere(con: Connection) -> None:
    entered(con, [(f"p{n}", "low", 1) for n in range(40)])
    entered(con, [(f"p{n}", "loyal", 6) for n in range(4)])
    # `vip` is defined, then edited; both times everybody fits.
    entered(con, [(f"p{n}", "vip", 5) for n in range(40)], cause="first evaluation")
    entered(con, [(f"p{n}", "vip", 7) for n in range(40)], cause="definition changed")
    entered(con, [(f"p{n}", "loyal", 6) for n in range(10, 40)], cause="merged from q")
    # Nor do such stays lead anywhere.
    entered(con, [(f"p{n}", "high", 9) for n in range(40)])
    found = [c for c in next_changes(con, as_of=AS_OF, horizon_days=14) if c.cohort == "all"]
    assert [(c.from_segment, c.to_segment, c.stay_count, c.changed_count) for c in found] == [
        ("low", "high", 40, 40),
        ("low", "loyal", 40, 4),
    ]


def test_without_a_history_of_segments_there_are_no_next_changes(con: Connection) -> None:
    assert next_changes(con, as_of=datetime(2026, 1, 1, tzinfo=UTC)) == ()
    assert plot_changes([], [], title="t").startswith(b"\x89PNG")
