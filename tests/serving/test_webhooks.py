"""Each change reaches whoever subscribed: signed, in order for each person, at least once, whatever goes wrong."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from segue.clock import system_time
from segue.errors import ValkeyError
from segue.serving import Endpoint, Sender, Webhooks, add_endpoint, courier, post, remove_endpoint, subscriptions
from segue.serving.webhooks import EndpointChange
from segue.settings import Settings, child_environment
from segue.store import Store, Transition, Update, open_store
from segue.valkey import connect, running
from tests.serving.conftest import entered
from tests.serving.receiver import SECRET, Got, Receiver, receiving

BEFORE, AFTER = ("active_last_24h",), ("active_last_24h", "power_users")


@dataclass
class World:
    settings: Settings
    store: Store
    fence: int
    kept: Webhooks

    def happen(self, *transitions: Transition) -> None:
        update = Update(people=(), merged={}, gone=(), transitions=transitions, as_of=system_time())
        self.store.apply(update, token=self.fence, expected=self.store.position(), position="1")

    def call(self, name: str, receiver: Receiver, *segments: str) -> None:
        add_endpoint(self.settings, Endpoint(name=name, url=receiver.url, segments=segments, secret=SECRET))
        self.kept.begin(name)

    def standing(self, name: str):
        [found] = self.kept.standings([one for one in subscriptions(self.settings, {}) if one.name == name])
        return found

    def standing_of_named(self, name: str):
        named = {name: ["power_users"]}
        [found] = self.kept.standings([one for one in subscriptions(self.settings, named) if one.name == name])
        return found

    def wait(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        sender = Sender(self.settings, system_time)
        thread = threading.Thread(target=sender.run)
        thread.start()
        try:
            yield sender
        finally:
            sender.stop()
            thread.join()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # Without a dbt project: what YAML names is another test's matter.
    empty = tmp_path_factory.mktemp("no_project")
    settings = Settings(  # type: ignore[call-arg]
        home=tmp_path_factory.mktemp("webhooks"), dbt_project=empty, webhook_allow_private=True, _env_file=None
    )
    with running(settings):
        store = open_store(settings)
        fence = store.acquire("test", ttl_seconds=600)
        assert fence is not None
        yield World(settings, store, fence, Webhooks(settings))


@pytest.fixture
def world(valkey: World, monkeypatch: pytest.MonkeyPatch) -> World:
    client = connect(valkey.settings)
    for key in client.keys("segue:{store}:*"):
        if b"fence" not in key and b"lease" not in key:
            client.delete(key)
    (valkey.settings.home / "keys" / "webhooks.json").unlink(missing_ok=True)
    monkeypatch.setattr(courier, "PAUSES", (0.02, 0.05, 0.1))
    return valkey


def change(number: int, person: str, segment: str = "power_users") -> Transition:
    return replace(entered(number, segment), person_id=person, before=BEFORE, after=AFTER, recorded_at=system_time())


def test_a_change_arrives_signed_with_the_segments_before_and_after(world: World) -> None:
    with receiving() as one, receiving() as other, world.sending():
        world.call("crm", one, "power_users")
        world.call("all", other)
        world.happen(change(1, "p_1"), change(2, "p_1", "active_last_24h"))
        one.wait_for(1)
        other.wait_for(1, 2)
        got = one.taken[0]
        assert got.body["type"] == "segment.entered"
        data = got.body["data"]
        assert (data["personId"], data["segment"], data["change"]) == ("p_1", "power_users", "entered")
        assert (tuple(data["before"]), tuple(data["after"])) == (BEFORE, AFTER)
        world.wait(lambda: world.standing("crm").delivery.delivered == 1)
        assert [g.id for g in one.requests] == ["tr_t1"]
        assert one.forged == other.forged == 0


def test_a_person_s_changes_arrive_in_order_while_others_go_beside_them(world: World) -> None:
    chance = random.Random(1)
    transitions = [change(n, f"p_{chance.randrange(20)}") for n in range(300)]
    beside = [0, 0]

    def slow(_receiver: Receiver, _got: Got) -> int:
        beside[0] += 1
        beside[1] = max(beside)
        time.sleep(0.005)
        beside[0] -= 1
        return 500 if chance.random() < 0.02 else 200

    with receiving(slow) as receiver, world.sending():
        world.call("crm", receiver)
        for at in range(0, 300, 50):
            world.happen(*transitions[at : at + 50])
        receiver.wait_for(*range(300))
    for person in {t.person_id for t in transitions}:
        wanted = [f"tr_{t.transition_id}" for t in transitions if t.person_id == person]
        assert list(dict.fromkeys(g.id for g in receiver.taken if g.person == person)) == wanted
    assert beside[1] > 1


def test_a_failing_receiver_is_paused_and_told_of_and_delays_nobody(world: World) -> None:
    is_down = threading.Event()
    is_down.set()
    with receiving(lambda *_: 503 if is_down.is_set() else 200) as failing, receiving() as sound, world.sending():
        world.call("failing", failing)
        world.call("sound", sound)
        world.happen(*(change(n, f"p_{n}") for n in range(40)))
        sound.wait_for(*range(40))
        failing.wait(lambda: len(failing.requests) > 12)
        # Paused: one message at a time asks whether it is back, after what was under way.
        assert len({g.id for g in failing.requests}) <= 8
        standing = world.standing("failing")
        assert standing.delivery.failing_since is not None
        assert standing.delivery.next_at is not None
        assert (standing.waiting, standing.trouble) == (40, "the receiver answered 503")
        assert world.standing("sound").trouble == ""
        is_down.clear()
        failing.wait_for(*range(40))
        world.wait(lambda: world.standing("failing").delivery.failing_since is None)
        world.wait(lambda: world.standing("failing").waiting == 0)
        # Every attempt of a message has the same id and the same body.
        for number in range(40):
            assert len({g.raw for g in failing.attempts(number)}) == 1


def test_what_a_receiver_refuses_holds_up_that_person_only_and_ends_as_a_dead_letter(world: World) -> None:
    def picky(_receiver: Receiver, got: Got) -> int:
        return 422 if got.id == "tr_t1" else 200

    with receiving(picky) as receiver, world.sending():
        world.call("crm", receiver)
        world.happen(change(1, "p_1"), change(2, "p_1"), *(change(n, f"p_{n}") for n in range(3, 30)))
        receiver.wait_for(*range(3, 30))
        receiver.wait(lambda: len(receiver.attempts(1)) >= courier.REFUSED_ATTEMPTS)
        # The receiver must take others after the refusal, so that it is known to be the message.
        world.happen(change(30, "p_30"))
        receiver.wait_for(30, 2)
        world.wait(lambda: world.standing("crm").waiting == 0)  # noted a moment after the receiver has it
    assert len(receiver.attempts(1)) >= courier.REFUSED_ATTEMPTS
    assert all(g.id != "tr_t2" for g in receiver.requests[: receiver.requests.index(receiver.attempts(1)[-1])])
    [letter] = world.kept.dead("crm")
    assert (letter.transition.transition_id, letter.error) == ("t1", "the receiver answered 422")
    standing = world.standing("crm")
    assert (standing.held, standing.waiting, standing.dead_letters) == (0, 0, 1)
    assert "letters" in standing.trouble


@pytest.mark.parametrize("is_first", [True, False])
def test_a_receiver_that_fails_at_one_message_gets_all_others(
    world: World, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """Also when they are more than may be under way, and when it is the one that is tried while all is paused."""
    monkeypatch.setattr(courier, "_WINDOW", 24)
    with receiving(lambda _r, got: 500 if got.id == "tr_t1" else 200) as receiver, world.sending():
        world.call("crm", receiver)
        others = range(3, 80)
        if is_first:
            world.happen(change(1, "p_1"))
            receiver.wait(lambda: len(receiver.attempts(1)) >= 3)
            world.happen(change(2, "p_1"), *(change(n, f"p_{n}") for n in others))
        else:
            world.happen(change(1, "p_1"), change(2, "p_1"), *(change(n, f"p_{n}") for n in others))
        receiver.wait_for(*others)
        receiver.wait(lambda: len(receiver.attempts(1)) >= courier.REFUSED_ATTEMPTS)
        world.happen(change(9_999, "p_9999"))
        receiver.wait_for(9_999, 2)
        world.wait(lambda: world.standing("crm").waiting == 0)
    [letter] = world.kept.dead("crm")
    assert (letter.transition.transition_id, letter.error) == ("t1", "the receiver answered 500")


def test_a_receiver_that_refuses_everybody_is_paused_and_nothing_becomes_a_dead_letter(world: World) -> None:
    is_wrong = threading.Event()
    is_wrong.set()
    with receiving(lambda *_: 401 if is_wrong.is_set() else 200) as receiver, world.sending():
        world.call("crm", receiver)
        world.happen(*(change(n, f"p_{n % 15}") for n in range(60)))
        receiver.wait(lambda: any(len(receiver.attempts(n)) > 3 for n in range(15)))
        world.wait(lambda: world.standing("crm").delivery.failing_since is not None)
        assert world.standing("crm").waiting == 60
        is_wrong.clear()
        receiver.wait_for(*range(60))
    assert not world.kept.dead("crm")
    for person in range(15):
        order = [g.id for g in receiver.taken if g.person == f"p_{person}"]
        assert list(dict.fromkeys(order)) == [f"tr_t{n}" for n in range(60) if n % 15 == person]


def test_after_three_days_of_failure_only_what_is_that_old_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "GIVE_UP", timedelta(seconds=2))
    is_down = threading.Event()
    is_down.set()
    with receiving(lambda *_: 500 if is_down.is_set() else 200) as receiver, world.sending():
        world.call("crm", receiver)
        world.happen(*(change(n, f"p_{n % 3}") for n in range(600)))
        world.wait(lambda: len(world.kept.dead("crm")) == 600)
        world.happen(change(601, "p_1"))
        is_down.clear()
        receiver.wait_for(601)
    assert {g.id for g in receiver.taken} == {"tr_t601"}
    assert [d.transition.transition_id for d in world.kept.dead("crm")][:3] != []
    assert world.kept.dead("crm")[0].error == "the receiver answered 500"


def test_what_is_held_is_still_held_by_the_next_sender(world: World) -> None:
    with receiving(lambda _r, got: 422 if got.person == "p_1" else 200) as receiver:
        world.call("crm", receiver)
        with world.sending():
            world.happen(change(1, "p_1"), change(2, "p_1"), change(3, "p_3"))
            receiver.wait_for(3)
            world.wait(lambda: world.standing("crm").held == 2)
        receiver.answer = lambda *_: 200
        with world.sending():
            receiver.wait_for(1, 2)
        assert [g.id for g in receiver.taken] == ["tr_t3", "tr_t1", "tr_t2"]
        assert world.standing("crm").held == 0


def test_what_could_not_be_saved_is_saved_with_the_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that ends after a failed save must not move on past what it holds, and forget it."""
    is_away, real, tried = threading.Event(), Webhooks.save, threading.Event()
    is_away.set()

    def save(kept: Webhooks, changes: Iterable[EndpointChange]) -> None:
        tried.set()
        if is_away.is_set():
            raise ValkeyError("the store is away")
        real(kept, changes)

    monkeypatch.setattr(Webhooks, "save", save)
    # Neither the save nor the message is tried again before it ends.
    monkeypatch.setattr("segue.serving.sender._LOOK_SECONDS", 3_600.0)
    monkeypatch.setattr(courier, "PAUSES", (3_600,))
    with receiving(lambda _r, got: 422 if got.person == "p_1" else 200) as receiver:
        world.call("crm", receiver)
        world.happen(change(1, "p_1"))
        with world.sending():
            assert tried.wait(60)
            world.happen(change(2, "p_2"))
            receiver.wait_for(2)
            is_away.clear()
    assert [m.transition.transition_id for m in world.kept.held("crm")] == ["t1"]
    assert world.standing("crm").waiting == 1


def test_a_sender_that_cannot_keep_what_it_does_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it alive would send, and be asked nothing; whoever looks after it starts another."""

    def save(*_: object) -> None:
        raise RuntimeError("of no kind that is foreseen")

    monkeypatch.setattr(Webhooks, "save", save)
    sender = Sender(world.settings, system_time)
    with receiving() as receiver, ThreadPoolExecutor(1) as thread:
        world.call("crm", receiver)
        world.happen(change(1, "p_1"))
        ended = thread.submit(sender.run)
        try:
            with pytest.raises(RuntimeError, match="of no kind"):
                ended.result(60)
        finally:
            sender.stop()


def test_a_sender_that_is_killed_at_any_moment_loses_nothing(world: World) -> None:
    chance = random.Random(5)

    def slow(_receiver: Receiver, _got: Got) -> int:
        time.sleep(0.01)
        return 200

    command = [str(Path(sys.executable).parent / "segue"), "webhooks", "run"]
    env = child_environment(
        {
            "SEGUE_HOME": str(world.settings.home),
            "SEGUE_DBT_PROJECT": str(world.settings.dbt_project),
            "SEGUE_WEBHOOK_ALLOW_PRIVATE": "true",
        }
    )
    number = 0
    with receiving(slow) as receiver:
        world.call("crm", receiver)
        for _ in range(3):
            process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
            seen = len(receiver.requests)
            world.happen(*(change(number + n, f"p_{n % 7}") for n in range(80)))
            number += 80
            wanted = seen + chance.randrange(1, 60)
            receiver.wait(lambda wanted=wanted: len(receiver.requests) >= wanted)
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        receiver.wait_for(*range(number))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    for person in range(7):
        first_seen = list(dict.fromkeys(g.id for g in receiver.taken if g.person == f"p_{person}"))
        assert first_seen == [f"tr_t{n}" for n in range(number) if n % 80 % 7 == person]
    # Seen twice is only what was under way, or not yet noted, at one of the three kills.
    assert len(receiver.taken) < number + 3 * 80


def test_answers_without_end_are_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def pour(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(3_000):
            handler.wfile.write(b"x" * 1_000_000)

    before = psutil.Process().memory_info().rss
    with receiving(lambda *_: pour) as endless, world.sending():
        world.call("endless", endless)
        world.happen(*(change(n, f"p_{n}") for n in range(20)))
        world.wait(lambda: world.standing("endless").delivery.delivered == 20)
    assert psutil.Process().memory_info().rss < before + 60_000_000


def test_a_receiver_that_never_finishes_its_answer_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "_SECONDS", 0.5)
    is_over = threading.Event()

    def drip(handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not is_over.wait(0.05):
            handler.wfile.write(b"x: y\r\n")

    with receiving(lambda *_: drip) as slow, receiving() as sound, world.sending():
        world.call("slow", slow)
        world.call("sound", sound)
        world.happen(change(1, "p_1"))
        sound.wait_for(1)
        world.wait(lambda: world.standing("slow").trouble == "the receiver did not answer in time")
        is_over.set()


def test_a_redirect_is_not_followed_and_is_told_as_what_it_is(world: World) -> None:
    with receiving() as target:

        def moved(handler) -> None:
            handler.send_response(308)
            handler.send_header("location", target.url + "?key=secret")
            handler.send_header("content-length", "0")
            handler.end_headers()

        with receiving(lambda *_: moved) as receiver, world.sending():
            world.call("crm", receiver)
            world.happen(change(1, "p_1"))
            world.wait(lambda: world.standing("crm").delivery.attempts > 2)
            trouble = world.standing("crm").trouble
    assert trouble.startswith("the receiver answered 308, a redirect to http://127.0.0.1/hook; none is followed")
    assert "secret" not in trouble
    assert target.requests == []


def test_two_hundred_idle_endpoints_ask_the_store_no_more_than_one_does(world: World) -> None:
    client = connect(world.settings)

    def commands_in_three_seconds(sender: Sender) -> int:
        world.wait(lambda: len(sender._couriers) == len(subscriptions(world.settings, {})))
        before = int(client.info("stats")["total_commands_processed"])
        time.sleep(3.0)
        return int(client.info("stats")["total_commands_processed"]) - before

    with receiving() as receiver:
        world.call("first", receiver, "nobody")
        with world.sending() as sender:
            alone = commands_in_three_seconds(sender)
            for number in range(200):
                add_endpoint(
                    world.settings,
                    Endpoint(name=f"e{number}", url=receiver.url, segments=("nobody",), secret=SECRET),
                )
            together = commands_in_three_seconds(sender)
            world.happen(*(change(n, "p_1") for n in range(50)))
            world.wait(lambda: world.kept.outbox.committed("webhook:e199") == world.kept.outbox.newest())
    assert together < alone + 20
    assert receiver.requests == []


def test_an_endpoint_that_is_gone_holds_back_no_outbox(world: World) -> None:
    world.kept.keep_named({"named": ["power_users"]})  # as if YAML had named one
    with receiving() as receiver, world.sending():
        world.call("crm", receiver)
        world.call("old", receiver)
        world.wait(lambda: world.kept.readers() == {"crm", "old", "named"})
        remove_endpoint(world.settings, "old")
        world.wait(lambda: world.kept.readers() == {"crm", "named"})
        world.happen(change(1, "p_1"))
        receiver.wait_for(1)


def test_what_a_running_sender_holds_of_a_removed_endpoint_is_not_the_next_one_s(world: World) -> None:
    def add(url: str) -> None:
        made = Endpoint(name="crm", url=url, secret=SECRET, created_at=system_time())
        add_endpoint(world.settings, made)
        world.kept.begin("crm", made.created_at)

    with receiving(lambda *_: 422) as old, receiving() as new, world.sending() as sender:
        add(old.url)
        world.happen(change(1, "p_1"), change(2, "p_1"))
        world.wait(lambda: world.standing("crm").held == 2)
        # As the command does it; and the next one comes before the sender has looked again.
        world.kept.forget("crm")
        remove_endpoint(world.settings, "crm")
        add(new.url)
        world.wait(lambda: {c.subscription.endpoint.url for c, _ in sender._couriers.values()} == {new.url})
        world.happen(change(3, "p_1"))
        new.wait_for(3)
        assert world.standing("crm").held == 0
        # Also when it is only removed.
        new.answer = lambda *_: 422
        world.happen(change(4, "p_1"))
        world.wait(lambda: world.standing("crm").held == 1)
        world.kept.forget("crm")
        remove_endpoint(world.settings, "crm")
        world.wait(lambda: "crm" not in sender._couriers)
    assert "tr_t1" not in {got.id for got in new.requests}
    assert "crm" not in world.kept.readers()
    assert (world.kept.held("crm"), world.kept.state("crm").last_error) == ([], "")


def test_the_second_sender_of_a_home_waits_for_the_first(world: World) -> None:
    with receiving() as receiver:
        world.call("crm", receiver)
        with world.sending(), world.sending():
            world.happen(*(change(n, f"p_{n}") for n in range(50)))
            receiver.wait_for(*range(50))
            world.wait(lambda: world.standing("crm").waiting == 0)
    assert len(receiver.requests) == 50
