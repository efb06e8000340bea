"""p99 of reading a person's segments over HTTP, against a bare Valkey GET behind the same HTTP server.

Two servers run under the same uvicorn settings: Segue's API, asked `GET /v1/people/{user id}/segments` with a token,
and a minimal ASGI application (`_bare_api`) that answers each request with one GET of as many bytes. One client, a
process of its own, keeps connections open and asks on each as soon as it has its answer; rounds of the two alternate,
so that both see the same machine. The figure is the median over the rounds of p99 divided by p99.

    python -m benchmarks.api [--quick]
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from benchmarks._bare_api import KEY
from benchmarks._report import report
from segue.clock import system_time
from segue.keys import READ, create_key
from segue.settings import Settings, child_environment
from segue.store import PersonState, Update, open_store
from segue.valkey import connect, running

PEOPLE = 20_000
CONNECTIONS = 16
SEGMENTS = ("active_last_24h", "feature_used_recently", "power_users", "weekly_sessions_high")


async def ask(port: int, token: str, requests: int) -> list[float]:
    """Milliseconds that each request took."""
    took: list[float] = []

    async def one(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, requests, CONNECTIONS):
            path = f"/v1/people/user-{number * 7919 % PEOPLE}/segments"
            text = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            started = time.perf_counter()
            writer.write(text.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            took.append((time.perf_counter() - started) * 1000)
        writer.close()

    await asyncio.gather(*(one(first) for first in range(CONNECTIONS)))
    return took


def p99(took: list[float]) -> float:
    """The 99th percentile."""
    return sorted(took)[int(len(took) * 0.99)]


def fill(settings: Settings) -> None:
    """People in the store, and as many bytes for each under a plain key."""
    store = open_store(settings)
    token = store.acquire("benchmark", ttl_seconds=600)
    assert token is not None
    since = datetime(2026, 3, 2, 12, tzinfo=UTC)
    for first in range(0, PEOPLE, 1_000):
        people = [
            PersonState(
                person_id=f"p_{number}",
                segments=dict.fromkeys(SEGMENTS, since),
                features={"event_count": number},
                identifiers=(("user_id", f"user-{number}"), ("anonymous_id", f"anonymous-{number}")),
                as_of=since,
            )
            for number in range(first, first + 1_000)
        ]
        update = Update(people=people, merged={}, gone=(), transitions=(), as_of=system_time())
        store.apply(update, token=token, expected=store.position(), position=f"{first:08d}")
    pipe = connect(settings).pipeline(transaction=False)
    for number in range(PEOPLE):
        pipe.set(f"{KEY}user-{number}", b"x" * 260)
    pipe.execute()


def start(settings: Settings, *command: str) -> tuple["subprocess.Popen[str]", int]:
    """A server and its port."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=child_environment({"SEGUE_HOME": str(settings.home), "SEGUE_API_REQUESTS_PER_SECOND": "1000000"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, int(line.split(",")[0].rstrip().rpartition(":")[2])


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    rounds = 7 if options.parse_args().quick else 21
    requests = 3_000
    settings = Settings(home=Path(tempfile.mkdtemp(prefix="segue-api-")), _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        token = create_key(settings, "benchmark", as_of=system_time(), kind=READ)
        fill(settings)
        api, api_port = start(settings, "-c", "from segue.cli import app; app()", "api", "--port", "0")
        bare, bare_port = start(settings, "-m", "benchmarks._bare_api")
        try:
            time.sleep(8)  # the API reads the dbt project beside its first requests
            found: dict[str, list[list[float]]] = {"api": [], "bare": []}
            for number in range(rounds + 1):
                for name, port in (("api", api_port), ("bare", bare_port))[:: 1 if number % 2 else -1]:
                    took = uvloop.run(ask(port, token, requests))
                    if number:  # the first warms up
                        found[name].append(took)
        finally:
            api.terminate()
            bare.terminate()
            api.wait()
            bare.wait()
    for name, runs in found.items():
        every = sorted(ms for took in runs for ms in took)
        rate = CONNECTIONS * 1000 / statistics.mean(every)
        print(
            f"{name:5} p50 {every[len(every) // 2]:.2f} ms, p99 {p99(every):.2f} ms, about {rate:,.0f} requests/s"
            f" on {CONNECTIONS} connections"
        )
    ratios = [p99(a) / p99(b) for a, b in zip(found["api"], found["bare"], strict=True)]
    middles = [statistics.median(a) / statistics.median(b) for a, b in zip(found["api"], found["bare"], strict=True)]
    figure = statistics.median(ratios)
    report(
        "api",
        figure=figure,
        unit="× the p99 of a bare GET",
        against="a bare Valkey GET through the same HTTP server",
        goal="<= 1.5",
        holds=figure <= 1.5,
        p50_ratio=round(statistics.median(middles), 3),
        p99_ms=round(statistics.median(p99(a) for a in found["api"]), 3),
        bare_p99_ms=round(statistics.median(p99(b) for b in found["bare"]), 3),
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
