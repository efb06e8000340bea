"""One signed request to a receiver, which may not be one of our own machines."""

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import httpcore
import orjson
from standardwebhooks.webhooks import Webhook

from segue.serving.endpoints import Endpoint
from segue.serving.stream import public
from segue.store import Transition
from segue.store.model import stamp_text

_SECONDS = 15.0
_ANSWER_BYTES = 4_096


class PrivateAddressError(Exception):
    """The name leads to an address that is not of the public internet."""


class _PublicOnly(httpcore.SyncBackend):
    """Connects to the very address it has checked: a name that changes between looking and calling gains nothing."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host}: {error.strerror}") from error
        addresses = list(dict.fromkeys(str(row[4][0]).partition("%")[0] for row in found))
        if not all(_is_public(address) for address in addresses):
            raise PrivateAddressError(
                f"{host} leads to a private address; set SEGUE_WEBHOOK_ALLOW_PRIVATE=true if that is wanted"
            )
        return super().connect_tcp(addresses[0], port, timeout, local_address, socket_options)


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return (mapped or found).is_global and not (mapped or found).is_multicast


class Poster:
    """Sends to receivers. No redirect is followed and no proxy of the environment is used."""

    def __init__(self, *, allow_private: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            network_backend=httpcore.SyncBackend() if allow_private else _PublicOnly(),
            keepalive_expiry=30,
        )

    def send(self, to: Endpoint, message_id: str, kind: str, data: dict[str, Any], *, now: datetime) -> int:
        """Sign and send; returns the status.

        Args:
            message_id: the same in every attempt.
            now: time of this attempt, which is signed too.

        Raises:
            httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, PrivateAddressError.
        """
        body = orjson.dumps({"type": kind, "timestamp": stamp_text(now), "data": data}).decode()
        headers: dict[bytes | str, bytes | str] = {
            "content-type": "application/json",
            "user-agent": "segue-webhooks",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(to.signing_secret()).sign(message_id, now, body),
        }
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), _SECONDS)
        with self._pool.stream(
            "POST", to.url, headers=headers, content=body.encode(), extensions={"timeout": timeout}
        ) as answer:
            size = 0
            for part in answer.iter_stream():  # read, so that the connection can be used again
                size += len(part)
                if size > _ANSWER_BYTES:
                    break
            return int(answer.status)

    def transition(self, to: Endpoint, t: Transition, *, now: datetime) -> int:
        """Tell of a transition; see `send`."""
        return self.send(to, f"tr_{t.transition_id}", f"segment.{t.change}", public(t), now=now)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
