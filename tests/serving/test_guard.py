"""Who sends a body is looked at before it is read; it has a limit of size and of time."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from segue.serving.guard import BODY_BYTES, Guard
from segue.serving.problems import Problem
from tests.serving.conftest import Served

PATH = "/v1/people/segments"


class World:
    """An application behind the guard, and a client that sends parts."""

    def __init__(self, parts: Iterator[bytes], *, seconds: float = 20) -> None:
        self.parts, self.seconds = parts, seconds
        self.received = 0
        self.bodies: list[bytes] = []
        self.sent: list[dict[str, Any]] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == PATH:
            self.bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive(self) -> dict[str, Any]:
        part = next(self.parts, None)
        if part is None:
            await asyncio.Event().wait()
        self.received += 1
        return {"type": "http.request", "body": part, "more_body": part != b"end"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def ask(self, *headers: tuple[bytes, bytes], path: str = PATH, refused: Problem | None = None) -> int:
        guard = Guard(self.app, refusal=lambda _: refused, seconds=self.seconds)
        scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
        asyncio.run(guard(scope, self.receive, self.send))
        return int(self.sent[0]["status"])

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.sent[0]["headers"]


def test_a_body_is_passed_on_as_a_whole() -> None:
    world = World(iter([b"a", b"b", b"end"]))
    assert world.ask() == 200
    assert world.bodies == [b"abend"]
    assert not world.closes


def test_nothing_is_read_of_who_may_not_ask() -> None:
    world = World(iter([b"a"]))
    assert world.ask(refused=Problem(401, "no", "ask")) == 401
    assert (world.received, world.closes) == (0, True)


def test_what_is_too_large_is_refused_by_its_announcement_or_where_it_passes_the_limit() -> None:
    announced = World(iter([b"a"]))
    assert announced.ask((b"content-length", b"%d" % (BODY_BYTES + 1))) == 413
    assert announced.received == 0
    poured = World(b"x" * 1_000_000 for _ in range(300))
    assert poured.ask() == 413
    assert (poured.received, poured.closes) == (3, True)
    assert "2,000,000 bytes" in orjson.loads(poured.sent[1]["body"])["detail"]


def test_what_does_not_come_in_time_is_refused() -> None:
    world = World(iter([b"a"]), seconds=0.01)
    assert (world.ask(), world.closes, world.bodies) == (408, True, [])


def test_nothing_is_read_where_nothing_takes_a_body() -> None:
    world = World(iter([b"a"]))
    world.ask(path="/health")
    assert (world.received, world.closes) == (0, True)


@pytest.mark.parametrize("header", ["", "Authorization: Bearer {token}\r\n"])
def test_the_api_reads_no_body_without_end(api: Served, header: str) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    sent, chunk = 0, b"10000\r\n" + bytes(0x10000) + b"\r\n"
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{header.format(token=api.token)}\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as link:
        try:
            link.sendall(head.encode())
            for _ in range(2_000):
                link.sendall(chunk)
                sent += 0x10000
        except ConnectionError:
            pass
    assert sent < 20_000_000


def test_a_refusal_says_what_is_wrong(api: Served, client: httpx.Client) -> None:
    assert httpx.post(api.url + PATH, content=b"{").status_code == 401
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as link:
        size, bearer = f"Content-Length: {BODY_BYTES + 1}", f"Authorization: Bearer {api.token}"
        link.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n{size}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer
    assert client.post(PATH, json={"identifiers": ["ada"]}).json()["people"][0]["personId"] == "p_1"
