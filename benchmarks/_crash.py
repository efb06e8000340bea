"""A home whose real processes are killed while real clients send: what `no_loss` and its test are made of."""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import redis
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from orchestration.services import free_port
from orchestration.supervisor import ServiceState, read_state
from segue.settings import PROJECT_ROOT, Settings, child_environment
from segue.store import keys
from segue.valkey import connect

#: What may be killed; "supervisor" is the process that starts the others, "everything" a power cut.
VICTIMS = ("collector", "engine", "valkey", "webhooks", "landing", "api", "supervisor", "everything")

_FEATURES = (
    ("Product Viewed", {"product_id": "p1", "category": "shoes", "price": 9.5}),
    ("Premium Feature Used", {"feature": "export"}),
    ("Signed In", {"method": "email"}),
    ("Onboarding Completed", {"step_count": 3}),
)


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Raises TimeoutError when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)


class Processes:
    """`segue realtime` on a home, to be killed at will; use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = free_port("127.0.0.1", 0)
        self._boss: subprocess.Popen[bytes] | None = None
        self._engine: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}

    def __enter__(self) -> "Processes":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.power_cut()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Once the last one is gone."""
        variables = {
            "SEGUE_HOME": str(self.settings.home),
            "SEGUE_COLLECTOR_PORT": str(self.port),
            "SEGUE_API_PORT": "0",
            "SEGUE_LANDING_SECONDS": "0.5",
            "SEGUE_WEBHOOK_ALLOW_PRIVATE": "true",
            "SEGUE_LOG_MAX_BYTES": str(self.settings.log_max_bytes),
        }
        self.settings.home.mkdir(parents=True, exist_ok=True)
        with (self.settings.home / "supervisor.log").open("ab") as sink:
            self._boss = subprocess.Popen(
                [sys.executable, "-m", "orchestration.services"],
                env=child_environment(variables), cwd=PROJECT_ROOT, stderr=sink, start_new_session=True,
            )  # fmt: skip

    def start_engine(self) -> None:
        """One more, as by mistake."""
        with (self.settings.home / "engine.log").open("ab") as sink:
            self._engine = subprocess.Popen(
                [str(Path(sys.executable).parent / "segue"), "engine"],
                env=child_environment({"SEGUE_HOME": str(self.settings.home)}),
                cwd=PROJECT_ROOT,
                stderr=sink,
                start_new_session=True,
            )

    def state(self) -> dict[str, ServiceState]:
        """As the supervisor sees them; empty while there is none."""
        return dict(read_state(self.settings))

    def is_up(self) -> bool:
        state = self.state()
        return bool(state) and all(one.is_up for one in state.values())

    def kill(self, name: str) -> bool:
        """kill -9. False: it was not running."""
        if name == "everything":
            self.power_cut()
            self.start()
            return True
        if name == "supervisor":
            self._everyone()
            if self._boss is None or self._boss.poll() is not None:
                return False
            self._boss.kill()
            self._boss.wait()
            self.start()  # at once: it has to wait for the guard to end the others
            return True
        pid = self._server() if name == "valkey" else self.state().get(name, ServiceState()).pid
        try:
            if pid:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return bool(pid)

    def power_cut(self) -> None:
        """kill -9 of everything at once."""
        family = self._everyone()
        if self._engine is not None:
            self._engine.kill()
            self._engine.wait()
        if self._boss is not None:
            self._boss.kill()
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        if self._boss is not None:
            self._boss.wait()
        _wait_gone(family)

    def stop(self) -> int:
        """As Ctrl-C does; the exit code."""
        assert self._boss is not None
        if self._engine is not None:
            self._engine.terminate()
            self._engine.wait(60)
        self._boss.send_signal(signal.SIGINT)
        return self._boss.wait(90)

    def _server(self) -> int:
        try:
            return int((self.settings.home / "valkey" / "lock").read_text().strip() or 0)
        except (OSError, ValueError):
            return 0

    def _everyone(self) -> list[psutil.Process]:
        """All descendants, also of supervisors that are gone."""
        if self._boss is not None and self._boss.poll() is None:
            found = psutil.Process(self._boss.pid).children(recursive=True)
            self._family |= {one.pid: one for one in found}
        self._family = {pid: one for pid, one in self._family.items() if _is_alive(one)}
        return list(self._family.values())


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_gone(family: list[psutil.Process]) -> None:
    wait_for(lambda: not any(map(_is_alive, family)), 60, "the processes to end")


@dataclass
class Sent:
    """What a client was given, and what it gave up."""

    ids: dict[str, None] = field(default_factory=dict)
    given_up: dict[str, None] = field(default_factory=dict)

    @property
    def acknowledged(self) -> set[str]:
        return self.ids.keys() - self.given_up.keys()


class Clients:
    """Segment's and RudderStack's Python clients, each in a thread of its own, unmodified."""

    def __init__(self, url: str, key: str, *, people: int, a_second: float, seed: int) -> None:
        from rudderstack.analytics.client import Client as Rudder
        from segment.analytics.client import Client as Segment

        logging.getLogger("segment").setLevel(logging.CRITICAL)
        logging.getLogger("rudderstack").setLevel(logging.CRITICAL)
        logging.getLogger("backoff").setLevel(logging.CRITICAL)
        self.sent = Sent()
        self._people, self._pause, self._seed = people, 2 / a_second, seed
        self._stop = threading.Event()
        more: dict[str, Any] = {"host": url, "upload_interval": 0.1, "upload_size": 20, "max_retries": 100}
        self._clients = [
            maker(key, on_error=self._failed, **more) for maker in (Segment, Rudder)
        ]  # fmt: skip
        self._threads = [
            threading.Thread(target=self._send, args=(n, client), daemon=True) for n, client in enumerate(self._clients)
        ]
        self.began = datetime.now(UTC)
        for thread in self._threads:
            thread.start()

    def finish(self) -> Sent:
        """Send no more; returns when every message is acknowledged or given up."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.flush()
        return self.sent

    def _failed(self, _error: Exception, batch: list[dict[str, Any]]) -> None:
        for message in batch:
            self.sent.given_up[message["messageId"]] = None

    def _send(self, number: int, client: Any) -> None:
        draw = random.Random(self._seed * 10 + number)
        count = 0
        while not self._stop.is_set():
            count += 1
            message_id = f"m-{number}-{count}"
            self.sent.ids[message_id] = None
            self._one(client, draw, message_id)
            if draw.random() < 0.02:  # a client that is not sure sends again
                self._one(client, draw, message_id)
            self._stop.wait(self._pause * draw.uniform(0.5, 1.5))

    def _one(self, client: Any, draw: random.Random, message_id: str) -> None:
        person = draw.randrange(self._people)
        device = f"a{person}-{draw.randrange(2)}"
        now = datetime.now(UTC)
        # Some of yesterday, so that somebody leaves "the last 24 hours" while we look; some of last week.
        at = draw.choice(
            (now, now, now, now - timedelta(hours=24) + timedelta(seconds=draw.uniform(1, 60)),
             now - timedelta(hours=draw.uniform(30, 160)))
        )  # fmt: skip
        if draw.random() < 0.1:
            client.identify(f"u{person}", anonymous_id=device, timestamp=at, message_id=message_id)
            return
        event, properties = draw.choice(_FEATURES)
        user = f"u{person}" if draw.random() < 0.5 else None
        client.track(user, event, dict(properties), anonymous_id=device, timestamp=at, message_id=message_id)


class Receiver:
    """Takes webhooks on loopback, verifies each signature, and now and then forgets to say thank you."""

    def __init__(self, secret: str, *, forgets: int = 200) -> None:
        self.arrived: list[tuple[str, str]] = []  # id, person; every time
        self.unsigned = 0
        receiver = self
        webhook = Webhook(secret)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # the sender was killed in the middle of it
                status = 204
                try:
                    found = webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
                    receiver.arrived.append((self.headers["webhook-id"], found["data"]["personId"]))
                    if forgets and len(receiver.arrived) % forgets == 0:
                        status = 503
                except WebhookVerificationError:
                    receiver.unsigned += 1
                    status = 401
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a sender that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def kill_at_random(
    processes: Processes, *, seconds: float, pause: tuple[float, float], victims: tuple[str, ...], seed: int
) -> dict[str, int]:
    """Kill one after the other for so long; every victim comes up before one comes again. Returns kills by name."""
    draw = random.Random(seed)
    deadline = time.monotonic() + seconds
    waiting: list[str] = []
    kills: dict[str, int] = {}
    while time.monotonic() < deadline:
        time.sleep(draw.uniform(*pause))
        if not waiting:
            waiting = draw.sample(victims, len(victims))
        name = waiting.pop()
        if processes.kill(name):
            kills[name] = kills.get(name, 0) + 1
            print(f"{time.strftime('%H:%M:%S')} killed {name}", flush=True)
    return kills


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log, for whoever has to understand a failure."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def usurp(processes: Processes) -> int:
    """Pause the engine until another one has taken over, and wake it: it must write no more, and end.

    Returns:
        How often the right to write has changed hands; the other one goes on as the engine of the home.
    """
    client = connect(processes.settings)

    def is_at_work() -> bool:
        pid = processes.state().get("engine", ServiceState()).pid
        try:
            holder: Any = client.get(keys.LEASE)
        except redis.RedisError:
            return False
        return pid > 0 and holder is not None and holder.decode().endswith(f" engine {pid}")

    wait_for(is_at_work, 120, "an engine that may write")
    first = psutil.Process(processes.state()["engine"].pid)
    token = int(client.get(keys.FENCE) or 0)  # type: ignore[arg-type]
    first.suspend()
    processes.start_engine()
    wait_for(lambda: int(client.get(keys.FENCE) or 0) > token, 120, "the other engine to take over")  # type: ignore[arg-type]
    before = client.hget(keys.META, "position")
    wait_for(lambda: client.hget(keys.META, "position") != before, 120, "the other engine to write")
    first.resume()
    wait_for(lambda: not _is_alive(first), 60, "the first engine to end")
    return int(client.get(keys.FENCE) or 0) - token  # type: ignore[arg-type]
