"""Faults and memory of the collector and the API under 100,000 odd requests each.

A third is raw bytes on a bare socket: noise, or a sound request with some of its bytes replaced. The rest is hostile
but well-formed HTTP: odd JSON, cut-off gzip, wrong keys, every path and method for the collector; odd identifiers,
parameters, bodies and tokens for the API. The seeds are fixed. The figure is the number of faults: an answer of 5xx, a
process that has ended, a health check that fails afterwards. Memory is what a process holds after a tenth of the
requests, and at the end.

    python -m benchmarks.fuzz [--quick]
"""

import argparse
import json
import random
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil

from benchmarks._report import report
from segue.clock import system_time
from segue.keys import READ, create_key
from segue.settings import Settings
from segue.valkey import connect, running
from tests.collector.test_fuzz import PATHS, odd_body, odd_headers
from tests.processes import start

GROWTH_BYTES = 40_000_000
ODD = (
    "", "ada", "p_1", "x" * 1_001, "\u0000", "ü", "a/b", "%", "..", "user_id:ada", "email:@", "🦊", "-1", "1e9", "NaN",
)  # fmt: skip

Ask = Callable[[httpx.Client, random.Random], int]


def ask_collector(key: str) -> Ask:
    """One odd request to the collector; its status."""

    def ask(client: httpx.Client, chance: random.Random) -> int:
        method = chance.choice(["POST"] * 8 + ["GET", "OPTIONS", "PUT", "HEAD"])
        path = chance.choice(PATHS[:5]) if chance.random() < 0.7 else chance.choice(PATHS)
        return client.request(method, path, content=odd_body(chance), headers=odd_headers(chance, key)).status_code

    return ask


def ask_api(token: str) -> Ask:
    """One odd request to the API; its status. The stream is asked for without a token only, since it has no end."""

    def ask(client: httpx.Client, chance: random.Random) -> int:
        one, other = (quote(chance.choice(ODD), safe=chance.choice(["", "/:@"])) for _ in range(2))
        path = chance.choice(
            [
                f"/v1/people/{one}/segments",
                f"/v1/people/{one}",
                "/v1/people/segments",
                "/v1/segments",
                f"/v1/segments/{one}/members?after={other}&limit={one}",
                "/v1/status",
                "/metrics",
                f"/{one}",
            ]
        )
        header = {"authorization": chance.choice([f"Bearer {token}"] * 4 + ["Bearer x", "Basic eDp4", ""])}
        body = chance.choice([odd_body(chance), json.dumps({"identifiers": chance.choices(ODD, k=5)}).encode()])
        method = chance.choice(["GET"] * 4 + ["POST"] * 3 + ["PUT", "HEAD"])
        return client.request(method, path, content=body if method != "GET" else b"", headers=header).status_code

    return ask


def pour_bytes(address: tuple[str, int], request: bytes, chance: random.Random) -> int:
    """Noise, or a request with a piece replaced; the status of what came back, 0 for nothing."""
    if chance.random() < 0.3:
        text = chance.randbytes(chance.randrange(1, 3_000))
    else:
        at = chance.randrange(len(request))
        text = request[:at] + chance.randbytes(chance.randrange(4)) + request[at + chance.randrange(9) :]
    with socket.create_connection(address, timeout=60) as link:
        try:
            link.sendall(text)
            link.shutdown(socket.SHUT_WR)
            found = link.recv(4_096)
            while link.recv(65_536):
                pass
        except ConnectionError:
            return 0
    return int(found[9:12]) if found.startswith(b"HTTP/1.1 ") else 0


def run(name: str, process: "subprocess.Popen[str]", url: str, ask: Ask, request: bytes, count: int) -> tuple[int, int]:
    """Faults, and bytes of memory that were added."""
    chance, statuses, early = random.Random(11), Counter[int](), 0
    host, _, port = url.removeprefix("http://").rpartition(":")
    watched = psutil.Process(process.pid)
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(count):
            if number % 3 == 0:
                statuses[pour_bytes((host, int(port)), request, chance)] += 1
            else:
                statuses[ask(client, chance)] += 1
            if number == count // 10:
                early = watched.memory_info().rss
        is_well = process.poll() is None and client.get("/health").status_code == 200
    late = watched.memory_info().rss
    print(f"{name}: {count:,} requests, answers {dict(sorted(statuses.items()))}")
    print(f"{name}: {early / 1e6:.0f} MB after a tenth, {late / 1e6:.0f} MB at the end")
    return sum(n for status, n in statuses.items() if status >= 500) + (not is_well), late - early


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a twentieth of the requests")
    count = 5_000 if options.parse_args().quick else 100_000
    settings = Settings(home=Path(tempfile.mkdtemp(prefix="segue-fuzz-")), _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        key = create_key(settings, "web", as_of=system_time())
        token = create_key(settings, "fuzz", as_of=system_time(), kind=READ)
        body = b'{"batch":[{"a":1}]} '
        post = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        get = b"GET /v1/people/ada/segments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
        faults, grown = 0, 0
        for name, says, ask, request in (
            ("collector", "collector", ask_collector(key), post),
            ("api", "API", ask_api(token), get),
        ):
            process, url = start(settings, name, says=says)
            try:
                found, more = run(name, process, url, ask, request, count)
            finally:
                process.terminate()
                process.wait(30)
            faults, grown = faults + found, max(grown, more)
            connect(settings).flushall()
    report(
        "fuzz",
        figure=faults,
        unit=f"faults in {2 * count:,} requests",
        against="none",
        goal=f"0, and no process grows by more than {GROWTH_BYTES // 10**6} MB",
        holds=faults == 0 and grown < GROWTH_BYTES,
        grown_bytes=grown,
    )


if __name__ == "__main__":
    main()
