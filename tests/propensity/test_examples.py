"""Point-in-time: what was known at a past date, and nothing that came after; a planted leak is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.errors import DefinitionError
from segue.identity import ensure_tables
from segue.models import Model, Project
from segue.models.check import empty_lake
from segue.models.tables import TABLES, create_empty
from segue.propensity import LeakError, examples, propensities
from segue.warehouse import Connection

END = datetime(2026, 3, 1, tzinfo=UTC)
STAGED = """
select message_id, event, user_id, timestamp as occurred_at, received_at from "lake"."raw"."events"
"""
FEATURES = """
select i.person_id, count(*)::double as event_count, max(e.occurred_at) as last_seen_at,
    (epoch_ms(getvariable('as_of')) - epoch_ms(max(e.occurred_at))) / 3600000.0 as hours_since_last_seen,
    'DE' as country
from "lake"."staging"."stg_events" e
join "lake"."identity"."identifiers" i on i.identifier_type = 'user_id' and i.identifier_value = e.user_id
group by i.person_id
"""
CHURN = """
select person_id, event_count >= 2 as is_eligible,
    last_seen_at <= getvariable('as_of') - interval 14 day as is_success
from "lake"."marts"."person_features"
"""
SAID = {"propensity": {"score": "churn_risk", "horizon_days": 14, "features": ["event_count", "hours_since_last_seen"]}}


def model(
    name: str, schema: str, sql: str, depends_on: tuple[str, ...], sources: tuple[str, ...], **meta: Any
) -> Model:
    return Model(
        name=name, schema=schema, identifier=name, path=f"models/{schema}/{name}.sql", materialized="table",
        is_append_only=False, description="", depends_on=depends_on, sources=sources, meta={"segue": meta},
        compiled_sql=sql, definition_hash=name,
    )  # fmt: skip


def project(features: str = FEATURES, said: dict[str, Any] = SAID, extra: tuple[str, ...] = ()) -> Project:
    return Project(
        fingerprint="", project_dir=Path("/nowhere"), target_dir=Path("/nowhere"),
        models=(
            model("stg_events", "staging", STAGED, (), ("raw.events",)),
            model("person_features", "marts", features, ("stg_events",), ("identity.identifiers", *extra)),
            model("churn", "propensity", CHURN, ("person_features",), (), **said),
        ),
    )  # fmt: skip


def stitch(con: Connection, _as_of: datetime) -> None:
    """Everybody is who they say they are; u1 becomes another person from the 20th of February on."""
    con.execute("create schema identity")
    con.execute(
        "create table identity.identifiers as select distinct 'user_id' as identifier_type,"
        " user_id as identifier_value, case when user_id = 'u1' and getvariable('as_of') >= timestamp '2026-02-20'"
        " then 'p-merged' else 'p-' || user_id end as person_id from staging.stg_events"
    )


@pytest.fixture
def con() -> Connection:
    lake = empty_lake()
    create_empty(lake, "raw.events", TABLES["raw.events"])
    rows = []
    for user in range(6):
        for day in range(0, 60, 1 + user):
            # The last user was heard of late: on the 20th of February, of all that happened before.
            at = END - timedelta(days=60 - day)
            heard = max(at, datetime(2026, 2, 20, tzinfo=UTC)) if user == 5 else at
            if not (user == 4 and day > 40):
                rows.append((f"m{user}-{day}", f"u{user}", at.replace(tzinfo=None), heard.replace(tzinfo=None)))
    lake.executemany("insert into raw.events (message_id, user_id, timestamp, received_at) values (?, ?, ?, ?)", rows)
    return lake


def asked(found: Project) -> Any:
    return propensities(found)


def test_features_are_those_of_the_date_and_labels_those_of_the_horizon(con: Connection) -> None:
    found = examples(project(), con, asked(project()), as_of=END, stitch=stitch)["churn"]
    assert [f"{c:%m-%d}" for c in found.cutoffs] == ["01-25", "02-01", "02-08", "02-15"]
    last = found.at == 3
    # On the 15th of February nobody had heard of u5; u4 had gone on the 10th, and stays away.
    assert last.sum() == 5
    daily = found.matrix[last][found.matrix[last][:, 0] == 47]  # u0, every day from 31 December to 15 February
    assert daily.tolist() == [[47.0, 0.0]]
    assert sorted(found.labels[last].tolist()) == [False] * 4 + [True]
    # u1 is another person at the end of the horizon, and is not lost.
    assert found.groups["country"] == ["DE"] * len(found.labels)


def test_what_is_heard_of_later_changes_nothing_at_an_earlier_date(con: Connection) -> None:
    before = examples(project(), con, asked(project()), as_of=END, stitch=stitch)["churn"]
    con.execute(
        "insert into raw.events (message_id, user_id, timestamp, received_at) select 'late' || n, 'u' || n,"
        " timestamp '2026-01-10', timestamp '2026-02-28 12:00:00' from range(5) r(n)"
    )
    after = examples(project(), con, asked(project()), as_of=END, stitch=stitch)["churn"]
    assert after.data_hash == before.data_hash


def test_who_was_merged_by_hand_is_one_person_to_learn_from(con: Connection) -> None:
    identifiers = """
    select 'user_id' as identifier_type, user_id as identifier_value, min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at, min(received_at) as first_received_at, max(received_at) as last_received_at,
        0::bigint as last_load_id, null::varchar as refused_reason
    from "lake"."staging"."stg_events" group by user_id
    """
    links = """
    select '' as left_type, '' as left_value, '' as right_type, '' as right_value, '' as rule,
        timestamp '2026-01-01' as first_seen_at, timestamp '2026-01-01' as first_received_at, 1::bigint as link_count,
        '' as first_message_id, 0::bigint as last_load_id, timestamp '2026-01-01' as last_received_at
    where false
    """
    staging = [
        model(name, "staging", sql, ("stg_events",), ())
        for name, sql in (("stg_identifiers", identifiers), ("stg_links", links))
    ]
    known = replace(project(), models=(project().models[0], *staging, *project().models[1:]))
    found = examples(known, con, asked(known), as_of=END)["churn"]
    ensure_tables(con)
    con.execute(
        "insert into identity.decisions (decision_id, decided_at, kind, left_type, left_value, right_type, right_value,"
        " rule) values ('d', timestamp '2026-01-02', 'merge', 'user_id', 'u0', 'user_id', 'u3', 'merge')"
    )
    merged = examples(known, con, asked(known), as_of=END)["churn"]
    assert len(merged.labels) == len(found.labels) - len(found.cutoffs)


def test_a_table_that_is_there_only_as_it_is_today_is_a_leak(con: Connection) -> None:
    con.execute("create schema crm")
    con.execute("create table crm.accounts as select 'p-u4' as person_id, true as has_left")
    leaky = project(
        FEATURES.replace("'DE' as country", "max(a.has_left::int) as has_left").replace(
            "group by", 'left join "lake"."crm"."accounts" a on a.person_id = i.person_id group by'
        ),
        {"propensity": {**SAID["propensity"], "features": ["event_count", "has_left"]}},
        extra=("crm.accounts",),
    )
    with pytest.raises(LeakError, match=r"models/marts/person_features.sql: it reads crm.accounts") as caught:
        propensities(leaky)
    assert "would learn from what came after" in str(caught.value)


def test_a_feature_that_is_no_column_is_named(con: Connection) -> None:
    wrong = project(said={"propensity": {**SAID["propensity"], "features": ["event_count", "visits"]}})
    with pytest.raises(DefinitionError, match="has no column 'visits'"):
        examples(wrong, con, asked(wrong), as_of=END, stitch=stitch)


def test_an_infinite_value_is_missing_and_no_number(con: Connection) -> None:
    infinite = project(FEATURES.replace("count(*)::double as event_count", "count(*) / 0.0 as event_count"))
    found = examples(infinite, con, asked(infinite), as_of=END, stitch=stitch)["churn"]
    assert len(found.labels)
    assert np.isnan(found.matrix[:, 0]).all()
    assert np.isfinite(found.matrix[:, 1]).all()


def test_a_history_that_is_too_short_has_no_examples(con: Connection) -> None:
    assert examples(project(), con, asked(project()), as_of=END - timedelta(days=40), stitch=stitch) == {}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "has no meta.segue.propensity"),
        ({"propensity": {"features": ["a"], "horizon": 3}}, "unknown key 'horizon'"),
        ({"propensity": {"features": []}}, "not a list of columns"),
        ({"propensity": {"features": ["a"], "horizon_days": 0}}, "horizon_days is 0"),
        ({"propensity": {"features": ["a"], "margin": 2}}, "margin is 2"),
    ],
)
def test_a_wrong_declaration_is_said_with_what_to_write(said: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        propensities(project(said=said))


def test_another_question_has_another_fingerprint() -> None:
    (one,) = propensities(project())
    assert replace(one, margin=0.1, description="other").fingerprint == one.fingerprint
    assert replace(one, horizon_days=7).fingerprint != one.fingerprint
    assert replace(one, features=("event_count",)).fingerprint != one.fingerprint
