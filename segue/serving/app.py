"""The API. Its document stands at /docs."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from segue.keys import READ, KeyRing
from segue.serving import metrics
from segue.serving.guard import Guard
from segue.serving.limits import RateLimit
from segue.serving.problems import Problem, handle_problems
from segue.serving.quick import COUNTED, Quick
from segue.serving.state import State
from segue.serving.stream import POSITION, Streams
from segue.settings import Settings
from segue.store import Reader, open_store

_LIVE = Path(__file__).with_name("live.html")
_bearer = HTTPBearer(auto_error=False, description="A token of `segue tokens create NAME`")
_MOST_AT_ONCE = 1_000

Identifier = Annotated[str, Field(min_length=1, max_length=1_000)]


class Identifiers(BaseModel):
    """Whom to look up."""

    identifiers: list[Identifier] = Field(min_length=1, max_length=_MOST_AT_ONCE)


def make_app(settings: Settings, clock: Callable[[], datetime]) -> FastAPI:
    """The API of a home.

    Args:
        clock: the system's time, for how far answers are behind.
    """
    store = open_store(settings)
    tokens = KeyRing(settings, READ)
    limit = RateLimit(settings.api_requests_per_second, time.monotonic)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reader = app.state.reader = store.reader()
        streams = app.state.streams = Streams(reader.client, store.outbox.newest)
        state = app.state.seen = State(settings, reader, clock)
        await state.look()
        following = asyncio.create_task(state.follow_store())
        stop = threading.Event()
        # Nobody waits for it at the end, so it is no task of the loop.
        threading.Thread(target=state.project.follow, args=(stop,), name="project", daemon=True).start()
        yield
        stop.set()
        following.cancel()
        streams.close()
        await reader.client.aclose()

    app = FastAPI(
        title="Segue",
        version="1",
        description="Who is in which segment, now. People are found by any of their identifiers: a person_id, "
        "a user id, an anonymous id, a device id or an e-mail address; `type:value` says which is meant.",
        lifespan=lifespan,
        redoc_url=None,
    )
    handle_problems(app)

    def name_in(authorization: str) -> str | None:
        scheme, _, token = authorization.partition(" ")
        return tokens.source_of(token.strip()) if scheme.lower() == "bearer" else None

    def is_reader(authorization: str) -> bool:
        name = name_in(authorization)
        return name is not None and not limit.wait_seconds(name)

    def refusal(name: str | None, *, is_counted: bool = False) -> Problem | None:
        if name is None:
            return Problem(
                401,
                "a read token is needed",
                "send `Authorization: Bearer TOKEN`; `segue tokens create NAME` makes one",
                {"WWW-Authenticate": "Bearer"},
            )
        wait = 0.0 if is_counted else limit.wait_seconds(name)
        if wait:
            return Problem(
                429,
                f"more than {settings.api_requests_per_second} requests a second with this token",
                "wait, or ask for many people at once with POST /v1/people/segments",
                {"Retry-After": str(max(1, round(wait)))},
            )
        return None

    async def quick_answer(identifier: str) -> bytes | None:
        return await _segments_of(app, identifier)

    app.add_middleware(Guard, refusal=lambda authorization: refusal(name_in(authorization)))
    # The outermost: what it answers pays for no other.
    app.add_middleware(Quick, is_reader=is_reader, answer=quick_answer)

    async def reads(request: Request, token: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        name = tokens.source_of(token.credentials) if token is not None else None
        refused = refusal(name, is_counted=COUNTED in request.scope)
        if refused is not None:
            raise refused

    secured: dict[str, Any] = {
        "dependencies": [Depends(reads)],
        "responses": {401: {}, 404: {}, 422: {}, 429: {}, 503: {}},
    }

    with_a_body = secured | {"responses": {**secured["responses"], 408: {}, 413: {}}}

    @app.post("/v1/people/segments", tags=["people"], **with_a_body)
    async def segments_of_many(wanted: Identifiers, request: Request) -> Response:
        """The segments of up to 1,000 people; says who is unknown."""
        found = await _reader(request).segments_of_many(wanted.identifiers)
        pairs = list(zip(wanted.identifiers, found, strict=True))
        return _answer(
            request,
            b'"people":[%b],"unknown":%b'
            % (
                b",".join(
                    b'{"identifier":%b,"personId":%b,"segments":%b}'
                    % (orjson.dumps(name), orjson.dumps(one[0].decode()), one[1])
                    for name, one in pairs
                    if one is not None
                ),
                orjson.dumps([name for name, one in pairs if one is None]),
            ),
        )

    @app.get("/v1/people/{identifier:path}/segments", tags=["people"], **secured)
    async def segments_of(identifier: str, request: Request) -> Response:
        """Which segments a person is in, and since when."""
        found = await _segments_of(request.app, identifier)
        if found is None:
            raise _unknown_person()
        return Response(found, media_type="application/json", headers={"Cache-Control": "no-store"})

    @app.get("/v1/people/{identifier:path}", tags=["people"], **secured)
    async def person(identifier: str, request: Request) -> Response:
        """All that is known of a person: segments, features, identifiers."""
        found = await _reader(request).person(identifier)
        if found is None:
            raise _unknown_person()
        return _answer(
            request,
            b'"personId":%b,"segments":%b,"features":%b,"identifiers":%b'
            % (
                orjson.dumps(found.person_id),
                found.segments,
                found.features,
                orjson.dumps([{"type": k, "value": v} for k, v in orjson.loads(found.identifiers)]),
            ),
        )

    @app.get("/v1/segments", tags=["segments"], **secured)
    async def segments(request: Request) -> Response:
        """The segments served in real time, and how many people each has."""
        counts = await _reader(request).segment_counts()
        known = request.app.state.seen.project.segments
        rows = [
            {
                "segment": name,
                "people": counts.get(name, 0),
                "description": known[name].description if name in known else "",
                "owner": known[name].owner if name in known else "",
            }
            for name in sorted({*known, *(name for name, count in counts.items() if count)})
        ]
        return _answer(request, b'"segments":' + orjson.dumps(rows))

    @app.get("/v1/segments/{segment}/members", tags=["segments"], **secured)
    async def members(
        segment: str,
        request: Request,
        after: Annotated[str, Query(max_length=1_000, description="`next` of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> Response:
        """Ids of the people in a segment, in order, a page at a time."""
        reader = _reader(request)
        if segment not in request.app.state.seen.project.segments and segment not in await reader.segment_counts():
            raise Problem(404, "there is no such segment", "GET /v1/segments lists them")
        people = await reader.members(segment, after=after, limit=limit + 1)
        page, more = people[:limit], len(people) > limit
        return _answer(
            request,
            b'"segment":%b,"members":%b,"next":%b'
            % (orjson.dumps(segment), orjson.dumps(page), orjson.dumps(page[-1] if more else None)),
        )

    @app.get("/v1/transitions/stream", tags=["transitions"], **secured)
    async def stream(
        request: Request,
        token: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)],
        segment: Annotated[list[str] | None, Query(description="only these segments")] = None,
        person: Annotated[
            str | None, Query(max_length=1_000, description="only this person, by any identifier")
        ] = None,
        last_event_id: Annotated[str | None, Header(pattern=POSITION)] = None,
    ) -> StreamingResponse:
        """Transitions as Server-Sent Events, from now on or from `Last-Event-ID` on; kept for 24 hours."""
        reader, streams = _reader(request), request.app.state.streams
        if streams.is_full:
            raise Problem(503, "too many streams are open", "close those that nobody reads", {"Retry-After": "10"})
        person_id = None
        if person is not None:
            found = await reader.segments_of(person)
            if found is None:
                raise _unknown_person()
            person_id = found[0].decode()
        after = last_event_id if last_event_id is not None else await asyncio.to_thread(store.outbox.newest)
        return StreamingResponse(
            streams.events(
                after,
                frozenset(segment or ()),
                person_id,
                lambda: tokens.source_of(token.credentials) is not None,
            ),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @app.get("/v1/status", tags=["operation"], **secured)
    async def status(request: Request) -> Response:
        """How the engine, the log and the store are; what the live page shows."""
        seen = request.app.state.seen
        counts = await _reader(request).segment_counts()
        return _answer(
            request,
            b'"people":%d,"outbox":%d,"engine":%b,"log":%b,"webhooks":%b,"segments":%b'
            % (
                seen.store.get("people", 0),
                seen.store.get("outbox", 0),
                orjson.dumps(seen.store.get("engine", {})),
                orjson.dumps(seen.log),
                orjson.dumps(
                    {
                        "endpoints": len(seen.webhooks),
                        "delivered": sum(one.delivery.delivered for one in seen.webhooks),
                        "waiting": sum(one.waiting for one in seen.webhooks),
                        "deadLetters": sum(one.dead_letters for one in seen.webhooks),
                        "inTrouble": [one.name for one in seen.webhooks if one.trouble],
                    }
                ),
                orjson.dumps({name: counts.get(name, 0) for name in sorted({*counts, *seen.project.segments})}),
            ),
        )

    @app.get("/health", tags=["operation"], responses={503: {}})
    async def health(request: Request) -> Response:
        """200 when the store answers."""
        if not request.app.state.seen.is_up:
            raise Problem(503, "the serving store does not answer", "start it: `segue up`", {"Retry-After": "2"})
        return Response(b'{"status":"ok"}', media_type="application/json")

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def prometheus(request: Request) -> Response:
        """For Prometheus; holds nothing of people."""
        return Response(metrics.text(request.app.state.seen), media_type=CONTENT_TYPE_LATEST)

    @app.get("/live", include_in_schema=False)
    async def live() -> FileResponse:
        return FileResponse(
            _LIVE,
            headers={
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                "Referrer-Policy": "no-referrer",
            },
        )

    return app


def _reader(request: Request) -> Reader:
    found: Reader = request.app.state.reader
    return found


async def _segments_of(app: FastAPI, identifier: str) -> bytes | None:
    """The answer to where somebody is; None when nobody has the identifier."""
    reader: Reader = app.state.reader
    found = await reader.segments_of(identifier)
    if found is None:
        return None
    return _fresh_body(app.state.seen, b'"personId":%b,"segments":%b' % (orjson.dumps(found[0].decode()), found[1]))


def _unknown_person() -> Problem:
    return Problem(
        404,
        "nobody has this identifier",
        "an identifier is known as soon as an event that carries it is evaluated; one that breaks its contract is not, "
        "and waits in `segue quarantine list`",
    )


def _answer(request: Request, inside: bytes) -> Response:
    """An object that also says how fresh it is."""
    return _fresh(request.app.state.seen, inside)


def _fresh(seen: State, inside: bytes) -> Response:
    return Response(_fresh_body(seen, inside), media_type="application/json", headers={"Cache-Control": "no-store"})


def _fresh_body(seen: State, inside: bytes) -> bytes:
    fresh = seen.freshness()
    lag = b"null" if fresh.lag_seconds is None else b"%.3f" % fresh.lag_seconds
    return b'{%b,"asOf":%b,"lagSeconds":%b}' % (inside, fresh.as_of_json, lag)
