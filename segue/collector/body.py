"""The bytes of a request's body: bounded in size, packed or not, and in time."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from segue.collector.messages import REQUEST_BYTES, BadRequestError

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

#: Each member costs a copy of all that follow it; a client makes one.
_MEMBERS = 64
_TOO_LARGE = f"the request has more than {REQUEST_BYTES:,} bytes"


class ClientGoneError(Exception):
    """The client went away, or was too slow, before its request was whole."""


class Watched:
    """Receives, and knows whether the client has sent all of its request."""

    def __init__(self, receive: Receive, scope: Mapping[str, Any]) -> None:
        self._receive = receive
        self.is_whole = scope["method"] in ("GET", "HEAD", "OPTIONS")

    async def __call__(self) -> Mapping[str, Any]:
        message = await self._receive()
        self.is_whole = not message.get("more_body")
        return message


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, seconds: float) -> bytes:
    """The body, unpacked; at most `REQUEST_BYTES`, however it was sent.

    Args:
        seconds: for the whole of it.

    Raises:
        BadRequestError: too large, or packed in a way that cannot be read.
        ClientGoneError: broken off, or too slow.
    """
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > REQUEST_BYTES:
        raise BadRequestError(_TOO_LARGE)
    packing = headers.get(b"content-encoding", b"identity").strip().lower()
    if packing not in (b"identity", b"gzip", b""):
        raise BadRequestError("the body may be packed with gzip only")
    try:
        async with asyncio.timeout(seconds):
            body = await _receive(receive)
    except TimeoutError:
        raise ClientGoneError from None
    # Some senders pack and do not say so; no JSON begins with these bytes.
    return _unpack(body) if body[:2] == b"\x1f\x8b" else body


async def _receive(receive: Receive) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > REQUEST_BYTES:
            raise BadRequestError(_TOO_LARGE)
        return body
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > REQUEST_BYTES:
            raise BadRequestError(_TOO_LARGE)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _unpack(body: bytes) -> bytes:
    """gzip, of one or several members, which never grows over the limit while it is unpacked."""
    parts: list[bytes] = []
    size = 0
    while body:
        if len(parts) == _MEMBERS:
            raise BadRequestError(f"the gzip data has more than {_MEMBERS} members")
        member = zlib.decompressobj(31)
        try:
            part = member.decompress(body, REQUEST_BYTES - size + 1)
        except zlib.error as error:
            raise BadRequestError(f"the gzip data is damaged: {error}") from None
        size += len(part)
        if size > REQUEST_BYTES:
            raise BadRequestError(_TOO_LARGE)
        if not member.eof:
            raise BadRequestError("the gzip data is cut off")
        parts.append(part)
        body = member.unused_data.lstrip(b"\0")
    return b"".join(parts)
