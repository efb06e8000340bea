"""Events a second that the collector acknowledges, against the bare log.

The client sends batches of 100 over a few connections that are kept open, and the next request of a connection when
the last was acknowledged: on disk, that is. The bare log is a client of Valkey that sends the very same lines with
XADD, one entry for each event, 100 in a pipeline, over as many connections, to the same server with the same settings.
Both clients, and the server, share the machine's cores. `--server uvicorn` runs the same application there.

    python -m benchmarks.collector [--quick]
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks._report import report
from segue.clock import system_time
from segue.collector.messages import read_request, stamp
from segue.keys import create_key
from segue.settings import Settings, child_environment
from segue.valkey import connect, running, socket_path

BATCH = 100
CONNECTIONS = 8


def batch(number: int) -> bytes:
    """A body as the Python client sends it, about 45 kB."""
    messages = [
        {
            "type": "track",
            "event": "Product Viewed",
            "messageId": f"bench-{number:06d}-{at:03d}-5b0e7c1e4d9a",
            "userId": f"user-{(number * BATCH + at) % 100_000}",
            "anonymousId": f"6f9c1e1e-{at:04d}-4a7b-9c58-2f6b7d1c9e01",
            "timestamp": "2026-11-24T12:00:00.000Z",
            "properties": {"product_id": f"p{at}", "price": 19.9, "currency": "EUR", "path": "/shop/shoes/running"},
            "context": {"library": {"name": "analytics-python", "version": "2.3.3"}, "ip": "203.0.113.7"},
        }
        for at in range(BATCH)
    ]
    return json.dumps({"batch": messages, "sentAt": "2026-11-24T12:00:01.000Z"}).encode()


def send_http(address: str, key: str, seconds: float, answer: "multiprocessing.Queue[float]") -> None:
    """Acknowledged events a second."""
    import base64

    host, port = address.removeprefix("http://").split(":")
    name = base64.b64encode(f"{key}:".encode()).decode()
    head = f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {name}\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in map(batch, range(CONNECTIONS))]

    def one(at: int) -> Callable[[], None]:
        link = socket.create_connection((host, int(port)))

        def step() -> None:
            link.sendall(requests[at])
            found = b""
            while not found.endswith(b"}"):  # a server may send head and body one after the other
                part = link.recv(4096)
                assert part, found
                found += part
            assert found.startswith(b"HTTP/1.1 200"), found

        return step

    answer.put(_rate(one, seconds))


def send_xadd(home: str, per_event: bool, seconds: float, answer: "multiprocessing.Queue[float]") -> None:
    """Acknowledged events a second of the bare log."""
    settings = Settings(home=Path(home), _env_file=None)  # type: ignore[call-arg]
    texts = [
        stamp(read_request(batch(at), None), source="web", received_at="2026-11-24T12:00:01.000Z")
        for at in range(CONNECTIONS)
    ]

    def one(at: int) -> Callable[[], None]:
        lines = [line + b"\n" for line in texts[at].splitlines()] if per_event else [texts[at]]
        # Packed beforehand and sent as it is, so that the limit is the log's and not a client library's.
        packed = b"".join(
            b"*5\r\n$4\r\nXADD\r\n$4\r\nbare\r\n$1\r\n*\r\n$1\r\np\r\n$%d\r\n%b\r\n" % (len(line), line)
            for line in lines
        )
        link = socket.socket(socket.AF_UNIX)
        link.connect(str(socket_path(settings)))

        def step() -> None:
            link.sendall(packed)
            ends = 0
            while ends < 2 * len(lines):  # an answer is the length of an id, and the id
                part = link.recv(65536)
                assert part, "the server went away"
                assert b"-ERR" not in part, part
                assert b"-OOM" not in part, part
                ends += part.count(b"\n")

        return step

    answer.put(_rate(one, seconds))


def _rate(one: Callable[[int], Callable[[], None]], seconds: float) -> float:
    """Events a second over all connections. A connection that fails fails the measurement."""
    steps = [one(at) for at in range(CONNECTIONS)]
    started = time.monotonic()

    def run(at: int) -> int:
        count = 0
        while time.monotonic() - started < seconds:
            steps[at]()
            count += BATCH
        return count

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        total = sum(pool.map(run, range(CONNECTIONS)))
    return total / (time.monotonic() - started)


def measured(work: Callable[..., None], *arguments: object) -> float:
    """The rate that a process of its own found."""
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=work, args=(*arguments, answer))
    process.start()
    process.join(120)
    if process.exitcode != 0:
        raise SystemExit(f"{work.__name__} failed: no figure")
    return answer.get(timeout=5)


def started(settings: Settings) -> tuple["subprocess.Popen[str]", str]:
    """The collector and its address."""
    environment = child_environment({"SEGUE_HOME": str(settings.home), "COLUMNS": "200"})
    command = [str(Path(sys.executable).parent / "segue"), "collector", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    return process, process.stderr.readline().split()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    seconds, rounds = (3.0, 3) if chosen.quick else (5.0, 3)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), _env_file=None)  # type: ignore[call-arg]
        with running(settings):
            client = connect(settings)
            key = create_key(settings, "web", as_of=system_time())
            process, address = started(settings)
            http, bare, joined = [], [], []
            busy = psutil.Process(process.pid)
            cpu = 0.0
            try:
                measured(send_http, address, key, 1.0)
                for _ in range(rounds):
                    client.flushall()
                    before = busy.cpu_times()
                    http.append(measured(send_http, address, key, seconds))
                    after = busy.cpu_times()
                    cpu += after.user + after.system - before.user - before.system
                    client.flushall()
                    bare.append(measured(send_xadd, folder, True, seconds))
                    client.flushall()
                    joined.append(measured(send_xadd, folder, False, seconds))
                memory = busy.memory_info().rss
            finally:
                os.kill(process.pid, signal.SIGTERM)
                process.wait(10)
    figure, limit, whole = (statistics.median(found) for found in (http, bare, joined))
    for name, found in (("collector", http), ("bare XADD, an entry an event", bare), ("an entry a request", joined)):
        print(f"{name}: {', '.join(f'{one:,.0f}' for one in found)} events/s")
    report(
        "collector",
        figure=figure,
        unit="acknowledged events/s in batches of 100",
        against=f"{limit:,.0f} events/s with bare XADD, 100 in a pipeline",
        goal=">= 1x",
        holds=figure >= limit,
        ratio=round(figure / limit, 2),
        entry_per_request=round(whole),
        collector_cpu_seconds_per_million=round(cpu / (sum(http) * seconds) * 1e6, 2),
        collector_mb=round(memory / 1e6),
    )


if __name__ == "__main__":
    main()
