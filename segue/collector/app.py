"""The collector's HTTP interface, as a plain ASGI application: a framework would cost more than all of it."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from segue.clock import system_time
from segue.collector import metrics
from segue.collector.body import ClientGoneError, Receive, Watched, read_body
from segue.collector.merge import Merger
from segue.collector.messages import ROUTES, BadRequestError, read_request, stamp
from segue.errors import LogError
from segue.keys import KeyRing
from segue.log import Log

_log = logging.getLogger(__name__)

Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_SUCCESS = b'{"success": true}'
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after"),
)
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-max-age", b"86400"),
)
_ASKED_HEADERS = b"authorization, content-type, content-encoding"
_BODY_SECONDS = 20.0
#: A browser library asks this address for its settings before it sends.
_PROJECTS, _SETTINGS = "/v1/projects/", "/settings"


class Answer(Exception):
    """Status, body and further headers."""

    def __init__(
        self, status: int, body: bytes, *headers: tuple[bytes, bytes], content_type: bytes = b"application/json"
    ) -> None:
        self.status, self.body, self.content_type = status, body, content_type
        self.headers = headers


#: Some clients look for a `code`, and take an answer without one for a fault of the network.
_CODES = {400: "invalid_request", 401: "unauthorized", 404: "not_found", 405: "invalid_method", 408: "timeout"}


def _refusal(status: int, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    code = _CODES.get(status, "unavailable")
    return Answer(status, msgspec.json.encode({"success": False, "code": code, "message": message}), *headers)


class Collector:
    """The application.

    Args:
        log: where messages go.
        keys: who may send.
        now: the clock that stamps `receivedAt`.
        body_seconds: how long a client may take to send one request.
    """

    def __init__(
        self,
        log: Log,
        keys: KeyRing,
        *,
        now: Callable[[], datetime] = system_time,
        body_seconds: float = _BODY_SECONDS,
    ) -> None:
        self._event_log, self._keys, self._now = log, keys, now
        self._merger = Merger(log)
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        receive = Watched(receive, scope)
        path: str = scope["path"]
        headers = dict(scope["headers"])
        try:
            answer = await self._answer(scope["method"], path, headers, receive)
        except Answer as found:
            answer = found
        except BadRequestError as error:
            answer = _refusal(400, str(error))
        except ClientGoneError:
            answer = _refusal(408, "the request did not arrive in time")
        except LogError as error:
            answer = _refusal(503, error.message, (b"retry-after", b"%d" % error.retry_after_seconds))
        except Exception:
            # Whatever it was, the message is not in the log: the client must keep it.
            _log.exception("a request failed")
            answer = _refusal(503, "this request failed; please send it again", (b"retry-after", b"5"))
        if answer.status >= 400 and not receive.is_whole:
            # Otherwise a server reads on to the end of what was refused, be it a gigabyte.
            answer.headers = (*answer.headers, (b"connection", b"close"))
        route = path if path in ROUTES or path in _OTHERS else "other"
        metrics.REQUESTS.labels(route, str(answer.status)).inc()
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [
                    (b"content-type", answer.content_type),
                    (b"content-length", b"%d" % len(answer.body)),
                    *(_CORS if _is_for_pages(path) else ()),
                    *answer.headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, method: str, path: str, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        if method == "OPTIONS":
            allowed = headers.get(b"access-control-request-headers", _ASKED_HEADERS)
            return Answer(204, b"", (b"access-control-allow-headers", allowed), *_PREFLIGHT)
        kind = ROUTES.get(path, "")
        if kind == "":
            return await self._other(method, path, headers, receive)
        if method != "POST":
            return _refusal(405, "send events with POST", (b"allow", b"POST, OPTIONS"))
        source = self._source_in(headers)
        request = read_request(await read_body(receive, headers, seconds=self._body_seconds), kind)
        if source is None:
            source = self._source_of(request.write_key)
        now = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines = stamp(request, source=source, received_at=now)
        if lines:
            await self._merger.append(lines)
        metrics.MESSAGES.labels(source).inc(len(request.messages))
        metrics.BYTES.inc(len(lines))
        return Answer(200, _SUCCESS)

    def _source_in(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The source of the key in the header, looked up before a byte of the body is read."""
        scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"basic":
            return None
        try:
            name = base64.b64decode(value.strip(), validate=False).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            name = ""
        return self._source_of(name.partition(":")[0])

    def _source_of(self, key: str | None) -> str:
        source = self._keys.source_of(key) if key else None
        if source is None:
            why = (
                "the write key is not known; `segue keys create NAME` makes one"
                if key
                else "a write key is needed: as user name, or as `writeKey`"
            )
            # No `WWW-Authenticate`: a browser would ask the visitor of the page for a password.
            raise _refusal(401, why)
        return source

    async def _other(self, method: str, path: str, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        if path == "/v1/m" and method == "POST":  # what analytics.js measures of itself
            await read_body(receive, headers, seconds=self._body_seconds)
            return Answer(200, _SUCCESS)
        if method not in ("GET", "HEAD"):
            return _refusal(404, f"there is nothing at {path[:100]}")
        if path == "/health":
            return await self._health()
        if path == "/metrics":
            await self._measure_log()
            return Answer(200, generate_latest(metrics.REGISTRY), content_type=CONTENT_TYPE_LATEST.encode())
        if path.startswith(_PROJECTS) and path.endswith(_SETTINGS):
            return self._project(unquote(path[len(_PROJECTS) : -len(_SETTINGS)]), headers)
        return _refusal(404, f"there is nothing at {path[:100]}")

    async def _health(self) -> Answer:
        state = await asyncio.to_thread(self._event_log.status)
        if state.bytes >= state.ceiling_bytes:
            return _refusal(503, "the event log is full", (b"retry-after", b"10"))
        return Answer(200, msgspec.json.encode({"status": "ok", "log_bytes": state.bytes, "keys": len(self._keys)}))

    async def _measure_log(self) -> None:
        try:
            state = await asyncio.to_thread(self._event_log.status)
        except LogError:
            metrics.LOG_UP.set(0)
            return
        metrics.LOG_UP.set(1)
        metrics.LOG_BYTES.set(state.bytes)
        metrics.LOG_CEILING.set(state.ceiling_bytes)
        metrics.LOG_ENTRIES.set(state.entries)
        for reader, lag in state.lags.items():
            metrics.LAG_SECONDS.labels(reader).set(lag.seconds)
            metrics.LAG_ENTRIES.labels(reader).set(lag.entries)

    def _project(self, key: str, headers: Mapping[bytes, bytes]) -> Answer:
        """What analytics.js is told: send everything here, and nowhere else."""
        self._source_of(key)
        host = headers.get(b"host", b"").decode("latin-1")
        protocol = headers.get(b"x-forwarded-proto", b"http").decode("latin-1")
        here = {"apiKey": key, "apiHost": f"{host}/v1", "protocol": protocol}
        return Answer(200, msgspec.json.encode({"integrations": {"Segment.io": here}, "plan": {}}))


def _is_for_pages(path: str) -> bool:
    """Whether a web page's script may read the answer: the figures of the collector are nobody's who passes by."""
    return path not in ("/health", "/metrics")


_OTHERS = ("/health", "/metrics", "/v1/m")


async def _live(receive: Receive, send: Send) -> None:
    """A server asks whether it may start and stop."""
    while True:
        message = await receive()
        kind = message["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
