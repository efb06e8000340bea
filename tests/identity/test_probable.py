"""Probable links: only from what was consented to, never between two accounts, with a precision that was measured."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks._identity_world import staged, visits
from benchmarks.identity_accuracy import _browsers, _keys, _known
from segue.clock import to_warehouse
from segue.errors import DefinitionError
from segue.identity import ensure_tables, resolve
from segue.identity.probable import (
    Probable,
    _curve,
    _findable,
    _labelled,
    _measure,
    curve_chart,
    known_browsers,
    learn,
    signals,
    weights_chart,
    write_probable,
)
from segue.models.check import empty_lake
from segue.settings import PROJECT_ROOT
from tests.identity.identity_world import START


@pytest.fixture(scope="module")
def world() -> tuple[pa.Table, Probable]:
    made = visits(700, seed=3)
    identifiers, links = staged(made.table)
    keys = _keys(identifiers, "identifier")
    found = dict(zip(keys, resolve(identifiers, links).person_ids.to_pylist(), strict=True))
    known = _known(keys, found)
    return known, learn(_browsers(made), known, wanted_precision=0.9)


def test_two_accounts_are_never_linked_and_scores_pass_the_threshold(world: tuple[pa.Table, Probable]) -> None:
    known, found = world
    has_account = dict(zip(known["anonymous_id"].to_pylist(), known["has_account"].to_pylist(), strict=True))
    rows = found.links.to_pylist()
    assert len(rows) == found.report.link_count > 50
    assert not any(has_account[r["left_value"]] and has_account[r["right_value"]] for r in rows)
    assert all(r["score"] >= found.report.threshold for r in rows)


def test_precision_was_measured_and_can_be_seen(world: tuple[pa.Table, Probable]) -> None:
    report = world[1].report
    assert report.precision is not None
    assert report.precision > 0.75
    assert report.curve[0][2] < 1  # some are never found, however low the threshold
    thresholds = [threshold for threshold, *_ in report.curve]
    assert thresholds == sorted(thresholds)
    assert {signal for signal, *_ in report.weights} >= {"model", "networks", "hour"}
    assert weights_chart(report).startswith(b"\x89PNG")
    assert curve_chart(report).startswith(b"\x89PNG")


def test_recall_is_of_all_browsers_that_have_another_one_of_their_account() -> None:
    who = {"a1": "p_0", "a2": "p_0", "b1": "p_2", "b2": "p_2", "c1": "p_4", "d1": "p_6", "d2": "p_6", "e1": "p_1"}
    has_account = {browser: not browser.startswith("d") for browser in who}
    choosing, judging = _labelled([("a1", "a2", 0.9), ("b1", "c1", 0.5), ("d1", "d2", 0.8)], who, has_account)
    assert _findable(who, has_account) == (4, 0)  # c1 and e1 have no other one, d1 and d2 no account
    # b1 is linked with somebody else, and nothing was scored for b2.
    assert _curve(choosing, 4) == [(0.5, 0.5, 0.5), (0.9, 1.0, 0.5)]
    assert _measure(choosing, 0.7, 4) == (1.0, 0.5)
    assert _measure(judging, 0.7, 0) == (None, None)


def test_too_few_browsers_are_linked_with_nobody() -> None:
    few = pa.table({"anonymous_id": ["a", "b"], "model": ["m", "m"], "networks": [["n"], ["n"]]})
    people = pa.table({"anonymous_id": ["a"], "person_id": ["p_1"], "has_account": [False]})
    assert learn(few, people).report.link_count == 0


def signals_of(contexts: Mapping[str, Any], project: Path = PROJECT_ROOT / "dbt_project") -> list[dict[str, Any]]:
    """What browsers are like, by what each has sent in its only message."""
    con = empty_lake()
    con.execute("create schema raw; create table raw.events (anonymous_id varchar, context json, received_at timestamp,"
                " timestamp timestamp)")  # fmt: skip
    for browser, context in contexts.items():
        moment = to_warehouse(START)
        con.execute("insert into raw.events values ($1, $2, $3, $3)", [browser, json.dumps(context), moment])
    con.execute("set variable as_of = $1::timestamp", [to_warehouse(START)])
    return sorted(signals(con, project).to_pylist(), key=lambda row: str(row["anonymous_id"]))


def consenting(preferences: Mapping[str, Any] | None, **context: Any) -> dict[str, Any]:
    said = {} if preferences is None else {"consent": {"categoryPreferences": preferences}}
    return {"device": {"model": "m"}, "ip": "192.0.2.77", "timezone": "UTC", **context, **said}


def test_a_message_without_consent_in_words_is_not_read() -> None:
    found = signals_of({
        "yes": consenting({"Advertising": False, "analytics": True}),
        "yes, as Segment spells it": consenting({"Analytics": True}),
        "yes and no": consenting({"analytics": True, "Analytics": False}),
        "no": consenting({"analytics": False}),
        "no, as Segment spells it": consenting({"Analytics": False}),
        "to something else": consenting({"Advertising": True}),
        "silent": consenting(None),
    })  # fmt: skip
    assert [(row["anonymous_id"], row["networks"]) for row in found] == [
        ("yes", ["192.0.2"]),
        ("yes, as Segment spells it", ["192.0.2"]),
    ]


def test_consent_is_asked_by_the_categories_that_the_project_names(tmp_path: Path) -> None:
    (tmp_path / "analyses").mkdir()
    shutil.copy(PROJECT_ROOT / "dbt_project" / "analyses" / "browser_signals.sql", tmp_path / "analyses")
    contexts = {"yes": consenting({"C0002": True}), "to something else": consenting({"analytics": True})}
    for said, wanted in (("[C0002]", ["yes"]), ("C0002", ["yes"]), ("[]", [])):
        (tmp_path / "dbt_project.yml").write_text(f"vars: {{analytics_categories: {said}}}")
        assert [row["anonymous_id"] for row in signals_of(contexts, tmp_path)] == wanted
    (tmp_path / "dbt_project.yml").write_text("vars: {analytics_categories: 2}")
    with pytest.raises(DefinitionError, match=r"vars.analytics_categories is 2"):
        signals_of(contexts, tmp_path)


def test_browsers_that_tell_no_model_do_not_agree_on_one() -> None:
    found = signals_of({
        "both": consenting({"analytics": True}, os={"version": "17"}),
        "device": consenting({"analytics": True}),
        "empty": consenting({"analytics": True}, device={"model": ""}, os={"version": " "}),
        "none": consenting({"analytics": True}, device={}),
    })  # fmt: skip
    assert [row["model"] for row in found] == ["m 17", "m", None, None]


def test_links_are_kept_apart_from_people(world: tuple[pa.Table, Probable]) -> None:
    con = empty_lake()
    ensure_tables(con)
    links = pa.table({"left_value": ["a"], "right_value": ["b"], "score": [0.99]})
    con.execute(
        "insert into identity.identifiers (identifier_type, identifier_value, person_id)"
        " values ('anonymous_id', 'a', 'p_1'), ('anonymous_id', 'b', 'p_2')"
    )
    before = con.execute("from identity.identifiers order by all").fetchall()
    for _ in range(2):
        write_probable(con, Probable(links=links, report=world[1].report), as_of=START)
    assert con.execute("select left_person_id, right_person_id, kind from identity.probable_links").fetchall() == [
        ("p_1", "p_2", "probabilistic")
    ]
    assert con.execute("from identity.identifiers order by all").fetchall() == before
    assert known_browsers(con).num_rows == 2
