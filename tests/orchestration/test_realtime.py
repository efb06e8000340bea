"""Real time on the graph: observations, incidents, the audit."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from segue.realtime.audit import AuditReport, MembershipDifference
from segue.settings import Settings
from segue.store import Store, keys, open_store
from segue.valkey import running

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def store(installation: Any) -> Iterator[Store]:
    """The store of the installation, empty whoever ran before, with an engine that says that all is well."""
    settings = Settings(home=installation.home, _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        found = open_store(settings)
        found._client.flushdb()
        token = found.acquire("engine 7", ttl_seconds=600)
        assert token is not None
        found.note({"timers": 3, "definition_error": ""}, token=token)
        yield found
        found.release(token)


def say(store: Store, error: str) -> None:
    """Have the engine say so."""
    store._client.hset(keys.META, "status", json.dumps({"definition_error": error}))


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    from orchestration.definitions import defs
    from orchestration.resources import Warehouse
    from sensors.realtime import realtime

    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"warehouse": Warehouse()}, definitions=defs
    )
    return realtime.evaluate_tick(context)


def told(installation: Any) -> list[tuple[Any, ...]]:
    return [(kind, channel) for kind, _, channel, _ in installation.alerts() if kind in ("trouble", "recovered")]


def test_where_real_time_was_never_started_there_is_nothing_to_say(installation: Any) -> None:
    from orchestration.jobs import hourly_audit

    with dg.DagsterInstance.ephemeral() as instance:
        answer = tick(instance)
        assert "does not run here" in answer.skip_message
        assert answer.asset_events == []
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=NOON)
        assert "does not run here" in (hourly_audit.evaluate_tick(context).skip_message or "")


def test_real_time_is_observed_and_an_incident_is_told_once_and_its_end_once(installation: Any, store: Store) -> None:
    before = told(installation)
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(instance)
        assert first.skip_message == "all is well"
        seen = {event.asset_key.path[-1]: event.metadata for event in first.asset_events}
        assert seen.keys() == {"log", "memberships", "webhooks"}
        assert seen["memberships"]["engine"].value == "engine 7"
        assert seen["memberships"]["timers"].value == 3
        assert seen["log"]["ceiling, bytes"].value > 0
        assert seen["webhooks"]["dead letters"].value == 0
        assert tick(instance, first.cursor).asset_events == []

        say(store, "power_users.sql, line 3: no such column")
        broken = tick(instance, first.cursor)
        assert broken.skip_message.startswith("A definition is broken")
        assert len(broken.asset_events) == 3
        again = tick(instance, broken.cursor)
        assert again.asset_events == []
        say(store, "")
        mended = tick(instance, again.cursor)
        assert mended.skip_message == "all is well"
        tick(instance, mended.cursor)
    news = [kind for kind, _channel in told(installation)]
    assert sorted(news) == sorted([*(kind for kind, _ in before), "trouble", "recovered"])


def test_what_a_tick_cannot_write_is_told_once_by_a_later_one(
    installation: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensors import failures, realtime

    for sensor in (failures, realtime):
        monkeypatch.setattr(sensor, "_PATIENCE", 0.0)
    before = len(told(installation))
    with dg.DagsterInstance.ephemeral() as instance:
        say(store, "inactive_72h.sql, line 7: no such column")
        seen = tick(instance)
        with installation.warehouse.lock.held("a long refresh"):
            waits = tick(instance, seen.cursor)
            assert "1 alerts wait" in waits.skip_message
            assert "a long refresh" in waits.skip_message
        assert len(told(installation)) == before
        for cursor in (seen.cursor, waits.cursor, waits.cursor):  # as after ticks that were cut short
            done = tick(instance, cursor)
        assert len(told(installation)) == before + 1
        tick(instance, done.cursor)
        assert len(told(installation)) == before + 1


def test_an_audit_of_a_store_that_nobody_filled_says_so(installation: Any, store: Store) -> None:
    from assets.realtime import audit
    from orchestration.resources import Warehouse

    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([audit], instance=instance, resources={"warehouse": Warehouse()})
        (check,) = done.get_asset_check_evaluations()
        assert check.passed
        assert "nobody yet" in (check.description or "")


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize(
    ("causes", "repaired", "passed", "severity"),
    [
        ((), 0, True, None),
        (("not_landed", "time"), 0, True, None),
        (("merge", "not_landed"), 1, False, dg.AssetCheckSeverity.WARN),
        (("unknown", "population"), 1, False, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_a_fault_fails_the_check_and_is_an_error_while_it_is_there(
    causes: tuple[Any, ...], repaired: int, passed: bool, severity: dg.AssetCheckSeverity | None
) -> None:
    from assets.realtime import tell

    differences = tuple(
        MembershipDifference(person_id=f"p_{n}", segment="power_users", is_served=True, cause=cause)
        for n, cause in enumerate(causes)
    )
    result = tell(AuditReport(as_of=NOON, segments=("power_users",), differences=differences, repaired=repaired))
    (check,) = result.check_results or []
    assert check.passed == passed
    if severity is not None:
        assert check.severity == severity
        assert causes[0] in (check.description or "")
        assert "p_0" in str((result.metadata or {})["faults"])
