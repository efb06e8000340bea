"""From an event that the collector has accepted to the person's segments read over HTTP.

Collector, log, landing writer, engine, API and webhook sender run as `segue realtime` starts them, over a history of
5 million events of 100,000 people, on the cores that this program has to share with them. It sends events of those
people at a steady rate, as SDKs do: requests of up to 20 messages, encoded beforehand, over a few connections that are
kept open, each at its time whether or not the ones before were answered. Ten times a second one of the messages is the
first of a new user. From the moment that its request is acknowledged, the segments of all such users are asked for over
the API every 3 ms, until `active_last_24h` is among them. So what is measured includes up to 3 ms of waiting and one
HTTP read, and a share of the processor that the asking itself takes (printed as `asks`).

The limit, in the same run: how long until a bare reader of the log has the entry of such a message, and a bare read of
the API; with an engine that needed no time that is what would be left.

    python -m benchmarks.latency [--quick] [--rates 100,1000,…] [--seconds N]

`--quick`: 2,000 people with 50,000 events, 100 and 1,000 events/s for 5 s each.
"""

import argparse
import base64
import json
import os
import random
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from benchmarks._home import RealTime, home, real_time
from benchmarks._report import report
from segue.clock import system_time
from segue.keys import READ, create_key
from segue.log import open_log
from segue.settings import Settings

CONNECTIONS = 8
BATCH = 20
PROBES_PER_SECOND = 10
ASK_SECONDS = 0.003
GIVE_UP_SECONDS = 20.0
NAMES = ("Product Viewed", "Product Viewed", "Search Performed", "Signed In", "Premium Feature Used", "Order Completed")

#: What the contracts of all of them ask for.
PROPERTIES: dict[str, object] = {
    "product_id": "p17", "name": "Shoes", "price": 19.9, "currency": "EUR", "order_id": "o-1", "product_count": 2,
    "query": "shoes", "result_count": 7, "method": "email", "feature": "export",
}  # fmt: skip


class Connection:
    """A connection that is kept open."""

    def __init__(self, url: str, head: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._link = socket.create_connection((host, int(port)), timeout=GIVE_UP_SECONDS)
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: x\r\nAuthorization: {head}\r\n"

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        head = f"{self._head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return self._ask(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        return self._ask(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())

    def close(self) -> None:
        """Close it."""
        self._link.close()

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        self._link.sendall(request)
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._received()
        head, _, body = found.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._received()
        return int(head[9:12]), body

    def _received(self) -> bytes:
        part = self._link.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


def basic(key: str) -> str:
    """The header of a write key."""
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


def arrival_seconds(collector: Connection, api: Connection, user: str, *, ask_seconds: float) -> float:
    """From sending the first event of a new user until the API knows their segments."""
    moment = system_time().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    own = {"userId": user, "anonymousId": f"a-{user}", "context": {}}
    body = json.dumps({"batch": [message(0, user, moment, random.Random(0)) | own]})
    started = time.monotonic()
    status, answer = collector.post("/v1/batch", body.encode())
    if status != 200:
        raise SystemExit(f"the collector answered {status}: {answer[:300]!r}")
    while b'"active_last_24h"' not in api.get(f"/v1/people/{user}/segments")[1]:
        time.sleep(ask_seconds)
    return time.monotonic() - started


class Load:
    """Requests of one rate, made beforehand: when each is due (seconds from the start), its body, its new user."""

    def __init__(self, *, rate: int, seconds: float, people: int, label: str, begin: datetime, draw: random.Random):
        size = min(BATCH, max(1, rate // 100))
        gap = size / rate
        self.requests: list[tuple[float, bytes, str | None]] = []
        told = 0
        for number in range(int(seconds / gap)):
            at = number * gap
            moment = (begin + timedelta(seconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            messages = [message(draw.randrange(people), f"{label}-{number}-{n}", moment, draw) for n in range(size)]
            probe = None
            if at * PROBES_PER_SECOND >= told:
                probe = f"probe-{label}-{told}"
                told += 1
                messages[-1] |= {"userId": probe, "anonymousId": f"a-{probe}", "context": {}}
            self.requests.append((at, json.dumps({"batch": messages}).encode(), probe))
        self.rate = rate
        self.events = size * len(self.requests)


def message(person: int, message_id: str, moment: str, draw: random.Random) -> dict[str, object]:
    """What a person does at a moment, as an SDK sends it."""
    found: dict[str, object] = {
        "type": "track",
        "event": draw.choice(NAMES),
        "messageId": f"latency-{message_id}",
        "anonymousId": f"a{person}-{draw.randrange(2)}",
        "timestamp": moment,
        "properties": PROPERTIES | {"category": f"c{person % 5}", "revenue": person % 90},
        "context": {"library": {"name": "analytics.js", "version": "2.1.0"}, "locale": "en-US"}
        | ({"device": {"id": f"d{person}", "type": "ios"}} if person % 3 == 0 else {}),
    }
    if draw.random() < 0.6:
        found["userId"] = f"u{person}"
    return found


class Asker(threading.Thread):
    """Asks for new users until they are there."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self._connection = Connection(url, f"Bearer {token}")
        self._waiting: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.from_accepted: list[float] = []
        self.from_sent: list[float] = []
        self.lost = 0
        self.asks = 0

    def expect(self, user: str, *, sent: float, accepted: float) -> None:
        """This user's first message was accepted just now."""
        with self._lock:
            self._waiting[user] = (sent, accepted)

    def finish(self) -> None:
        """Wait for those who are missing, but not for ever."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.05)
        self.lost = len(self._waiting)
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.is_set():
            turn = time.monotonic()
            with self._lock:
                waiting = list(self._waiting.items())
            if waiting:
                self.asks += 1
                known = self._known([user for user, _ in waiting])
                now = time.monotonic()
                for user, (sent, accepted) in waiting:
                    if user in known:
                        self.from_accepted.append(now - accepted)
                        self.from_sent.append(now - sent)
                        with self._lock:
                            del self._waiting[user]
            time.sleep(max(0.0, turn + ASK_SECONDS - time.monotonic()))

    def _known(self, users: list[str]) -> set[str]:
        status, body = self._connection.post("/v1/people/segments", json.dumps({"identifiers": users}).encode())
        if status != 200:
            raise SystemExit(f"the API answered {status}: {body[:300]!r}")
        return {one["identifier"] for one in json.loads(body)["people"] if "active_last_24h" in one["segments"]}


def send(url: str, key: str, load: Load, asker: Asker | None, *, begin: float) -> tuple[dict[str, float], float]:
    """Send every request at its time. When the request of each new user was sent; how late the worst one was."""
    sent: dict[str, float] = {}
    late = [0.0]
    failures: list[str] = []

    def run(at: int) -> None:
        connection = Connection(url, basic(key))
        for due, body, probe in load.requests[at::CONNECTIONS]:
            time.sleep(max(0.0, begin + due - time.monotonic()))
            moment = time.monotonic()
            late[0] = max(late[0], moment - begin - due)
            status, answer = connection.post("/v1/batch", body)
            if status != 200:
                failures.append(f"the collector answered {status}: {answer[:300]!r}")
                return
            if probe is not None:
                sent[probe] = moment
                if asker is not None:
                    asker.expect(probe, sent=moment, accepted=time.monotonic())

    threads = [threading.Thread(target=run, args=(at,)) for at in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(failures[0])
    return sent, late[0]


def percentile(values: Sequence[float], share: float) -> float:
    """Milliseconds, the next value above the share."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def limit(settings: Settings, urls: dict[str, str], key: str, token: str, load: Load, begin: float) -> dict[str, float]:
    """Milliseconds from sending until a bare reader of the log has the entry, and of a bare read of the API."""
    log = open_log(settings)
    after, stop = log.status().newest, threading.Event()
    seen: dict[str, float] = {}

    def follow() -> None:
        nonlocal after
        while not stop.is_set():
            for entry in log.read(after, limit_bytes=1_000_000, wait_seconds=0.2):
                after, now, payload = entry.position, time.monotonic(), entry.payload
                while (start := payload.find(b'"probe-')) >= 0:
                    user = payload[start + 1 :].partition(b'"')[0].decode()
                    seen.setdefault(user, now)
                    payload = payload[start + 8 :]

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    sent, _ = send(urls["collector"], key, load, None, begin=begin)
    time.sleep(0.3)
    stop.set()
    reader.join()
    connection = Connection(urls["api"], f"Bearer {token}")
    reads = []
    for user in sent:
        started = time.monotonic()
        connection.get(f"/v1/people/{user}/segments")
        reads.append(time.monotonic() - started)
    logged = [seen[user] - moment for user, moment in sent.items() if user in seen]
    return {
        "log_p50": percentile(logged, 0.5),
        "log_p99": percentile(logged, 0.99),
        "read_p50": percentile(reads, 0.5),
        "read_p99": percentile(reads, 0.99),
    }


def measured(world: RealTime, urls: dict[str, str], key: str, token: str, load: Load, begin: float) -> dict[str, float]:
    """One rate."""
    asker = Asker(urls["api"], token)
    asker.start()
    before, mine = world.cpu_seconds(), time.process_time()
    started = time.monotonic()
    _, late = send(urls["collector"], key, load, asker, begin=begin)
    took = time.monotonic() - started
    used = {name: round((seconds - before[name]) / took, 2) for name, seconds in world.cpu_seconds().items()}
    used["this program"] = round((time.process_time() - mine) / took, 2)
    asker.finish()
    if not asker.from_accepted:
        raise SystemExit(f"{load.rate} events/s: no new user came within {GIVE_UP_SECONDS:.0f} s")
    found = {
        "p50": percentile(asker.from_accepted, 0.5),
        "p99": percentile(asker.from_accepted, 0.99),
        "sent_p99": percentile(asker.from_sent, 0.99),
    }
    print(
        f"{load.rate:>5} events/s: p50 {found['p50']:.0f} ms, p99 {found['p99']:.0f} ms, worst"
        f" {max(asker.from_accepted) * 1000:.0f} ms of {len(asker.from_accepted)} (from sending: p99"
        f" {found['sent_p99']:.0f} ms); {asker.lost} never came; {asker.asks / took:.0f} asks/s;"
        f" requests at most {late * 1000:.0f} ms late; cores used: {used}",
        flush=True,
    )
    if asker.lost:
        found["p99"] = GIVE_UP_SECONDS * 1000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rates", default="")
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    people, events = (2_000, 50_000) if options.quick else (100_000, 5_000_000)
    rates = [int(r) for r in (options.rates or ("100,1000" if options.quick else "100,1000,2000,5000")).split(",")]
    seconds = options.seconds or (5.0 if options.quick else 15.0)
    draw = random.Random(1)
    with home(people=people, events=events) as settings:
        key = create_key(settings, "web", as_of=system_time())
        token = create_key(settings, "benchmark", as_of=system_time(), kind=READ)
        with real_time(settings, SEGUE_API_REQUESTS_PER_SECOND="100000") as world:
            took = world.wait_until("everybody is evaluated", world.is_ready)
            print(f"everybody is evaluated {took:.0f} s after the start", flush=True)
            urls = {name: one["url"] for name, one in world.state().items()}

            def load(rate: int, label: str, seconds: float) -> tuple[Load, float]:
                # Made before its time comes, so that making it disturbs nothing that is measured.
                begin = datetime.now(UTC)
                made = Load(rate=rate, seconds=seconds, people=people, label=label, begin=begin, draw=draw)
                return made, time.monotonic() + 0.2

            measured(world, urls, key, token, *load(rates[0], "warm", 2.0))  # connections, caches
            floor = limit(settings, urls, key, token, *load(1_000, "limit", 4.0))
            found = {rate: measured(world, urls, key, token, *load(rate, str(rate), seconds)) for rate in rates}
            memory = world.engine()["memory_bytes"]
    against = floor["log_p99"] + floor["read_p99"]
    print(f"limit at 1,000/s: {', '.join(f'{name} {value:.1f} ms' for name, value in floor.items())}")
    goals = {1_000: 100.0, 5_000: 200.0}
    top = max(rates)
    report(
        "latency",
        figure=found[top]["p99"],
        unit=f"ms from accepted to readable, p99 at {top:,} events/s",
        against=f"{against:.1f} ms p99 into the log and out of the API, with an engine that needs no time",
        goal="< 100 ms at 1,000/s, < 200 ms at 5,000/s",
        holds=all(found[rate]["p99"] < goal for rate, goal in goals.items() if rate in found),
        **{f"{name}_ms_at_{rate}": round(value, 1) for rate, one in found.items() for name, value in one.items()},
        limit_p50_ms=round(floor["log_p50"] + floor["read_p50"], 1),
        people=people,
        events_of_history=events,
        engine_mb=round(memory / 1e6),
        cores=os.cpu_count(),
        probes=round(seconds * PROBES_PER_SECOND),
    )


if __name__ == "__main__":
    main()
