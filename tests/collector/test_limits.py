"""What one request may cost: it stays near its own size, whatever it is made of, and no real client meets a limit."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from segue.collector import BATCH_MESSAGES, MESSAGE_BYTES, REQUEST_BYTES
from segue.collector.body import read_body
from segue.collector.merge import Merger
from segue.collector.messages import BadRequestError, read_request, stamp
from segue.errors import LogFullError


def lines(body: bytes | dict[str, Any]) -> list[bytes]:
    """What a batch becomes."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert len(text) <= REQUEST_BYTES
    return stamp(read_request(text, None), source="web", received_at="2026-03-02T12:00:00.000Z").splitlines()


def batch(message: bytes, count: int, *, context: bytes = b"null") -> bytes:
    return b'{"context":%b,"batch":[%b]}' % (context, b",".join([message] * count))


def of_size(size: int) -> dict[str, str]:
    """A context of so many bytes."""
    return {"x": "y" * (size - len('{"x": ""}'))}


def unpacked(body: bytes) -> bytes:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return asyncio.run(read_body(receive, {}, seconds=20))


def test_a_body_of_many_gzip_members_is_refused_and_one_of_some_is_read() -> None:
    member = gzip.compress(b"x")
    assert unpacked(member * 64) == b"x" * 64
    with pytest.raises(BadRequestError, match="64 members"):
        unpacked(member * 65)
    with pytest.raises(BadRequestError, match="64 members"):
        unpacked(gzip.compress(b"") * 20_000)


def test_a_batch_has_a_limit_of_messages_that_the_refusal_names() -> None:
    assert len(lines(batch(b"{}", BATCH_MESSAGES))) == BATCH_MESSAGES
    with pytest.raises(BadRequestError, match=r"166,000 messages, and may have 5,000"):
        lines(batch(b"{}", 166_000))


def test_what_a_batch_says_once_cannot_become_gigabytes() -> None:
    context = json.dumps(of_size(20_000)).encode()
    assert len(lines(batch(b"{}", 200, context=context))) == 200
    with pytest.raises(BadRequestError, match="more than 4,194,304 bytes: send several"):
        lines(batch(b"{}", 2_000, context=context))


@pytest.mark.parametrize("name", ["context", "integrations", "sentAt"])
def test_a_message_with_what_its_batch_says_for_it_is_a_message(name: str) -> None:
    message = {"event": "Clicked", "properties": of_size(20_000)}
    assert len(lines({name: of_size(12_000), "batch": [message]})[0]) < MESSAGE_BYTES
    with pytest.raises(BadRequestError, match=r"32,768 bytes, with what its batch says"):
        lines({name: of_size(14_000), "batch": [message]})


def test_a_message_of_full_size_keeps_its_place_in_a_batch_that_names_its_library() -> None:
    message = {"properties": of_size(MESSAGE_BYTES - len('{"properties": }'))}
    found = lines({"context": {"library": {"name": "x"}}, "sentAt": "2026-03-02T12:00:00Z", "batch": [message]})
    assert json.loads(found[0])["properties"] == message["properties"]


def test_a_full_batch_of_an_sdk_is_taken() -> None:
    message = {
        "type": "track", "event": "Clicked", "userId": "u", "messageId": "m" * 36, "timestamp": "2026-03-02T12:00:00Z",
        "properties": {"n": 1}, "context": {"library": {"name": "analytics-x", "version": "1.2.3"}},
    }  # fmt: skip
    shared = {"ip": "1.1.1.1", "device": of_size(1_000)}
    found = lines({"sentAt": "2026-03-02T12:00:00Z", "context": shared, "batch": [message] * 2_000})
    assert len(found) == 2_000
    assert json.loads(found[-1])["context"] == shared | message["context"]  # type: ignore[operator]


def test_contexts_are_put_together_only_as_deep_as_any_is() -> None:
    def nested(depth: int, end: object) -> Any:
        return {"a": nested(depth - 1, end)} if depth else end

    found = lines({"context": nested(15, {"b": 1}), "batch": [{"context": nested(15, {"c": 2})}]})
    assert json.loads(found[0])["context"] == nested(15, {"b": 1, "c": 2})
    with pytest.raises(BadRequestError, match="nested too deeply"):
        lines({"context": nested(300, 1), "batch": [{"context": nested(300, 2)}]})


def test_more_than_may_wait_for_the_log_is_refused_even_when_nothing_waits() -> None:
    async def append() -> None:
        await Merger(None, limit_bytes=10).append(b"x" * 11)  # type: ignore[arg-type]

    with pytest.raises(LogFullError):
        asyncio.run(append())
