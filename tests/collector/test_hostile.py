"""Clients that hold on, pour, or blow up change nothing for the others, who get their answers all the while."""

import base64
import gzip
import json
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import httpx
import psutil
import pytest

from tests.collector.conftest import Installation

SLOW = 600
CHUNK = os.urandom(1 << 20)
GIGABYTE = 1 << 30


def head(collector: Installation, *headers: str, path: str = "/v1/batch") -> bytes:
    key = base64.b64encode(f"{collector.key}:".encode()).decode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Basic {key}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def connect(collector: Installation) -> socket.socket:
    host, port = collector.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def pour(collector: Installation, first: bytes, parts: Iterator[bytes]) -> tuple[bytes, int]:
    """What is answered, and how many bytes of a body were taken until then."""
    sent = 0
    with connect(collector) as link:
        try:
            link.sendall(first)
            for part in parts:
                link.sendall(part)
                sent += len(part)
        except ConnectionError:
            pass
        try:
            return link.recv(4096), sent
        except ConnectionError:
            return b"", sent


def chunked(parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def gigabyte() -> Iterator[bytes]:
    for _ in range(GIGABYTE // len(CHUNK)):
        yield CHUNK


def bomb() -> bytes:
    """400 MB of zeros in less than a request may have."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(400)), packer.flush()])


@pytest.fixture(scope="module")
def packed() -> bytes:
    found = bomb()
    assert len(found) < 500 * 1024
    return found


def hostile(collector: Installation, packed: bytes) -> list[Callable[[], tuple[bytes, int]]]:
    size = f"Content-Length: {len(packed)}"
    return [
        lambda: pour(collector, head(collector, f"Content-Length: {GIGABYTE}"), gigabyte()),
        lambda: pour(collector, head(collector, "Transfer-Encoding: chunked"), chunked(gigabyte())),
        lambda: pour(collector, head(collector, size, "Content-Encoding: gzip"), iter([packed])),
        lambda: pour(collector, head(collector, size), iter([packed])),
        lambda: pour(collector, b"POST /v1/batch HTTP/1.1\r\n" + b"x: " + b"y" * 200_000, gigabyte()),
        lambda: pour(collector, head(collector, "Transfer-Encoding: chunked"), (b"1\r\nx\r\n" for _ in range(600_000))),
    ]  # fmt: skip


def test_others_are_answered_while_clients_hold_on_and_pour(collector: Installation, packed: bytes) -> None:
    process = psutil.Process(collector.process.pid)
    answers: list[tuple[bytes, int]] = []
    statuses: list[int] = []
    is_over = threading.Event()
    with httpx.Client(base_url=collector.url, auth=(collector.key, ""), timeout=60) as others:
        message = {"event": "Clicked", "userId": "ada"}
        assert others.post("/v1/track", json=message).status_code == 200
        before = process.memory_info().rss
        # Half of them never finish their header, half never their body.
        slow = [connect(collector) for _ in range(SLOW)]
        for number, link in enumerate(slow):
            link.sendall(b"POST /v1/track HT" if number % 2 else head(collector, "Content-Length: 400") + b'{"event"')
        attacks = hostile(collector, packed)

        def attack(one: Callable[[], tuple[bytes, int]]) -> None:
            answers.append(one())

        threads = [threading.Thread(target=attack, args=(one,)) for one in attacks]
        for thread in threads:
            thread.start()
        watcher = threading.Thread(target=lambda: ([t.join() for t in threads], is_over.set()))
        watcher.start()
        while not is_over.is_set() or len(statuses) < 300:
            statuses.append(others.post("/v1/track", json=message).status_code)
        watcher.join()
        for link in slow:
            assert link.fileno() > 0
            link.close()
        grown = process.memory_info().rss - before
    assert set(statuses) == {200}
    assert len(answers) == len(attacks)
    # Refused as soon as it is too much: nobody poured a gigabyte, or was let in.
    assert all(sent < GIGABYTE // 8 for _, sent in answers)
    assert all(not text or text.startswith(b"HTTP/1.1 4") for text, _ in answers)
    assert grown < 80_000_000
    assert len(collector.messages()) == len(statuses) + 1


def test_an_unpacked_bomb_is_refused_by_name(collector: Installation, client: httpx.Client, packed: bytes) -> None:
    for headers in ({"content-encoding": "gzip"}, {}):
        answer = client.post("/v1/batch", content=packed, headers=headers)
        assert (answer.status_code, "more than" in answer.text) == (400, True)
    nested = json.dumps({"batch": [{"type": "track", "properties": {"x": "y"}}]}).encode()
    assert client.post("/v1/batch", content=gzip.compress(gzip.compress(nested))).status_code == 400
    assert collector.lines() == []
