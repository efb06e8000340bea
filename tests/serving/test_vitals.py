"""What is wrong by one look, and what is told of it over several."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from segue.log import Lag, LogStatus
from segue.serving import Endpoint, Webhooks, add_endpoint, remove_endpoint
from segue.serving.vitals import Receiver, Trouble, Vitals, facts, follow, from_json, look, to_json, troubles
from segue.serving.webhooks import EndpointChange
from segue.settings import Settings
from tests.serving.conftest import Served, entered

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NONE = Lag(entries=0, bytes=0, seconds=0.0)
LOG = LogStatus(entries=9, bytes=900, ceiling_bytes=2_000, newest="9", lags={"engine": NONE, "landing": NONE})
WELL = Vitals(log=LOG, lease="engine 1", as_of=NOON, people=3, engine={"as_of": NOON.isoformat()})
MAIL = Receiver(name="mail", waiting=0, dead_letters=0, failing_since=None, last_error="")


def with_lag(reader: str, seconds: float) -> Vitals:
    lag = Lag(entries=7, bytes=70, seconds=seconds)
    return replace(WELL, log=replace(LOG, lags={**LOG.lags, reader: lag}))


CASES = {
    "server": Vitals(),
    "engine": replace(WELL, lease=None),
    "engine_lag": with_lag("engine", 61),
    "silent": replace(WELL, engine={"as_of": (NOON - timedelta(minutes=11)).isoformat()}),
    "definition": replace(WELL, engine={**WELL.engine, "definition_error": "power_users.sql, line 3: no such column"}),
    "landing_lag": with_lag("landing", 601),
    "log_full": replace(WELL, log=replace(LOG, bytes=1_601)),
    "dead:mail": replace(WELL, receivers=[replace(MAIL, dead_letters=2)]),
    "webhooks": replace(WELL, receivers_fault="webhooks.json is damaged"),
    "fault:mail": replace(WELL, receivers=[replace(MAIL, fault="it has no address")]),
    "failing:mail": replace(WELL, receivers=[replace(MAIL, failing_since=NOON - timedelta(minutes=11))]),
}


@pytest.mark.parametrize("key", CASES)
def test_each_trouble_is_named(key: str) -> None:
    (found,) = troubles(CASES[key], is_wanted=True, as_of=NOON)
    assert found.key.split(":")[0] == key.split(":")[0]
    assert found.title
    assert found.detail


def test_what_is_well_or_was_never_started_is_no_trouble() -> None:
    assert troubles(WELL, is_wanted=True, as_of=NOON) == []
    assert troubles(Vitals(), is_wanted=False, as_of=NOON) == []
    assert troubles(replace(WELL, lease=None), is_wanted=False, as_of=NOON) == []
    # Nobody says that it should run, but events wait for it.
    waiting = replace(with_lag("engine", 5), lease=None)
    assert [t.key for t in troubles(waiting, is_wanted=False, as_of=NOON)] == ["engine"]
    away = replace(WELL, receivers=[replace(MAIL, failing_since=NOON - timedelta(minutes=9))])
    assert troubles(away, is_wanted=True, as_of=NOON) == []


def test_a_trouble_is_told_once_and_its_end_once_also_after_a_restart() -> None:
    behind = Trouble(key="engine_lag", title="The engine is behind", detail="d", size=70)
    told = []
    known = {}
    for at, found in enumerate([[behind], [behind], [replace(behind, size=90)], [], []]):
        known, news = follow(known, found, as_of=NOON + timedelta(seconds=30 * at))
        known = from_json(json.loads(json.dumps(to_json(known))))
        told.append([(n.title, n.is_over) for n in news])
    assert told == [[], [("The engine is behind", False)], [], [("Over: The engine is behind", True)], []]
    assert known == {}


def test_what_passes_in_a_moment_is_not_told() -> None:
    starts = Trouble(key="engine", title="No engine", detail="")
    known, news = follow({}, [starts], as_of=NOON)
    assert news == []
    assert follow(known, [], as_of=NOON) == ({}, [])


def test_what_is_certain_is_told_at_once_and_again_when_it_has_grown() -> None:
    dead = Trouble(key="dead:mail", title="dead letters", detail="", size=1, is_certain=True)
    known, subjects = {}, []
    for size in (1, 9, 10, 11, 99, 100):
        known, news = follow(known, [replace(dead, size=size)], as_of=NOON)
        subjects += [n.subject_id for n in news]
    assert len(subjects) == len(set(subjects)) == 3  # at 1, 10 and 100


def test_a_look_finds_what_there_is(api: Served) -> None:
    name = "vitals"
    add_endpoint(api.settings, Endpoint(name=name, url="https://example.com/h", created_at=NOON, secret="whsec_AAAA"))
    kept = Webhooks(api.settings)
    try:
        kept.begin(name)
        api.apply(transitions=(entered(1),))
        kept.save([EndpointChange(name=name, dead=[(entered(2), "the receiver answered 400")])])
        said = {"as_of": NOON.isoformat(), "timers": 4, "left_out": {"ranked": "looks at everyone"}}
        api.store.note(said, token=api.fence)
        seen = look(api.settings)
        assert (seen.people, seen.lease) == (2, "test")
        (receiver,) = seen.receivers
        assert (receiver.waiting, receiver.dead_letters) == (1, 1)
        shown = facts(seen)
        assert shown["memberships"]["timers"] == 4
        assert shown["memberships"]["left to the warehouse"] == "ranked: looks at everyone"
        assert shown["webhooks"] == {"endpoints": 1, "waiting": 1, "dead letters": 1, "failing": "none"}
        assert shown["log"]["lag of engine, entries"] == 0
        assert [t.key for t in troubles(seen, is_wanted=True, as_of=NOON)] == ["dead:vitals"]
    finally:
        remove_endpoint(api.settings, name)
        kept.forget(name)
    assert facts(Vitals()) == {}


@pytest.mark.parametrize("spoil", ["damaged", "not a file"])
def test_a_list_of_webhooks_that_cannot_be_read_hides_nothing_else(api: Served, spoil: str) -> None:
    path = api.settings.home / "keys" / "webhooks.json"
    path.unlink(missing_ok=True)
    if spoil == "damaged":
        path.write_text("[{")
    else:
        path.mkdir()
    try:
        seen = look(api.settings)
    finally:
        path.unlink() if path.is_file() else path.rmdir()
    assert (seen.people, seen.lease) == (2, "test")
    assert seen.log is not None
    [trouble] = troubles(seen, is_wanted=True, as_of=NOON)
    assert "webhooks.json" in trouble.detail
    assert "webhooks.json" in str(facts(seen)["webhooks"])


def test_a_server_that_is_away_is_all_that_is_told(settings: Settings) -> None:
    add_endpoint(settings, Endpoint(name="crm", url="https://example.com/h", created_at=NOON, secret="whsec_AAAA"))
    assert look(settings) == Vitals()
