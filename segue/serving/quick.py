"""The one question that is asked most, `GET /v1/people/{identifier}/segments`, without the framework.

The framework describes it in the document and answers all that is odd about it; what it would do for each request
costs more than the look-up itself.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from segue.errors import SegueError

#: Stands in the scope of a request that has been counted against its token's limit.
COUNTED = "segue.counted"
_BEFORE, _AFTER = "/v1/people/", "/segments"

_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))

App = Callable[[Any, Any, Any], Awaitable[None]]


class Quick:
    """An ASGI application in front of another one.

    Args:
        app: answers everything else, and whatever `is_reader` or `answer` does not.
        is_reader: whether the value of an Authorization header may ask now; if so the request is counted.
        answer: the JSON for an identifier; None when nobody has it.
    """

    def __init__(
        self, app: App, *, is_reader: Callable[[str], bool], answer: Callable[[str], Awaitable[bytes | None]]
    ) -> None:
        self._app, self._is_reader, self._answer = app, is_reader, answer

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "http" and scope["method"] == "GET":
            path: str = scope["path"]
            if path.startswith(_BEFORE) and path.endswith(_AFTER) and len(path) > len(_BEFORE) + len(_AFTER):
                token = next((v for k, v in scope["headers"] if k == b"authorization"), b"").decode("latin-1")
                if self._is_reader(token):
                    body = await self._quickly(path[len(_BEFORE) : -len(_AFTER)])
                    if body is not None:
                        headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
                        await send({"type": "http.response.start", "status": 200, "headers": headers})
                        await send({"type": "http.response.body", "body": body})
                        return
                    scope = {**scope, COUNTED: True}
        await self._app(scope, receive, send)

    async def _quickly(self, identifier: str) -> bytes | None:
        try:
            return await self._answer(identifier)
        except SegueError:
            return None  # the other one meets it as well, and has the words for it
