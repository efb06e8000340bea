"""A project in a few lines, and events of people who have nothing to do with one another."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from segue.models import Model, Project, run_chain
from segue.models.check import empty_lake
from segue.models.project import quote
from segue.warehouse import Connection

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)

EVENTS = """
select message_id, type as event_type, event as event_name, timestamp as occurred_at, received_at, user_id,
    anonymous_id, previous_id as device_id, name as country, cast(load_id as double) as revenue, load_id
from "lake"."raw"."events"
"""
PEOPLE_EVENTS = """
with users as (select * from "lake"."identity"."identifiers" where identifier_type = 'user_id'),
browsers as (
    select identifier_value, person_id from "lake"."identity"."identifiers" where identifier_type = 'anonymous_id'
)
select coalesce(users.person_id, browsers.person_id) as person_id, events.*
from "lake"."staging"."stg_events" as events
left join users on events.user_id = users.identifier_value
left join browsers on events.anonymous_id = browsers.identifier_value
"""
SESSIONS = """
with numbered as (
    select *, sum(case when occurred_at <= earlier + interval 30 minute then 0 else 1 end)
        over (partition by person_id order by occurred_at, message_id) as number
    from (
        select *, lag(occurred_at) over (partition by person_id order by occurred_at, message_id) as earlier
        from "lake"."marts"."int_events" where person_id is not null
    )
)
select md5(concat(person_id, '|', cast(min(occurred_at) as varchar))) as session_id, person_id,
    min(occurred_at) as started_at, max(occurred_at) as ended_at, count(*) as event_count, max(country) as country
from numbered group by person_id, number
"""
FEATURES = """
select person_id, count(*) as session_count, sum(event_count)::bigint as event_count, max(ended_at) as last_seen_at,
    max(country) as country
from "lake"."marts"."sessions" group by 1
"""
BASE = {
    "stg_events": ("staging", EVENTS),
    "int_events": ("marts", PEOPLE_EVENTS),
    "sessions": ("marts", SESSIONS),
    "features": ("marts", FEATURES),
}
#: What the warehouse holds and nobody evaluates.
HELD = {
    "clusters.assignments": "select 'p' || n as person_id, 'c' || n % 2 as cluster_name,"
    " 'p' || (n + 1) % 4 as friend_id from range(3) r(n)",
    "clusters.limits": "select 'de' as country, 2 as few union all select 'fr', 4",
}


def expand(sql: str) -> str:
    """`{sessions}` becomes the relation."""
    names = {name: f'"lake"."{schema}"."{name}"' for name, (schema, _) in BASE.items()}
    names |= {r.partition(".")[2]: '"lake".' + ".".join(map(quote, r.split("."))) for r in HELD}
    names |= {"identifiers": '"lake"."identity"."identifiers"', "raw": '"lake"."raw"."events"'}
    for name, relation in names.items():
        sql = sql.replace("{" + name + "}", relation)
    return sql


def project(
    marts: Mapping[str, str] | None = None,
    segments: Mapping[str, str] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Project:
    """The base models, and more, in this order. `meta`: model → meta.segue."""
    models = [_model(name, schema, sql, {}) for name, (schema, sql) in BASE.items()]
    for schema, made in (("marts", marts or {}), ("segments", segments or {})):
        for name, sql in made.items():
            found = expand(sql)
            for other in marts or {}:
                found = found.replace("{" + other + "}", f'"lake"."marts"."{other}"')
            models.append(_model(name, schema, found, (meta or {}).get(name, {})))
    return Project(
        fingerprint="",
        project_dir=Path("/nowhere"),
        target_dir=Path("/nowhere"),
        models=tuple(models),
        source_columns={"clusters.limits": {"country": "varchar", "few": "integer"},
                        "clusters.assignments": {"friend_id": "varchar"}},
    )  # fmt: skip


def _model(name: str, schema: str, sql: str, said: Mapping[str, Any]) -> Model:
    return Model(
        name=name,
        schema=schema,
        identifier=name,
        path=f"models/{schema}/{name}.sql",
        materialized="incremental" if name == "stg_events" else "table",
        is_append_only=name == "stg_events",
        description="",
        depends_on=tuple(n for n in BASE if f'"."{n}"' in sql),
        sources=("raw.events",) if '"raw"."events"' in sql else (),
        meta={"segue": dict(said)},
        compiled_sql=sql.strip(),
        definition_hash=name,
    )


class World:
    """Messages of a few components, some of which have no person, some two of equal names in other roles."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.events: list[tuple[Any, ...]] = []  # component first
        self.identifiers: list[tuple[Any, ...]] = []
        for component in range(5):
            # One component's user_id is another's anonymous_id.
            user = f"k{component}" if chance.random() < 0.8 else None
            browser = f"k{(component + 1) % 5}" if chance.random() < 0.7 or user is None else None
            for kind, identifier in (("user_id", user), ("anonymous_id", browser)):
                if identifier is not None and component != 4:  # nobody knows the last one
                    self.identifiers.append((component, kind, identifier, f"p{component}", NOW, NOW, NOW))
            for _ in range(chance.randrange(1, 7)):
                number = len(self.events)
                at = NOW - timedelta(minutes=10 * chance.randrange(1, 300))
                one = [user, browser] if chance.random() < 0.5 else chance.choice([[user, None], [None, browser]])
                self.events.append(
                    (component, f"m{number}", chance.choice(["track", "page"]), chance.choice(["A", "B"]), at, one[0],
                     one[1], chance.choice(["de", "fr", None]), chance.randrange(4))
                )  # fmt: skip
        self.components = range(5)
        self._built: dict[int | None, Connection] = {}

    def built(self, component: int | None) -> Connection:
        """A lake with the base models, made once."""
        if component not in self._built:
            con = self._built[component] = self.lake(component)
            assert not run_chain(con, project().models, as_of=NOW)
        return self._built[component]

    def lake(self, component: int | None = None) -> Connection:
        """With everything, or with what one component sent."""
        con = empty_lake()
        con.execute("create schema raw; create schema identity; create schema clusters")
        con.execute(
            "create table raw.events (message_id varchar, type varchar, event varchar, timestamp timestamp,"
            " received_at timestamp, user_id varchar, anonymous_id varchar, name varchar, load_id bigint,"
            " previous_id varchar)"
        )
        con.execute(
            "create table identity.identifiers (identifier_type varchar, identifier_value varchar, person_id varchar,"
            " first_seen_at timestamp, last_seen_at timestamp, assigned_at timestamp)"
        )
        for c, message, kind, event, at, user, browser, country, load in self.events:
            if component in (None, c):
                naive = at.replace(tzinfo=None)
                row = [message, kind, event, naive, naive, user, browser, country, load]
                con.execute("insert into raw.events values ($1, $2, $3, $4, $5, $6, $7, $8, $9, null)", row)
        for c, *row in self.identifiers:
            if component in (None, c):
                row[3:] = [t.replace(tzinfo=None) for t in row[3:]]
                con.execute("insert into identity.identifiers values ($1, $2, $3, $4, $5, $6)", row)
        for relation, sql in HELD.items():
            con.execute(f"create table {relation} as {sql}")
        return con


def answer(con: Connection, project: Project, name: str) -> list[str]:
    """What a model answers, in any order, on a lake that has the base models."""
    failed = run_chain(con, [m for m in project.models if m.name not in BASE], as_of=NOW)
    assert name not in failed, failed[name]
    found = sorted(map(repr, con.execute(f"from {project.by_name[name].quoted}").fetchall()))
    return found


def is_same_alone(project: Project, name: str, world: World) -> bool:
    """Whether the answers for each component alone add up to the answer for all."""
    whole = answer(world.built(None), project, name)
    parts = [row for c in world.components for row in answer(world.built(c), project, name)]
    return whole == sorted(parts)
