"""An API in a process of its own over a store with two people."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest

from segue.clock import system_time
from segue.keys import READ, create_key
from segue.settings import Settings
from segue.store import PersonState, Store, Transition, Update, open_store
from segue.valkey import connect, running
from tests.processes import start, stop

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def state(person: str, segments: tuple[str, ...], identifiers: tuple[tuple[str, str], ...]) -> PersonState:
    return PersonState(
        person_id=person,
        segments=dict.fromkeys(segments, NOON),
        features={"event_count": 3},
        identifiers=identifiers,
        as_of=NOON,
    )


def entered(number: int, segment: str = "power_users") -> Transition:
    return Transition(
        transition_id=f"t{number}",
        person_id=f"p_{number}",
        segment=segment,
        change="entered",
        effective_at=NOON,
        recorded_at=NOON,
        cause="event",
        before=(),
        after=(segment,),
    )


@dataclass
class Served:
    settings: Settings
    url: str
    token: str
    store: Store
    fence: int

    def apply(self, *people: PersonState, transitions: tuple[Transition, ...] = ()) -> None:
        update = Update(people=people, merged={}, gone=(), transitions=transitions, as_of=system_time())
        self.store.apply(update, token=self.fence, expected=self.store.position(), position="1")


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(home=tmp_path_factory.mktemp("serving"), _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        token = create_key(settings, "test", as_of=system_time(), kind=READ)
        process, url = start(settings, "api", says="API")
        store = open_store(settings)
        fence = store.acquire("test", ttl_seconds=600)
        assert fence is not None
        yield Served(settings, url, token, store, fence)
        assert stop(process) == 0


@pytest.fixture
def api(served: Served) -> Served:
    client = connect(served.settings)
    for key in client.keys("segue:{store}:*"):
        if b"fence" not in key and b"lease" not in key:
            client.delete(key)
    ada = state(
        "p_1",
        ("power_users", "active_last_24h"),
        (("user_id", "ada"), ("anonymous_id", "a/b c"), ("email", "b10a8db164e0754105b7a99be72e3fe5")),
    )
    served.apply(ada, state("p_2", ("power_users",), (("user_id", "bob"),)))
    header = {"Authorization": f"Bearer {served.token}"}
    while httpx.get(f"{served.url}/v1/status", headers=header, timeout=60).json()["asOf"] is None:
        time.sleep(0.05)  # how fresh answers are is looked at beside requests
    return served


@pytest.fixture
def client(api: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.token}"}, timeout=20) as found:
        yield found
