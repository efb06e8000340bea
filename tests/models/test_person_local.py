"""A model that can be evaluated for one person alone is told from one that looks at everyone, and it is true."""
# ruff: noqa: E501 — a case is a line

from pathlib import Path

import pytest

from segue.models import person_local, prepare, warehouse_only
from segue.settings import Settings
from tests.models.local_world import World, is_same_alone, project

LOCAL = {
    "features_with_a_limit": "select person_id from {features} where event_count > 3",
    "group_by_person": "select person_id, count(*) as n from {int_events} where person_id is not null group by person_id",
    "group_by_place_and_alias": "select person_id as p, country as c, count(*) from {sessions} group by 1, c",
    "group_by_all": "select person_id, country, count(*) from {sessions} group by all",
    "group_by_session": "select session_id, any_value(person_id) as person_id from {sessions} group by session_id",
    "grouping_sets_with_person": "select person_id, country, count(*) from {sessions} group by grouping sets ((person_id), (person_id, country))",
    "window_by_person": "select person_id, row_number() over (partition by person_id order by started_at) as n from {sessions}",
    "named_window": "select person_id, lag(started_at) over w as x from {sessions} window w as (partition by person_id order by started_at)",
    "qualify_last": "select * from {sessions} qualify row_number() over (partition by person_id order by started_at desc) = 1",
    "window_by_message": "select message_id, count(*) over (partition by message_id) as n from {stg_events}",
    "distinct_people": "select distinct person_id, country from {sessions}",
    "distinct_on_person": "select distinct on (person_id) person_id, started_at from {sessions} order by person_id, started_at",
    "join_by_person": "select f.person_id, s.started_at from {features} f join {sessions} s on f.person_id = s.person_id and s.started_at < f.last_seen_at",
    "join_using": "select person_id, count(*) as n from {features} join {sessions} using (person_id) group by person_id",
    "natural_join": "select person_id from {features} natural join (select person_id, min(started_at) as began_at from {sessions} group by 1)",
    "comma_join": "select a.person_id from {sessions} a, {features} b where a.person_id = b.person_id and a.event_count > 1",
    "left_join_by_person": "select f.person_id, s.country from {features} f left join {sessions} s on s.person_id = f.person_id and s.event_count > 2",
    "full_join_by_person": "select coalesce(a.person_id, b.person_id) as person_id from (select person_id from {sessions} where country = 'de') a full join {features} b on a.person_id = b.person_id",
    "full_join_using_then_group": "select person_id, count(*) as n from (select person_id from {sessions}) a full join (select person_id from {features}) b using (person_id) group by person_id",
    "anti_join": "select f.person_id from {features} f anti join (select person_id from {sessions} where country = 'de') s on s.person_id = f.person_id",
    "asof_join": "select a.person_id, b.started_at from {sessions} a asof join {sessions} b on a.person_id = b.person_id and a.started_at > b.started_at",
    "self_join_on_session": "select a.person_id from {sessions} a join {sessions} b on a.session_id = b.session_id",
    "or_with_person_each": "select a.person_id from {sessions} a join {sessions} b on (a.person_id = b.person_id and a.country = 'de') or (a.person_id = b.person_id and a.country = 'fr')",
    "exists_of_the_person": "select person_id from {features} f where exists (select 1 from {sessions} s where s.person_id = f.person_id and s.country = 'de')",
    "not_exists_of_the_person": "select person_id from {features} f where not exists (select 1 from {sessions} s where s.person_id = f.person_id and s.event_count > 2)",
    "scalar_of_the_person": "select person_id, (select max(s.started_at) from {sessions} s where s.person_id = f.person_id) as x from {features} f",
    "limit_within_the_person": "select person_id, (select s.country from {sessions} s where s.person_id = f.person_id order by s.started_at limit 1) as x from {features} f",
    "lateral_of_the_person": "select f.person_id, x.n from {features} f, lateral (select count(*) as n from {sessions} s where s.person_id = f.person_id) x",
    "in_people": "select person_id from {features} where person_id in (select person_id from {sessions} where country = 'de')",
    "not_in_people": "select person_id from {features} where person_id not in (select person_id from {sessions} where country = 'de')",
    "in_nullable_people": "select person_id from {features} where person_id in (select person_id from {int_events} where country = 'de')",
    "union_all": "select person_id from {features} union all select person_id from {sessions}",
    "union_of_people": "select person_id from {features} union select person_id from {sessions}",
    "except_people": "select person_id from {features} except select person_id from {sessions} where country = 'de'",
    "intersect_people": "select person_id from {features} intersect select person_id from {sessions} where country = 'de'",
    "typed_identifiers": "select e.message_id, i.person_id from {stg_events} e join {identifiers} i on i.identifier_value = e.user_id and i.identifier_type = 'user_id'",
    "typed_in_where": "select i.person_id from {stg_events} e join {identifiers} i on i.identifier_value = e.anonymous_id where i.identifier_type = 'anonymous_id'",
    "typed_group": "select identifier_type, identifier_value, count(*) from {identifiers} group by all",
    "typed_union": "select kind, value, count(*) from (select 'user_id' as kind, user_id as value from {stg_events} union all select 'anonymous_id', anonymous_id from {stg_events}) where value is not null group by kind, value",
    "typed_self_join": "select a.person_id from {identifiers} a join {identifiers} b on a.identifier_type = b.identifier_type and a.identifier_value = b.identifier_value",
    "user_group": "select user_id, count(*) from {stg_events} where user_id is not null group by user_id",
    "held_cross_join": "select f.person_id from {features} f cross join (select max(few) as few from {limits}) l where f.event_count > l.few",
    "held_scalar": "select person_id from {features} where event_count > (select max(few) from {limits})",
    "held_left_join": "select f.person_id, l.few from {features} f left join {limits} l on l.country = f.country",
    "held_by_person": "select c.person_id, count(*) from {assignments} c join {sessions} s on c.person_id = s.person_id group by c.person_id",
    "held_right_join": "select f.person_id from {limits} l right join {features} f on l.country = f.country",
    "days_of_a_person": "select person_id, unnest(generate_series(started_at, ended_at, interval 1 day)) as day from {sessions}",
    "generated_days": "select f.person_id, d.n from {features} f, range(3) d(n)",
    "values_list": "select f.person_id, v.c from {features} f join (values ('de'), ('fr')) v(c) on v.c = f.country",
    "recursive_of_the_person": "with recursive r(person_id, n) as (select person_id, 1 from {features} union all select r.person_id, n + 1 from r join {sessions} s on s.person_id = r.person_id where n < 2) select person_id, max(n) as n from r group by person_id",
    "unused_step": "with a as (select avg(event_count) as x from {features}) select person_id from {features}",
    "the_clock": "select person_id from {features} where last_seen_at > getvariable('as_of') - interval 1 day",
    "concat_key": "select person_id || '-' || country as k, any_value(person_id) as person_id from {sessions} where country is not null group by k having count(*) > 0",
}

MIXING = {
    "average": ("select person_id from {features} where event_count > (select avg(event_count) from {features})", "event_count"),
    "rank": ("select person_id, rank() over (order by event_count) as r from {features}", "RANK()"),
    "percent_rank_in_country": ("select person_id, percent_rank() over (partition by country order by event_count) as r from {features}", "PARTITION BY"),
    "top": ("select person_id from {features} order by event_count desc, person_id limit 1", "LIMIT 1"),
    "offset": ("select person_id from {features} order by person_id offset 1", "OFFSET"),
    "no_group": ("select max(person_id) as person_id, count(*) as n from {sessions}", "MAX(person_id)"),
    "group_by_country": ("select country, count(*) as n, min(person_id) as person_id from {sessions} group by country", "GROUP BY country"),
    "group_by_nullable_user": ("select user_id, count(*) as n from {stg_events} group by user_id", "GROUP BY user_id"),
    "group_by_nullable_person": ("select person_id, count(*) as n from {int_events} group by person_id", "GROUP BY"),
    "group_by_lowered": ("select left(user_id, 1) as u, count(*) as n from {stg_events} where user_id is not null group by u", "GROUP BY"),
    "group_by_mixed_ids": ("select coalesce(user_id, anonymous_id) as v, count(*) as n from {stg_events} where coalesce(user_id, anonymous_id) is not null group by v", "GROUP BY"),
    "rollup": ("select person_id, country, count(*) as n from {sessions} group by rollup (person_id, country)", "ROLLUP"),
    "grouping_sets": ("select person_id, count(*) as n from {sessions} group by grouping sets ((person_id), ())", "GROUPING SETS"),
    "distinct_countries": ("select distinct country from {sessions}", "DISTINCT"),
    "distinct_on_country": ("select distinct on (country) country, person_id from {sessions} order by country, person_id", "country"),
    "cross_join": ("select a.person_id from {features} a cross join {features} b", "CROSS JOIN"),
    "join_by_country": ("select a.person_id, b.person_id as other from {features} a join {features} b on a.country = b.country", "country"),
    "join_by_either": ("select a.person_id from {features} a join {sessions} b on a.person_id = b.person_id or a.country = b.country", "OR"),
    "left_join_where_later": ("select a.person_id, b.person_id as o from {features} a left join {sessions} b on a.country = b.country", "LEFT JOIN"),
    "user_is_browser": ("select a.message_id from {stg_events} a join {stg_events} b on a.user_id = b.anonymous_id", "anonymous_id"),
    "untyped_identifier": ("select e.message_id, i.person_id from {stg_events} e join {identifiers} i on i.identifier_value = e.user_id", "JOIN"),
    "untyped_group": ("select identifier_value, count(*) as n from {identifiers} group by 1", "GROUP BY"),
    "friend": ("select a.person_id, f.person_id as friend from {features} a join {assignments} c on c.person_id = a.person_id join {features} f on f.person_id = c.friend_id", "friend_id"),
    "friend_group": ("select c.friend_id, count(*) as n from {sessions} s join {assignments} c on s.country is not null group by c.friend_id", "GROUP BY"),
    "exists_anybody": ("select person_id from {features} where exists (select 1 from {sessions} where country = 'de')", "EXISTS"),
    "exists_by_country": ("select person_id from {features} f where exists (select 1 from {sessions} s where s.country = f.country and s.person_id <> f.person_id)", "EXISTS"),
    "scalar_by_country": ("select person_id, (select count(*) from {sessions} s where s.country = f.country) as n from {features} f", "COUNT"),
    "in_countries": ("select person_id from {features} where country in (select country from {sessions} where person_id < 'p2')", "IN"),
    "not_in_nullable": ("select person_id from {features} where person_id not in (select person_id from {int_events} where country = 'de')", "null"),
    "union_of_countries": ("select country from {features} union select country from {sessions}", "UNION"),
    "union_with_nobody": ("select person_id from {features} union all select 'p9'", "UNION ALL"),
    "except_countries": ("select country from {features} except select country from {sessions} where event_count > 1", "EXCEPT"),
    "nobody_except_people": ("select 'p' || n as person_id from range(9) r(n) except select person_id from {features}", "EXCEPT"),
    "list_left_join_people": ("select l.country, f.person_id from {limits} l left join {features} f on f.country = l.country", "LEFT JOIN"),
    "people_full_join_list": ("select l.country, f.person_id from {features} f full join {limits} l on f.country = l.country", "FULL"),
    "list_anti_join_people": ("select l.country from {limits} l anti join {features} f on f.country = l.country", "ANTI"),
    "lateral_by_country": ("select f.person_id, x.n from {features} f, lateral (select count(*) as n from {sessions} s where s.country = f.country) x", "COUNT"),
    "asof_anybody": ("select a.person_id, b.person_id as o from {sessions} a asof join {sessions} b on a.started_at > b.started_at", "ASOF"),
    "positional": ("select a.person_id, b.person_id as o from {features} a positional join {sessions} b", "POSITIONAL"),
    "histogram": ("select histogram(country) as h from {sessions}", "histogram"),
    "quantile": ("select person_id from {features} where event_count >= (select quantile_cont(event_count, 0.5) from {features})", "QUANTILE_CONT"),
    "window_of_a_group": ("select person_id, sum(count(*)) over () as n from {sessions} group by person_id", "OVER"),
    "recursive_over_country": ("with recursive r as (select person_id, country from {features} union select f.person_id, f.country from r join {features} f on f.country = r.country) select count(*) as n from r", "JOIN"),
    "raw_events": ("select message_id from {raw}", "raw"),
    "pivot": ("select * from (pivot (select person_id, country from {sessions}) on country using count(*))", ""),
}  # fmt: skip

#: Refused for another reason than that other people's rows are in it, or where these few events do not show it.
NOT_SEEN = {"raw_events", "pivot", "nobody_except_people", "friend_group"}
WORLDS = [World(seed) for seed in range(12)]


@pytest.mark.parametrize("name", LOCAL)
def test_what_is_accepted_gives_each_component_alone_what_it_gives_everyone(name: str) -> None:
    made = project({name: LOCAL[name]}, {"members": f"select person_id from {{{name}}}"})
    assert person_local(made).get(name) is None
    assert all(is_same_alone(made, name, world) for world in WORLDS)


@pytest.mark.parametrize("name", MIXING)
def test_what_looks_at_other_people_is_refused_with_its_expression(name: str) -> None:
    sql, part = MIXING[name]
    made = project({name: sql}, {"members": f"select f.person_id from {{features}} f, {{{name}}}"})
    refusal = person_local(made)[name]
    assert refusal.path.endswith(f"/{name}.sql")
    assert refusal.fix
    assert part.lower() in (refusal.expression + refusal.reason).lower()
    assert warehouse_only(made)["members"] == refusal
    if name not in NOT_SEEN:
        assert not all(is_same_alone(made, name, world) for world in WORLDS), "refused without need"


@pytest.mark.parametrize("word", ["now()", "current_timestamp", "current_date", "random()", "uuid()", "today()"])
def test_an_answer_that_changes_by_itself_is_refused(word: str) -> None:
    refused = person_local(project({}, {"s": f"select person_id from {{features}} where {word} is not null"}))
    assert "another answer each time" in refused["s"].reason


def test_population_model_may_look_at_everyone_and_is_held() -> None:
    average = {"average": "select avg(event_count) as x from {features}"}
    segment = {"s": "select person_id from {features} where event_count > (select x from {average})"}
    assert set(person_local(project(average, segment))) == {"average"}
    assert person_local(project(average, segment, {"average": {"scope": "population"}})) == {}


def test_segments_of_the_warehouse_are_not_looked_at() -> None:
    segment = {"s": "select person_id from {features} limit 1"}
    assert warehouse_only(project({}, segment, {"s": {"realtime": False}})) == {}


def test_segment_must_answer_with_the_person_whose_rows_it_read() -> None:
    for sql in (
        "select user_id as person_id from {stg_events}",
        "select c.friend_id as person_id from {features} f join {assignments} c on c.person_id = f.person_id",
        "select person_id from {assignments}",
    ):
        assert set(person_local(project({}, {"s": sql}))) == {"s"}
    joined = "select c.person_id from {features} f join {assignments} c on c.person_id = f.person_id"
    assert person_local(project({}, {"s": joined})) == {}


def test_refusal_names_the_line_in_the_analysts_file(tiny: Path, tiny_settings: Settings) -> None:
    sql = "with people as (select * from {{ ref('person_features') }})\n\nselect person_id\nfrom people\n"
    (tiny / "models/segments/top.sql").write_text(
        sql + "where event_count >\n    (select avg(event_count) from people)\n"
    )
    features = tiny / "models/marts/person_features.sql"
    features.write_text(features.read_text().replace("= e.user_id", "= e.user_id and i.identifier_type = 'user_id'"))
    refusal = person_local(prepare(tiny_settings))["top"]
    assert refusal.line == 6
    assert refusal.reason.startswith("models/segments/top.sql, line 6: ")


def test_refused_segment_stays_in_the_warehouse_unless_its_yaml_asks_for_real_time(
    tiny: Path, tiny_settings: Settings
) -> None:
    everyone = "select person_id from {{ ref('stg_events') }} join {{ source('identity', 'identifiers') }}"
    everyone += " on user_id = identifier_value and identifier_type = 'user_id' order by occurred_at limit 10"
    for name in ("wished", "silent"):
        (tiny / f"models/segments/{name}.sql").write_text(everyone)
    (tiny / "models/segments/wished.yml").write_text(
        "models:\n  - name: wished\n    config: {meta: {segue: {realtime: true}}}\n"
    )
    found = prepare(tiny_settings)
    assert [b.name for b in found.broken] == ["wished"]
    assert "LIMIT 10" in found.broken[0].reason
    assert "realtime" in found.broken[0].fix
    assert "silent" in {s.name for s in found.segments}
    assert "silent" in warehouse_only(found)


def test_shipped_segments_are_all_real_time(tmp_path: Path) -> None:
    shipped = prepare(Settings(home=tmp_path / "home", _env_file=None))  # type: ignore[call-arg]
    assert person_local(shipped) == {}
    assert len(shipped.segments) >= 11
