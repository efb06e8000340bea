"""A receiver of webhooks over real HTTP, as strict as the library of Standard Webhooks."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Got:
    """One request that was verified."""

    id: str
    body: dict[str, Any]
    raw: bytes
    status: int

    @property
    def person(self) -> str:
        return self.body["data"]["personId"]


@dataclass
class Receiver:
    """Answers what `answer` says: a status, or a function that writes the whole answer itself."""

    url: str = ""
    answer: Callable[["Receiver", Got], Any] = lambda _receiver, _got: 200
    requests: list[Got] = field(default_factory=list)
    forged: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def taken(self) -> list[Got]:
        return [one for one in self.requests if one.status == 200]

    def attempts(self, number: int) -> list[Got]:
        return [one for one in self.requests if one.id == f"tr_t{number}"]

    def wait(self, until: Callable[[], bool]) -> None:
        """Until that is so; a minute is more than any machine needs, and then the test fails."""
        with self.changed:
            assert self.changed.wait_for(until, 60), Counter((one.id, one.status) for one in self.requests)

    def wait_for(self, *numbers: int) -> None:
        wanted = {f"tr_t{number}" for number in numbers}
        self.wait(lambda: wanted <= {one.id for one in self.taken})


@contextmanager
def receiving(answer: Callable[[Receiver, Got], Any] = lambda _receiver, _got: 200) -> Iterator[Receiver]:
    receiver = Receiver(answer=answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            try:
                body = Webhook(SECRET).verify(raw, dict(self.headers))
            except Exception:
                receiver.forged += 1
                self.send_response(400)
                self.send_header("content-length", "0")
                self.end_headers()
                raise
            assert json.loads(raw) == body
            got = Got(self.headers["webhook-id"], body, raw, 0)
            found = receiver.answer(receiver, got)
            got.status = found if isinstance(found, int) else 0
            with receiver.changed:
                receiver.requests.append(got)
                receiver.changed.notify_all()
            if callable(found):
                found(self)
                return
            self.send_response(found)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            pass  # a client that goes away is what some tests do

    server = Server(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
