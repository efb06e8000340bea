"""What the API promises to applications."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from segue.clock import system_time
from segue.identifiers import Normaliser, load_key
from segue.keys import READ, create_key, revoke_key
from segue.serving.limits import RateLimit
from tests.serving.conftest import Served, entered, state
from tests.waiting import until

SINCE = "2026-03-02T12:00:00.000000Z"


@pytest.mark.parametrize("identifier", ["p_1", "ada", "user_id:ada", "a/b c", "anonymous_id:a/b c"])
def test_a_person_is_found_by_any_identifier(client: httpx.Client, identifier: str) -> None:
    answer = client.get(f"/v1/people/{quote(identifier, safe='')}/segments")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["personId"] == "p_1"
    assert found["segments"] == {"active_last_24h": SINCE, "power_users": SINCE}
    assert found["asOf"].endswith("Z")
    assert 0 <= found["lagSeconds"] < 60


def test_an_email_address_may_be_given_in_clear(api: Served, client: httpx.Client) -> None:
    hashed = Normaliser(load_key(api.settings)).email("eve@shop.example")
    api.apply(state("p_3", (), (("email", hashed),)))
    for given in ("Eve@shop.example", "email:eve@shop.example", f"email:{hashed}"):
        assert client.get(f"/v1/people/{quote(given)}/segments").json()["personId"] == "p_3"


def test_a_profile_has_features_and_identifiers(client: httpx.Client) -> None:
    found = client.get("/v1/people/bob").json()
    assert found["features"] == {"event_count": 3}
    assert found["identifiers"] == [{"type": "user_id", "value": "bob"}]
    assert found["segments"] == {"power_users": SINCE}


def test_many_are_asked_for_at_once_and_the_unknown_are_named(client: httpx.Client) -> None:
    found = client.post("/v1/people/segments", json={"identifiers": ["ada", "nobody", "p_2"]}).json()
    assert [(p["identifier"], p["personId"]) for p in found["people"]] == [("ada", "p_1"), ("p_2", "p_2")]
    assert found["unknown"] == ["nobody"]
    assert client.post("/v1/people/segments", json={"identifiers": ["x"] * 1001}).status_code == 422


def test_members_come_a_page_at_a_time(client: httpx.Client) -> None:
    first = client.get("/v1/segments/power_users/members", params={"limit": 1}).json()
    assert (first["members"], first["next"]) == (["p_1"], "p_1")
    last = client.get("/v1/segments/power_users/members", params={"limit": 1, "after": first["next"]}).json()
    assert (last["members"], last["next"]) == (["p_2"], None)
    assert client.get("/v1/segments/no_such/members").status_code == 404


def test_segments_are_listed_with_their_sizes_and_owners(client: httpx.Client) -> None:
    def listed() -> dict[str, dict[str, Any]]:
        return {row["segment"]: row for row in client.get("/v1/segments").json()["segments"]}

    until(lambda: listed()["power_users"]["description"], seconds=60)  # the dbt project is read beside requests
    found = listed()
    assert found["power_users"]["people"] == 2
    assert found["inactive_72h"]["people"] == 0


@pytest.mark.parametrize(
    "path",
    ["/v1/people/ada", "/v1/people/ada/segments", "/v1/segments", "/v1/segments/power_users/members", "/v1/status",
     "/v1/transitions/stream"],
)  # fmt: skip
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YWRhOg=="}])
def test_nothing_of_people_is_told_without_a_token(api: Served, path: str, header: dict[str, str]) -> None:
    answer = httpx.get(api.url + path, headers=header)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "segue tokens create" in answer.json()["fix"]
    assert "p_1" not in answer.text


def status_for(api: Served, key: str) -> int:
    return httpx.get(api.url + "/v1/segments", headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_revoked_token_opens_nothing(api: Served) -> None:
    key = create_key(api.settings, "gone", as_of=system_time(), kind=READ)
    until(lambda: status_for(api, key) == 200, seconds=5)
    revoke_key(api.settings, "gone", as_of=system_time(), kind=READ)
    until(lambda: status_for(api, key) == 401, seconds=5)


def test_a_write_key_does_not_read(api: Served) -> None:
    key = create_key(api.settings, "web", as_of=system_time())
    later = create_key(api.settings, "later", as_of=system_time(), kind=READ)
    until(lambda: status_for(api, later) == 200, seconds=5)  # whatever was made before is known as well
    assert status_for(api, key) == 401


def test_a_bucket_empties_and_fills_for_each_token() -> None:
    now = 0.0
    limit = RateLimit(2, lambda: now)
    assert [limit.wait_seconds("a") for _ in range(3)] == [0, 0, 0.5]
    assert limit.wait_seconds("b") == 0
    now = 0.5
    assert [limit.wait_seconds("a") for _ in range(2)] == [0, 0.5]


def test_an_unknown_person_is_a_problem_that_does_not_repeat_the_identifier(client: httpx.Client) -> None:
    answer = client.get("/v1/people/secret@example.com/segments")
    assert answer.status_code == 404
    assert answer.json()["title"] == "Not Found"
    assert "/docs" in client.get("/").json()["fix"]
    assert "secret" not in answer.text


def lines_of(
    client: httpx.Client, wanted: int, *, then: Callable[[], None] = lambda: None, **more: object
) -> list[dict[str, str]]:
    """So many events of the stream; `then` happens when it is open."""
    found: list[dict[str, str]] = []
    with client.stream("GET", "/v1/transitions/stream", **more) as answer:  # type: ignore[arg-type]
        then()
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line == "" and "data" in event:
                found.append(event)
                event = {}
            elif name:
                event[name] = value
            if len(found) == wanted:
                return found
    return found


def test_transitions_are_streamed_filtered_and_resumed(api: Served, client: httpx.Client) -> None:
    api.apply(transitions=(entered(7),))  # before the stream: not told

    def later() -> None:
        api.apply(transitions=(entered(1, "other"), entered(1), entered(2)))

    found = lines_of(client, 2, then=later, params={"segment": "power_users"})
    assert [json.loads(event["data"])["personId"] for event in found] == ["p_1", "p_2"]
    assert found[0]["event"] == "entered"
    again = lines_of(client, 1, headers={"Last-Event-ID": found[0]["id"]}, params={"person": "bob"})
    assert json.loads(again[0]["data"])["personId"] == "p_2"
    assert client.get("/v1/transitions/stream", headers={"Last-Event-ID": "x"}).status_code == 422


def test_health_and_metrics_are_open_and_say_nothing_of_people(api: Served) -> None:
    assert httpx.get(api.url + "/health").json() == {"status": "ok"}
    text = httpx.get(api.url + "/metrics").text
    assert "segue_store_up 1.0" in text
    assert "p_1" not in text
    assert "ada" not in text
