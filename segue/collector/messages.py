"""A request's body into lines for the log: what the client wrote, with what only we know spliced in front.

Most messages are never taken apart: their bytes are checked and copied. Only a message that has a field of ours
already, or shares one with its batch, is put together anew, field by field; the values keep their bytes even then.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

#: Segment's limits.
MESSAGE_BYTES = 32 * 1024
REQUEST_BYTES = 500 * 1024
#: Twice as many as Segment takes; a real message has more bytes than leave room for so many.
BATCH_MESSAGES = 5_000

#: What a batch says once for all its messages counts as a part of each, but for what any SDK says of itself.
_FREE_BYTES = 1024
#: What it may become when it is copied into each of them.
_COPIED_BYTES = 4 * 1024 * 1024
#: How deep what a batch says and what a message says are put together: each level costs a look at all below it.
_DEPTH = 20

#: Path → type of message; None for routes that take several messages in `batch`.
ROUTES: Mapping[str, str | None] = {
    **{
        f"/v1/{path}": kind
        for kind in ("track", "identify", "page", "screen", "group", "alias")
        for path in (kind, kind[0])
    },
    "/v1/batch": None,
    "/v1/b": None,
    "/v1/import": None,
}

_NULL = b"null"
_EMPTY = (b"null", b'""')


class BadRequestError(Exception):
    """The request cannot be taken; the text is for the client."""


class _Envelope(Struct):
    """What belongs to the request and not to a message."""

    batch: list[Raw] | UnsetType | None = UNSET
    writeKey: str | UnsetType | None = UNSET
    sentAt: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    integrations: Raw | UnsetType = UNSET


class _Message(Struct, gc=False, rename={"source": "_source"}):
    """The fields of a message that matter to us."""

    type: Raw | UnsetType = UNSET
    messageId: Raw | UnsetType = UNSET
    message_id: Raw | UnsetType = UNSET
    timestamp: Raw | UnsetType = UNSET
    originalTimestamp: Raw | UnsetType = UNSET
    original_timestamp: Raw | UnsetType = UNSET
    sentAt: Raw | UnsetType = UNSET
    sent_at: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    integrations: Raw | UnsetType = UNSET
    receivedAt: Raw | UnsetType = UNSET
    received_at: Raw | UnsetType = UNSET
    source: Raw | UnsetType = UNSET
    writeKey: Raw | UnsetType = UNSET


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_message = msgspec.json.Decoder(_Message).decode
_read_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode

#: An escape in a JSON text: a pair of surrogates, one alone, or anything else.
_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A body that has been read, not yet stamped."""

    write_key: str | None
    messages: list[Raw]
    sent_at: bytes | None  # JSON text, as the others here
    context: bytes | None
    integrations: bytes | None
    kind: str | None  # type of message, from the route
    has_line_ends: bool


def read_request(body: bytes, kind: str | None) -> Request:
    """Take a body apart.

    Args:
        body: JSON in UTF-8.
        kind: type of the one message; None when the body is a batch.

    Raises:
        BadRequestError: no JSON, not the right shape, or too many messages.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise BadRequestError("the body is not UTF-8") from None
    body = body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    envelope, body = _envelope(body)
    if kind is None:
        if not isinstance(envelope.batch, list):
            raise BadRequestError("the body has no `batch` of messages")
        messages = envelope.batch
        if len(messages) > BATCH_MESSAGES:
            raise BadRequestError(
                f"the batch has {len(messages):,} messages, and may have {BATCH_MESSAGES:,}: send several"
            )
    else:
        messages = [Raw(body)]
    is_batch = kind is None
    return Request(
        write_key=envelope.writeKey or None,
        messages=messages,
        sent_at=_given(envelope.sentAt) if is_batch else None,
        context=_given(envelope.context) if is_batch else None,
        integrations=_given(envelope.integrations) if is_batch else None,
        kind=kind,
        has_line_ends=b"\n" in body or b"\r" in body,
    )


def _envelope(body: bytes) -> tuple[_Envelope, bytes]:
    try:
        return _read_envelope(body), body
    except msgspec.ValidationError as error:
        raise BadRequestError(f"the body is not a message: {error}") from None
    except RecursionError:
        raise BadRequestError("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Half an emoji, cut by a client, is written as an escape that is no character. The rest is sound.
        mended = _ESCAPE.sub(_mend, body) if b"\\u" in body else body
        if mended == body:
            raise BadRequestError(f"the body is not JSON: {error}") from None
        return _envelope(mended)


def _mend(found: "re.Match[bytes]") -> bytes:
    return b"\\ufffd" if found[2] else found[0]


def _given(raw: Raw | UnsetType) -> bytes | None:
    text = None if raw is UNSET else bytes(raw)
    return None if text == _NULL else text


def stamp(request: Request, *, source: str, received_at: str) -> bytes:
    """The messages as lines of the log, each with `receivedAt`, `_source`, an id, and when it was sent.

    Args:
        source: whose write key it was.
        received_at: ISO 8601, UTC.

    Raises:
        BadRequestError: a message over its limit, or a batch that would become too much.
    """
    front = b'{"receivedAt":"%b","_source":%b' % (received_at.encode(), _encode(source))
    sent = b"" if request.sent_at is None else b',"sentAt":' + request.sent_at
    context = b"" if request.context is None else b',"context":' + request.context
    integrations = b"" if request.integrations is None else b',"integrations":' + request.integrations
    quoted_kind = _encode(request.kind)
    kind = b"" if request.kind is None else b',"type":' + quoted_kind
    shared = len(sent) + len(context) + len(integrations)
    if shared * len(request.messages) > _COPIED_BYTES:
        raise BadRequestError(
            f"what the batch says for each of its messages makes more than {_COPIED_BYTES:,} bytes: send several"
        )
    most = MESSAGE_BYTES - max(0, shared - _FREE_BYTES)
    last = sent + b","
    lines: list[bytes] = []
    add = lines.append
    for at, raw in enumerate(request.messages):
        text = bytes(raw)
        if len(text) > most:
            raise BadRequestError(f"a message has more than {MESSAGE_BYTES:,} bytes, with what its batch says for it")
        if request.has_line_ends:
            text = text.replace(b"\n", b" ").replace(b"\r", b" ")
        if text[:1] != b"{":  # no message at all: kept for the quarantine
            lines += (text, b"\n")
            continue
        m = _read_message(text)
        if (
            m.receivedAt is not UNSET
            or m.source is not UNSET
            or m.writeKey is not UNSET
            or m.received_at is not UNSET
            or (m.messageId is not UNSET and bytes(m.messageId) in _EMPTY)
            or (sent and (m.sentAt is not UNSET or m.sent_at is not UNSET))
            or (context and m.context is not UNSET)
            or (integrations and m.integrations is not UNSET)
            or (kind and m.type is not UNSET and bytes(m.type) != quoted_kind)
        ):
            text = _without_ours(text, request)
            m = _read_message(text)
        add(front)
        if m.messageId is UNSET and m.message_id is UNSET:
            add(b',"messageId":"%b"' % _made_id(m, text, request, source, at).encode())
        if m.timestamp is not UNSET and m.originalTimestamp is UNSET and m.original_timestamp is UNSET:
            # What a client calls `timestamp` is its own clock's; the spec corrects it from `originalTimestamp`.
            add(b',"originalTimestamp":')
            add(bytes(m.timestamp))
        if kind and m.type is UNSET:
            add(kind)
        if context and m.context is UNSET:
            add(context)
        if integrations and m.integrations is UNSET:
            add(integrations)
        add(last if len(text) > 8 or text[1:].strip() != b"}" else sent)
        add(text[1:])
        add(b"\n")
    return b"".join(lines)


def _without_ours(text: bytes, request: Request) -> bytes:
    """The message without what we will say ourselves, and with what it shares with its batch put together."""
    fields = _read_fields(text)
    for name in ("receivedAt", "received_at", "_source", "writeKey"):
        fields.pop(name, None)
    if request.sent_at is not None:
        fields.pop("sentAt", None)
        fields.pop("sent_at", None)
    if request.kind is not None:
        fields["type"] = Raw(_encode(request.kind))
    if bytes(fields.get("messageId", b"")) in _EMPTY:
        del fields["messageId"]
    for name, shared in (("context", request.context), ("integrations", request.integrations)):
        if shared is not None and name in fields:
            fields[name] = Raw(_together(shared, bytes(fields[name])))
    return _encode(fields)


def _together(shared: bytes, own: bytes, depth: int = 0) -> bytes:
    """What the batch says and what the message says; the message is heard last, at every depth of objects."""
    if own == _NULL:
        return shared
    if own[:1] != b"{" or shared[:1] != b"{":
        return own
    if depth == _DEPTH:
        raise BadRequestError("the JSON is nested too deeply")
    fields = _read_fields(shared)
    for name, value in _read_fields(own).items():
        fields[name] = Raw(_together(bytes(fields[name]), bytes(value), depth + 1)) if name in fields else value
    return _encode(fields)


def _made_id(m: _Message, text: bytes, request: Request, source: str, at: int) -> str:
    """An id for a message that has none.

    With a time of its own the same message makes the same id, so that sending it again adds nothing. Without one,
    two that are alike are two.
    """
    if m.timestamp is UNSET and m.originalTimestamp is UNSET and m.original_timestamp is UNSET:
        return f"collector-{uuid.uuid4()}"
    digest = hashlib.blake2b(b"%b\0%d\0%b" % (source.encode(), at, text), digest_size=16)
    digest.update(request.sent_at or b"")
    return f"collector-{digest.hexdigest()}"
