"""One signed request to a receiver, and what its answer means."""

import asyncio
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import httpcore
import orjson
from standardwebhooks.webhooks import Webhook

from segue.errors import SegueError
from segue.serving.addresses import PrivateAddressError, PublicOnly
from segue.serving.endpoints import Endpoint
from segue.serving.stream import public
from segue.store import Transition
from segue.store.model import stamp_text

if find_spec("sniffio") is None:
    # httpcore tries to import it for each request; a module that is known to be missing is not looked for on disk.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

#: For each step of a request, and for all of it: a receiver that drips its answer must not hold us.
_STEP_SECONDS, _SECONDS = 10.0, 20.0
#: As much of an answer is read so that the connection can be used again; of a longer one the connection is closed.
_ANSWER_BYTES = 4_096
_LONGEST_WAIT_SECONDS = 3_600.0


class Verdict(Enum):
    """What an attempt came to."""

    TAKEN = "taken"
    #: This message is not wanted; others may be.
    REFUSED = "refused"
    #: Nothing can be delivered just now.
    AWAY = "away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A message sent once, and how it went.

    `error` is a sentence, "" when it was taken. `retry_after_seconds`: the receiver asks for so long a pause.
    """

    verdict: Verdict
    error: str = ""
    status: int | None = None
    retry_after_seconds: float = 0.0


class Poster:
    """Sends to receivers, for one event loop. No redirect is followed and no proxy of the environment is used."""

    def __init__(self, *, allow_private: bool) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            network_backend=httpcore.AnyIOBackend() if allow_private else PublicOnly(),
            max_connections=None,
            max_keepalive_connections=512,
            keepalive_expiry=30,
        )

    async def transition(self, to: Endpoint, t: Transition, *, now: datetime) -> Attempt:
        """Tell of a transition; every attempt has the same id and the same body."""
        return await self.send(
            to, f"tr_{t.transition_id}", f"segment.{t.change}", public(t), happened_at=t.recorded_at, now=now
        )

    async def send(
        self, to: Endpoint, message_id: str, kind: str, data: dict[str, Any], *, happened_at: datetime, now: datetime
    ) -> Attempt:
        """Sign and send. Nothing that a receiver or the network does raises.

        Args:
            message_id: the same in every attempt.
            happened_at: stands in the body.
            now: time of this attempt, which is signed; aware.
        """
        body = orjson.dumps({"type": kind, "timestamp": stamp_text(happened_at), "data": data}).decode()
        try:
            signature = Webhook(to.signing_secret()).sign(message_id, now.astimezone(UTC), body)
        except SegueError as error:
            return Attempt(verdict=Verdict.AWAY, error=f"{error.message}: {error.fix}")
        headers: list[tuple[bytes, bytes]] = [
            (b"host", urlsplit(to.url).netloc.encode()),
            (b"content-type", b"application/json"),
            (b"user-agent", b"segue-webhooks"),
            (b"webhook-id", message_id.encode()),
            (b"webhook-timestamp", str(int(now.timestamp())).encode()),
            (b"webhook-signature", signature.encode()),
        ]
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._post(to.url, headers, body.encode())
        except PrivateAddressError as error:
            return Attempt(verdict=Verdict.AWAY, error=str(error))
        except (httpcore.TimeoutException, TimeoutError) as error:
            step = {"ConnectTimeout": "accept the connection"}.get(type(error).__name__, "answer in time")
            return Attempt(verdict=Verdict.AWAY, error=f"the receiver did not {step}")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError, UnicodeError) as error:
            return Attempt(verdict=Verdict.AWAY, error=_words(error))

    async def _post(self, url: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Attempt:
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), _STEP_SECONDS)
        async with self._pool.stream(
            "POST", url, headers=headers, content=body, extensions={"timeout": timeout}
        ) as answer:
            attempt = judge(answer.status, {k.lower(): v for k, v in answer.headers})
            # The status is the answer; what comes after it can be as long, slow or broken as it likes.
            with suppress(httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, TimeoutError):
                async with asyncio.timeout(1.0):
                    size = 0
                    async for part in answer.aiter_stream():
                        size += len(part)
                        if size > _ANSWER_BYTES:
                            break
            return attempt

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def judge(status: int, headers: dict[bytes, bytes]) -> Attempt:
    """What an answer means for the message.

    Args:
        headers: of the answer, names in lower case.
    """
    if 200 <= status < 300:
        return Attempt(verdict=Verdict.TAKEN, status=status)
    if 300 <= status < 400:
        parts = urlsplit(headers.get(b"location", b"").decode("latin-1"))
        place = f" to {parts.scheme}://{parts.hostname}{parts.path}" if parts.hostname else ""
        error = f"the receiver answered {status}, a redirect{place}; none is followed: give the final address"
        return Attempt(verdict=Verdict.AWAY, error=error[:300], status=status)
    is_refusal = 400 <= status < 500 and status not in (408, 425, 429)
    asked = headers.get(b"retry-after", b"")
    return Attempt(
        verdict=Verdict.REFUSED if is_refusal else Verdict.AWAY,
        error=f"the receiver answered {status}",
        status=status,
        retry_after_seconds=min(float(asked), _LONGEST_WAIT_SECONDS) if asked.isdigit() else 0.0,
    )


def _words(error: Exception) -> str:
    name = "no connection" if isinstance(error, httpcore.ConnectError) else "the connection broke"
    return f"{name}: {error}".rstrip(": ")[:300]
