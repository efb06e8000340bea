"""Requests that bring a body: who sends it is looked at first, then how much it is and how long it takes."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from segue.serving.problems import Problem, problem
from segue.serving.quick import COUNTED, App

#: A thousand identifiers of a thousand letters fit.
BODY_BYTES = 2_000_000
_BODY_SECONDS = 20.0


class Guard:
    """An ASGI application in front of another one, which gets each body as a whole.

    Args:
        app: answers what may be asked.
        refusal: why the value of an Authorization header may not ask; None when it may, and the request is counted.
        seconds: that a body may take.
    """

    def __init__(self, app: App, *, refusal: Callable[[str], Problem | None], seconds: float = _BODY_SECONDS) -> None:
        self._app, self._refusal, self._seconds = app, refusal, seconds

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] == "GET":
            await self._app(scope, receive, send)
            return
        if not scope["path"].startswith("/v1/"):  # nothing there takes a body
            await self._app(scope, receive, _closing(send))
            return
        headers = dict(scope["headers"])
        try:
            refused = self._refusal(headers.get(b"authorization", b"").decode("latin-1"))
            if refused is not None:
                raise refused
            body = await self._body(headers, receive)
        except Problem as error:
            answer = problem(error.status_code, str(error.detail), error.fix, error.headers)
            await answer(scope, receive, _closing(send))
            return
        if body is not None:
            await self._app({**scope, COUNTED: True}, _replayed(body, receive), send)

    async def _body(self, headers: dict[bytes, bytes], receive: Any) -> bytes | None:
        """All of it; None when the client is gone."""
        if int(headers.get(b"content-length", b"0")) > BODY_BYTES:
            raise _too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > BODY_BYTES:
                        raise _too_large()
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise Problem(408, "the request did not arrive in time", "send all of it at once") from None


def _too_large() -> Problem:
    return Problem(413, f"the request has more than {BODY_BYTES:,} bytes", "ask for fewer people at once")


def _closing(send: Any) -> Callable[[Any], Awaitable[None]]:
    """Sends, and ends the connection: else the server reads on to the end of what was refused, be it a gigabyte."""

    async def to_the_end(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return to_the_end


def _replayed(body: bytes, receive: Any) -> Callable[[], Awaitable[Any]]:
    is_read = False

    async def again() -> Any:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
