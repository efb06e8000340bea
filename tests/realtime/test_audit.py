"""Differences between the store and the models are planted, one of each kind: found, named, repaired and told."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.identity.graph import person_id_of
from segue.log import open_log
from segue.models import Model, Project
from segue.realtime.audit import AuditReport, audit, audit_and_repair
from segue.settings import Settings
from segue.store import Store, Transition, keys, open_store, take_snapshot
from segue.store.model import stamp_text
from segue.valkey import connect, running
from tests.realtime.fakes import judge
from tests.realtime.test_service import Running, fill_warehouse, messages, track, until
from tests.realtime.world import START, raw_events

NOW = START + timedelta(minutes=1)

MEAN = Model(
    name="mean", schema="marts", identifier="mean", path="models/marts/mean.sql", materialized="table",
    is_append_only=False, description="", depends_on=("person_features",), sources=(),
    meta={"segue": {"scope": "population"}}, definition_hash="m",
    compiled_sql='select avg(event_count) as n from "lake"."marts"."person_features"',
)  # fmt: skip
ABOVE = Model(
    name="above_mean", schema="segments", identifier="above_mean", path="models/segments/above_mean.sql",
    materialized="table", is_append_only=False, description="", depends_on=("mean", "person_features"), sources=(),
    meta={}, definition_hash="a",
    compiled_sql='select person_id from "lake"."marts"."person_features"'
    ' where event_count > (select n from "lake"."marts"."mean")',
)  # fmt: skip


class World:
    """An installation with a history, a log, a store, and an engine that may be stopped."""

    def __init__(self, settings: Settings, project: Project) -> None:
        self.settings, self.project = settings, project
        self.log = open_log(settings)
        self.store: Store = open_store(settings)
        self.client = connect(settings)
        self.now = NOW
        self.engine: Running | None = None

    def start(self) -> None:
        self.engine = Running(self.settings, self.log, self.store, lambda: self.now)  # type: ignore[arg-type]
        self.settled()

    def stop(self) -> None:
        if self.engine is not None:
            self.engine.stop()
            assert self.engine.error is None, self.engine.error
            self.engine = None

    def put(self, batch: list[dict[str, Any]]) -> None:
        lines = [json.dumps(m, default=lambda t: t.isoformat()) for m in batch]
        asyncio.run(self.log.append([("\n".join(lines) + "\n").encode()]))
        self.settled()

    def settled(self) -> None:
        """The engine has come to the end of the log, has evaluated everybody, and has said so."""
        newest = self.log.status().newest
        until(lambda: self.store.position() == newest and self.store.as_of() is not None)
        mark = self.store.status().engine.get("mark", 0)
        self.say({"to_evaluate": 1, "mark": mark})
        until(lambda: self.store.status().engine.get("to_evaluate") == 0)

    def say(self, status: dict[str, Any]) -> None:
        """Have the engine seem to say something else of itself."""
        self.client.hset(keys.META, "status", json.dumps(status))

    def plant(self, person: str, segments: tuple[str, ...] | None) -> None:
        """Have the store say something else of a person."""
        if segments is None:
            self.client.hdel(keys.SEGMENTS, person)
        else:
            self.client.hset(keys.SEGMENTS, person, json.dumps(dict.fromkeys(segments, stamp_text(START))))

    def told(self, after: str) -> list[Transition]:
        return [row.transition for row in self.store.outbox.read(after, limit=1000)]

    def audit(self, project: Project | None = None) -> AuditReport:
        return audit(self.settings, project or self.project, judge)

    def repair(self) -> AuditReport:
        return audit_and_repair(self.settings, self.project, judge)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, hard_settings: Settings, hard_project: Project) -> Iterator[World]:
    home: Path = tmp_path_factory.mktemp("audit")
    settings = Settings(home=home, dbt_project=hard_settings.dbt_project, _env_file=None)  # type: ignore[call-arg]
    project = replace(hard_project, models=(*hard_project.models, MEAN, ABOVE))
    batches = messages()
    fill_warehouse(settings, raw_events([m for batch in batches[:8] for m in batch]))
    set_mean(settings, 3)
    with pytest.MonkeyPatch.context() as patch, running(settings):
        patch.setattr("segue.realtime.service.prepare", lambda _settings: project)
        patch.setattr("segue.realtime.service.fingerprint_of", lambda _settings: project.fingerprint)
        patch.setattr("segue.realtime.service._WAREHOUSE_SECONDS", 1e9)
        found = World(settings, project)
        found.start()
        for batch in batches[8:]:
            found.put(batch)
        joined = START + timedelta(seconds=30)
        found.put([track(900, START, anonymous_id="a9"), track(901, START, user_id="u9")])
        found.put([track(902, joined, anonymous_id="a9", user_id="u9", type="identify", event=None)])
        yield found
        found.stop()


def set_mean(settings: Settings, value: float) -> None:
    from segue.warehouse import Warehouse

    with Warehouse(settings).write("test") as con:
        con.execute("create schema if not exists marts")
        con.execute(f"create or replace table marts.mean as select {value}::double as n")


def causes(report: AuditReport) -> dict[tuple[str, str, bool], str]:
    return {(d.person_id, d.segment, d.is_served): d.cause for d in report.differences if d.cause != "not_landed"}


def test_what_has_not_landed_is_counted_and_no_fault(world: World) -> None:
    report = world.audit()
    assert (report.faults, report.not_compared) == ((), {})
    assert {"above_mean", "seen_today", "power_users"} <= set(report.segments)
    assert report.membership_count == sum(map(len, take_snapshot(world.settings).people.values())) > 20
    assert (report.in_warehouse, report.not_landed, report.not_read) == (40, 18, 0)
    # Those whom the warehouse knows nothing of yet.
    assert {d.cause for d in report.differences} == {"not_landed"}
    assert any(d.person_id == person_id_of("anonymous_id", "a9") and d.is_served for d in report.differences)


def test_a_wrong_membership_is_found_and_corrected_and_told(world: World) -> None:
    people = take_snapshot(world.settings).people
    person, own = next((p, s) for p, s in people.items() if "active_last_24h" in s)
    world.plant(person, (*(s for s in own if s != "active_last_24h"), "inactive_72h"))
    ghost = "p_nobody"
    world.plant(ghost, ("power_users",))
    before = world.store.outbox.newest()
    report = world.repair()
    assert causes(report) == {
        (person, "active_last_24h", False): "unknown",
        (person, "inactive_72h", True): "unknown",
        (ghost, "power_users", True): "unknown",
    }
    assert (report.repaired, report.left) == (3, 0)
    assert {(t.person_id, t.segment, t.change, t.cause) for t in world.told(before)} == {
        (person, "active_last_24h", "entered", "audit"),
        (person, "inactive_72h", "exited", "audit"),
        (ghost, "power_users", "exited", "audit"),
    }
    assert take_snapshot(world.settings).people == people
    assert world.audit().faults == ()


def test_a_merge_that_only_one_side_knows_is_told_as_a_merge(world: World) -> None:
    stayed = person_id_of("user_id", "u9")
    if world.store.merged_among([stayed]):
        stayed, gone = person_id_of("anonymous_id", "a9"), stayed
    else:
        gone = person_id_of("anonymous_id", "a9")
    own = take_snapshot(world.settings).people[stayed]
    world.client.hdel(keys.MERGED, gone)
    world.plant(gone, own)
    world.plant(stayed, None)
    before = world.store.outbox.newest()
    report = world.repair()
    assert set(causes(report).values()) == {"merge"}
    assert {d.person_id for d in report.faults} == {gone, stayed}
    assert report.left == 0
    told = world.told(before)
    assert {t.change for t in told} == {"merged"}
    assert {(t.person_id, t.segment) for t in told} == {(p, s) for p in (gone, stayed) for s in own}
    assert world.store.merged_among([gone]) == {gone: stayed}


def test_a_merge_that_only_the_store_knows_is_undone(world: World) -> None:
    people = take_snapshot(world.settings).people
    person, other = list(people)[:2]
    world.plant(person, None)
    world.client.hset(keys.MERGED, person, other)
    report = world.repair()
    assert {(d.person_id, d.cause) for d in report.faults} == {(person, "merge")}
    assert report.left == 0
    assert take_snapshot(world.settings).people == people
    assert world.store.merged_among([person]) == {}


def test_a_definition_that_the_engine_does_not_have_yet_is_named(world: World) -> None:
    inner = world.project.by_name["seen_today"]
    other = replace(inner, definition_hash="other", compiled_sql="select null::varchar as person_id where false")
    changed = replace(world.project, models=tuple(other if m is inner else m for m in world.project.models))
    report = world.audit(changed)
    assert report.faults
    assert {(d.segment, d.is_served, d.cause) for d in report.faults} == {("seen_today", True, "definition")}
    removed = replace(world.project, models=tuple(m for m in world.project.models if m is not inner))
    assert {(d.segment, d.cause) for d in world.audit(removed).faults} == {("seen_today", "definition")}


def test_a_held_value_that_is_stale_is_named_and_read_again(world: World) -> None:
    before = world.store.outbox.newest()
    set_mean(world.settings, 1_000)
    report = world.audit()
    assert report.faults
    assert {(d.segment, d.is_served, d.cause) for d in report.faults} == {("above_mean", True, "population")}
    # Looking at those people again does not help: all is loaded anew.
    repaired = world.repair()
    assert (len(repaired.faults), repaired.left) == (len(report.faults), 0)
    assert {(t.segment, t.change, t.cause) for t in world.told(before)} == {("above_mean", "exited", "audit")}
    assert world.audit().faults == ()


def test_the_engine_reads_a_held_value_again_by_itself(world: World) -> None:
    world.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segue.realtime.service._WAREHOUSE_SECONDS", 0.1)
        world.start()
        before = world.store.outbox.newest()
        set_mean(world.settings, 2)
        until(lambda: bool(world.told(before)))
        world.settled()
        world.stop()
    assert {(t.segment, t.change, t.cause) for t in world.told(before)} == {("above_mean", "entered", "population")}
    world.start()


def test_what_the_engine_has_not_heard_of_is_no_fault(world: World) -> None:
    report = world.audit()
    fill_warehouse(world.settings, raw_events([track(5000, NOW, user_id="imported", event="Premium Feature Used")]))
    later = world.audit()
    assert later.faults == ()
    mine = [d for d in later.differences if d.person_id == person_id_of("user_id", "imported")]
    assert {(d.is_served, d.cause) for d in mine} == {(False, "not_landed")}
    assert len(later.differences) == len(report.differences) + len(mine)


def test_a_change_of_time_is_the_sweeps_until_its_bound(world: World) -> None:
    world.stop()
    as_of = max(world.store.as_of(), datetime.fromisoformat(world.store.status().engine["as_of"]))
    midnight = (as_of + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)

    def at(moment: datetime) -> AuditReport:
        status = {**world.store.status().engine, "as_of": moment.isoformat()}
        world.say(status)
        return world.audit()

    found = at(midnight + timedelta(seconds=world.settings.sweep_seconds - 1))
    assert {(d.segment, d.is_served, d.cause) for d in found.differences if d.cause != "not_landed"} >= {
        ("seen_today", True, "time")
    }
    assert "seen_today" not in {d.segment for d in found.faults}
    late = at(midnight + timedelta(seconds=world.settings.sweep_seconds))
    assert ("seen_today", "unknown") in {(d.segment, d.cause) for d in late.faults}


def test_nothing_is_compared_while_everybody_is_evaluated(world: World, settings: Settings) -> None:
    world.say({"to_evaluate": 12})
    assert "12 are left" in world.audit().postponed
    with running(settings):
        assert "nobody yet" in audit(settings, world.project, judge).postponed


def test_an_engine_that_does_not_answer_repairs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stop()
    world.say({"to_evaluate": 0})
    report = audit_and_repair(world.settings, world.project, judge, wait_seconds=0.2)
    assert report.faults
    assert report.left == len(report.faults)
