"""Processes that die at a chosen write. What a dead one does afterwards reaches nobody: its clients are dead too."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import redis

from segue.settings import Settings
from segue.valkey import socket_path

_READS = {"HGET", "HMGET", "HGETALL", "HEXISTS", "HSCAN", "HVALS", "HLEN", "XREAD", "XRANGE", "XREVRANGE", "XLEN"}
_READS |= {"TIME", "GET", "EXISTS", "PING", "SCRIPT LOAD", "SMEMBERS", "HKEYS"}


class Died(BaseException):
    """Stands for kill -9: no `except Exception` sees it."""


class Fate:
    """When a process dies.

    Args:
        at: the write at which it does, counted from 0; a negative one never comes.
        after: it dies when that write is done, and before it hears of it; otherwise before it.
    """

    def __init__(self, at: int = -1, *, after: bool = False) -> None:
        self._at, self._after = at, after
        self.is_dead = False
        self.writes: list[str] = []

    def write(self, what: str, do: Callable[[], Any]) -> Any:
        """Do it, or die."""
        self.check()
        is_the_one = len(self.writes) == self._at
        if is_the_one and not self._after:
            self._die(what)
        found = do()
        self.writes.append(what)
        if is_the_one:
            self._die(what)
        return found

    def check(self) -> None:
        if self.is_dead:
            raise Died("long dead")

    def _die(self, what: str) -> None:
        self.is_dead = True
        raise Died(f"{'after' if self._after else 'before'} {what}")


class Mortal(redis.Redis):
    """A client that shares the fate of its process."""

    fate: Fate

    def execute_command(self, *words: Any, **options: Any) -> Any:
        self.fate.check()
        if words[0] in _READS:
            return super().execute_command(*words, **options)
        return self.fate.write(str(words[0]), lambda: super(Mortal, self).execute_command(*words, **options))


def connecting(fate: Fate) -> Callable[..., Mortal]:
    """In place of `segue.valkey.connect`."""

    def connect(settings: Settings, **_: Any) -> Mortal:
        client = Mortal(unix_socket_path=str(socket_path(settings)))
        client.fate = fate
        return client

    return connect


def kill_this_process_at(at: int, *, after: bool) -> None:
    """Have this very process killed (-9) at a write to Valkey, by whichever client it makes it."""
    done = 0

    def around(real: Callable[..., Any], is_write: Callable[..., bool]) -> Callable[..., Any]:
        def wrapped(self: Any, *words: Any, **options: Any) -> Any:
            nonlocal done
            if not is_write(*words):
                return real(self, *words, **options)
            number, done = done, done + 1
            if number == at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = real(self, *words, **options)
            if number == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

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
