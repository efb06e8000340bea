"""Streams: many at once, beside everybody else, and each only for as long as its token is one."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import redis.exceptions

from segue.clock import system_time
from segue.keys import READ, create_key, revoke_key
from segue.serving import stream
from segue.serving.stream import Streams
from segue.store.model import transition_json
from tests.serving.conftest import Served, entered
from tests.waiting import until

#: More than a client of Valkey has connections.
MANY = 120


@contextmanager
def following(api: Served, token: str) -> Iterator[socket.socket]:
    """A stream that is open."""
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as link:
        request = f"GET /v1/transitions/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        link.sendall(request.encode() + b"Connection: close\r\n\r\n")
        read_to(link, b"transitions follow")
        yield link


def read_to(link: socket.socket, text: bytes) -> bytes:
    found = b""
    while text not in found:
        part = link.recv(65536)
        assert part, found
        found += part
    return found


def test_everybody_is_answered_beside_many_streams_and_each_stream_is_told(api: Served, client: httpx.Client) -> None:
    with ExitStack() as links:
        open_ones = [links.enter_context(following(api, api.token)) for _ in range(MANY)]
        for path in ("people/ada", "people/ada/segments", "segments", "segments/power_users/members", "status"):
            assert client.get(f"/v1/{path}").status_code == 200, path
        assert client.get("/health").status_code == 200
        api.apply(transitions=(entered(1),))
        for link in open_ones:
            assert b"p_1" in read_to(link, b"data: ")


def test_a_stream_ends_when_its_token_is_revoked_and_the_others_go_on(api: Served) -> None:
    token = create_key(api.settings, "leaver", as_of=system_time(), kind=READ)
    header = {"Authorization": f"Bearer {token}"}
    until(lambda: httpx.get(f"{api.url}/v1/segments", headers=header).status_code == 200)
    with following(api, token) as ends, following(api, api.token) as stays:
        revoke_key(api.settings, "leaver", as_of=system_time(), kind=READ)
        assert not all(ends.recv(65536) for _ in range(6)), "it only says that it is still here"
        api.apply(transitions=(entered(1),))
        read_to(stays, b"data: ")


class Away:
    """A client whose store is away for its first two questions, and then has one transition."""

    def __init__(self) -> None:
        self.asked = 0

    async def xread(self, *_: object, **__: object) -> object:
        self.asked += 1
        if self.asked < 3:
            raise redis.exceptions.ConnectionError
        if self.asked > 3:
            await asyncio.Event().wait()
        return [[b"outbox", [(b"5-1", {b"t": transition_json(entered(1))})]]]


def test_a_stream_waits_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PAUSE_SECONDS", 0)

    async def run() -> list[bytes]:
        client = Away()
        streams = Streams(client, lambda: "")  # type: ignore[arg-type]
        text = streams.events("", frozenset(), None, lambda: True)
        found = [await anext(text), await anext(text)]
        await text.aclose()
        return found

    assert b'"personId":"p_1"' in asyncio.run(run())[1]


def test_there_are_so_many_streams_and_one_that_ends_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_STREAMS", 1)

    async def run() -> None:
        streams = Streams(Away(), lambda: "")  # type: ignore[arg-type]
        text = streams.events("", frozenset(), None, lambda: True)
        assert not streams.is_full
        await anext(text)
        assert streams.is_full
        await text.aclose()
        assert not streams.is_full

    asyncio.run(run())
