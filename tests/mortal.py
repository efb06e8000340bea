"""Processes that die at a chosen write. What a dead one does afterwards reaches nobody: its clients are dead too."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import redis

from segue.settings import Settings
from segue.store import keys
from segue.valkey import socket_path

_READS = {"HGET", "HMGET", "HGETALL", "HEXISTS", "HSCAN", "HVALS", "HLEN", "XREAD", "XRANGE", "XREVRANGE", "XLEN"}
_READS |= {"TIME", "GET", "EXISTS", "PING", "SCRIPT LOAD", "SMEMBERS", "HKEYS"}


class Died(BaseException):
    """Stands for kill -9: no `except Exception` sees it."""


class Fate:
    """When a process dies: before a write, which to all others is the same as after the write before it.

    Args:
        at: the write, counted from 0; a negative one never comes.
    """

    def __init__(self, at: int = -1) -> None:
        self._at = at
        self.is_dead = False
        self.count = 0

    def write(self) -> None:
        """One more; or death."""
        if self.count == self._at:
            self.is_dead = True
        self.check()
        self.count += 1

    def check(self) -> None:
        """Nobody does anything once dead."""
        if self.is_dead:
            raise Died


class Mortal(redis.Redis):
    """A client that shares the fate of its process."""

    fate: Fate
    _last: tuple[Any, ...] = ()

    def execute_command(self, *words: Any, **options: Any) -> Any:
        self.fate.check()
        # What an engine says of itself, and what it says twice, comes as often as it has time for.
        is_said = words[0] == "EVALSHA" and words[3] == keys.META and words[2] == 2
        if words[0] not in _READS and not is_said and words != self._last:
            self._last = words
            self.fate.write()
        return super().execute_command(*words, **options)


def connecting(fate: Fate) -> Callable[..., Mortal]:
    """In place of `segue.valkey.connect`."""

    def connect(settings: Settings, **_: Any) -> Mortal:
        client = Mortal(unix_socket_path=str(socket_path(settings)))
        client.fate = fate
        return client

    return connect


def kill_this_process_before(at: int) -> None:
    """Have this very process killed (-9) before a write to Valkey, by whichever client; a negative one never comes."""
    count = 0

    def around(real: Callable[..., Any], is_write: Callable[..., bool]) -> Callable[..., Any]:
        def wrapped(self: Any, *words: Any, **options: Any) -> Any:
            nonlocal count
            if is_write(*words):
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
            return real(self, *words, **options)

        return wrapped

    single, many = redis.Redis.execute_command, redis.client.Pipeline.execute
    redis.Redis.execute_command = around(single, lambda *words: words[0] not in _READS)  # type: ignore[method-assign]
    redis.client.Pipeline.execute = around(many, lambda *_: True)  # type: ignore[method-assign]


def in_a_process(work: Callable[..., None], *arguments: Any) -> "multiprocessing.process.BaseProcess":
    """Run something in a process of its own, which may be killed. It is there soon: the modules are loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segue.serving", "segue.collector", "benchmarks.no_loss", "tests.mortal", "pytest"])
    process = context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process
