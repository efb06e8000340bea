"""Errors as problem JSON (RFC 9457): what is wrong, and the fix."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from segue.errors import LogError, SegueError, ValkeyError


class Problem(HTTPException):
    """An answer that says what is wrong."""

    def __init__(self, status: int, detail: str, fix: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.fix = fix


def problem(status: int, detail: str, fix: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """The answer itself."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if fix:
        body["fix"] = fix
    return Response(orjson.dumps(body), status, dict(headers or {}), media_type="application/problem+json")


def handle_problems(app: FastAPI) -> None:
    """Let every error of the app be one."""

    @app.exception_handler(HTTPException)
    async def _refused(_request: Request, error: HTTPException) -> Response:
        # What is no `Problem` comes from the router: an address or a method that there is not.
        fix = error.fix if isinstance(error, Problem) else "see /docs for what can be asked, /live for what happens"
        return problem(error.status_code, str(error.detail), fix, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return problem(422, wrong, "see /docs for what is expected")

    async def _away(_request: Request, error: Exception) -> Response:
        assert isinstance(error, SegueError)
        return problem(503, error.message, error.fix or "try again", {"Retry-After": "2"})

    app.add_exception_handler(ValkeyError, _away)
    app.add_exception_handler(LogError, _away)
