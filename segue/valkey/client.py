"""Connections to the Valkey of a home."""

import logging
from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
from redis.asyncio import BlockingConnectionPool, UnixDomainSocketConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from segue.settings import Settings
from segue.valkey.paths import socket_path

_log = logging.getLogger(__name__)

#: With which a server keeps whatever it has acknowledged.
_SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

#: A command that takes longer has failed. An fsync on a busy disk can take seconds.
_TIMEOUT_SECONDS = 10.0
#: Connections of a client for an event loop.
_CONNECTIONS = 100


def connect(settings: Settings, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> redis.Redis:
    """A client that connects when it is first used, and again after the server was away. Bytes in, bytes out.

    Nothing is retried by itself: a command that broke off may have been done, and only the caller knows whether
    doing it twice is harmless.

    Args:
        timeout_seconds: longest wait for an answer; a blocking read must wait for less.
    """
    retry = Retry(NoBackoff(), 0)
    if settings.valkey_url:
        return redis.Redis.from_url(settings.valkey_url, socket_timeout=timeout_seconds, retry=retry)
    return redis.Redis(unix_socket_path=str(socket_path(settings)), socket_timeout=timeout_seconds, retry=retry)


def connect_async(settings: Settings, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> redis.asyncio.Redis:
    """As `connect`, for one event loop: a client must not be shared by two loops.

    Who finds every connection taken waits for one, as for an answer: many at once are no fault.
    """
    options: dict[str, Any] = {
        "max_connections": _CONNECTIONS,
        "timeout": timeout_seconds,
        "socket_timeout": timeout_seconds,
        "retry": AsyncRetry(NoBackoff(), 0),
    }
    if settings.valkey_url:
        pool = BlockingConnectionPool.from_url(settings.valkey_url, **options)
    else:
        path = str(socket_path(settings))
        pool = BlockingConnectionPool(connection_class=UnixDomainSocketConnection, path=path, **options)
    return redis.asyncio.Redis.from_pool(pool)


def is_running(settings: Settings) -> bool:
    """Whether the server answers and has read its files."""
    client = connect(settings, timeout_seconds=2.0)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def check_safety(client: redis.Redis) -> tuple[str, ...]:
    """What of the server's configuration could lose what was acknowledged: a sentence each, with the fix.

    Our own server has none. Managed servers hide theirs, wholly or in part: then it is said what to see to.
    """
    found: dict[Any, Any] = {}
    for pattern in ("append*", "maxmemory-policy"):  # one by one: older servers take no two
        with suppress(redis.ResponseError):
            found |= client.config_get(pattern)
    state = {_text(name): _text(value) for name, value in found.items()}
    wrong = [
        f"Valkey has {name} {state[name]}, which can lose acknowledged events: set it to {value}"
        for name, value in _SAFE.items()
        if state.get(name, value) != value
    ]
    hidden = " and ".join(f"{name} {value}" for name, value in _SAFE.items() if name not in state)
    if hidden:
        wrong.append(f"Valkey does not say whether it has {hidden}; without it, acknowledged events can be lost")
    return tuple(wrong)


def warn_if_unsafe(settings: Settings) -> None:
    """Say in the log what could lose acknowledged events, for a server that is not ours. Nothing is refused.

    Who pays for a managed server may have to live with what it offers, and should know what it is.
    """
    if not settings.valkey_url:
        return
    client = connect(settings, timeout_seconds=2.0)
    try:
        for sentence in check_safety(client):
            _log.warning("%s", sentence)
    except (redis.RedisError, OSError):
        _log.warning("the server of SEGUE_VALKEY_URL does not answer: whether it is safe is not known yet")
    finally:
        client.close()


def _text(word: str | bytes) -> str:
    # The two protocols of the client differ in which words they decode.
    return word.decode() if isinstance(word, bytes) else word
