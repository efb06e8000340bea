"""Whatever arrives: an answer or a closed connection, never a fault, and no memory that grows."""

import base64
import gzip
import json
import os
import random
from datetime import timedelta

import httpx
import psutil
import pytest

from segue.clock import system_time
from segue.events import Judge
from tests.collector.conftest import Installation
from tests.raw_bytes import send_broken

REQUESTS = 10_000
RAW = 2_000
PATHS = [
    *(f"/v1/{name}" for name in ("track", "t", "batch", "b", "import", "i", "p", "m", "x", "%00", "projects/")),
    "/", "/health", "/v1/projects/%ff/settings", "/v1/track/", "//v1/track", "/v1/track?writeKey=x",
]  # fmt: skip
PIECES = [
    "null", "true", "{}", "[]", '""', "0", "-0", "1e308", "1e999", "123456789012345678901234567890", '"\\u0000"',
    '"\\ud800"', '"ü"', '"\\"', "[[[[", "}", ",", ":", '"type"', '"track"', '"batch"', '"messageId"', '"context"',
    '"_source"', '"receivedAt"', '"timestamp"', '"sentAt"', '"writeKey"', '"properties"', "{", "\n", "\r", "\t", "NaN",
    "[" * 3000, "a" * 5000,
]  # fmt: skip
KEYS = ["type", "event", "userId", "messageId", "context", "_source", "receivedAt", "timestamp", "sentAt", "writeKey",
        "integrations", "originalTimestamp", "batch", "traits", "x"]  # fmt: skip


def odd_value(chance: random.Random, depth: int = 0):
    kind = chance.randrange(9 if depth < 4 else 6)
    if kind < 6:
        return chance.choice([None, True, -1, 1e300, 2**70, "", "track", "ü\u0000\ud83d", "2026-01-01", "x" * 500])
    if kind == 6:
        return [odd_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(KEYS): odd_value(chance, depth + 1) for _ in range(chance.randrange(6))}


def odd_body(chance: random.Random) -> bytes:
    kind = chance.randrange(10)
    if kind == 0:
        return chance.randbytes(chance.randrange(2000))
    if kind == 1:
        return "".join(chance.choices(PIECES, k=chance.randrange(30))).encode("utf-8", "surrogatepass")
    batch = [odd_value(chance) for _ in range(chance.randrange(5))]
    body = json.dumps({"batch": batch, **{chance.choice(KEYS[:12]): odd_value(chance) for _ in range(3)}}).encode()
    if kind == 2:
        at = chance.randrange(len(body))
        return body[:at] + chance.randbytes(3) + body[at + chance.randrange(4) :]
    if kind == 3:
        return gzip.compress(body, 1)[: chance.choice([None, None, -1, 20])]
    return body if kind > 4 else json.dumps(odd_value(chance)).encode()


def odd_headers(chance: random.Random, key: str) -> dict[str, str]:
    basic = base64.b64encode(chance.choice([key, key, key, "wrong", "ü", ""]).encode() + b":").decode()
    return {
        "authorization": chance.choice([f"Basic {basic}", f"Basic {basic}", "Basic", "Bearer x", "Basic =="]),
        "content-type": chance.choice(["application/json", "text/plain", "x", ""]),
        **chance.choice([{}, {}, {"content-encoding": "gzip"}, {"content-encoding": "br"}]),
    }


def memory(collector: Installation) -> int:
    return psutil.Process(collector.process.pid).memory_info().rss


@pytest.mark.parametrize("seed", [1])
def test_odd_requests_are_answered_without_a_fault(collector: Installation, seed: int) -> None:
    chance, statuses, after_warm_up = random.Random(seed), set(), 0
    taken: set[int] = set()
    with httpx.Client(base_url=collector.url, timeout=20) as client:
        for number in range(REQUESTS):
            method = chance.choice(["POST"] * 8 + ["GET", "OPTIONS", "PUT", "HEAD"])
            answer = client.request(
                method,
                chance.choice(PATHS[:5]) if chance.random() < 0.7 else chance.choice(PATHS),
                content=odd_body(chance),
                headers=odd_headers(chance, collector.key),
            )
            statuses.add(answer.status_code)
            if answer.status_code == 200 and method == "POST":
                taken.add(number)
            if number == REQUESTS // 4:
                after_warm_up = memory(collector)
    assert statuses <= {200, 204, 400, 401, 404, 405}
    assert statuses >= {200, 400, 401, 404, 405}
    assert len(taken) > REQUESTS // 25
    assert memory(collector) < after_warm_up + 20_000_000
    # Each line that was taken is judged, and nothing in it brings the judge down.
    lines = b"\n".join(collector.lines())
    verdict = Judge([]).judge(lines, latest=system_time() + timedelta(days=1))
    assert len(verdict.accepted) + len(verdict.refused) == lines.count(b"\n") + 1
    assert set(verdict.accepted["source"].to_pylist()) <= {"web"}


def test_raw_bytes_bring_nothing_down(collector: Installation) -> None:
    request = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" + b'{"batch":[{"a":1}]} '
    before = memory(collector)
    send_broken(collector.url, request, RAW)
    assert collector.process.poll() is None
    assert httpx.get(f"{collector.url}/health").status_code == 200
    assert memory(collector) < before + 30_000_000
    # A line for each would fill a disk, or stop the process at a pipe that nobody reads.
    assert len(said(collector)) < 10_000


def said(collector: Installation) -> bytes:
    """What the collector has written to its log and nobody has read yet."""
    assert collector.process.stderr is not None
    handle = collector.process.stderr.fileno()
    os.set_blocking(handle, False)
    try:
        return os.read(handle, 1_000_000)
    except BlockingIOError:
        return b""
    finally:
        os.set_blocking(handle, True)
