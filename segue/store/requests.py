"""What others ask of the engine, which alone writes the store: to look at people again."""

from collections.abc import Iterable, Sequence
from typing import Any

import redis

from segue.store import keys
from segue.store.keys import told

#: Stands for everybody: the history is to be loaded anew.
EVERYBODY = "*"


class Requests:
    """Ids of people who are to be looked at again. Asking twice is asking once; who is done is taken off after it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def ask(self, people: Iterable[str]) -> None:
        """Have these looked at again; `EVERYBODY` is one of them."""
        wanted = list(people)
        if wanted:
            with told():
                self._client.sadd(keys.REQUESTS, *wanted)

    def waiting(self, limit: int = 1_000) -> Sequence[str]:
        """Who is to be looked at, at most so many; `EVERYBODY` comes last."""
        with told():
            found: Any = self._client.srandmember(keys.REQUESTS, limit)
        return sorted((person.decode() for person in found), key=lambda person: (person == EVERYBODY, person))

    def count(self) -> int:
        """How many wait."""
        with told():
            return int(self._client.scard(keys.REQUESTS))  # type: ignore[arg-type]

    def done(self, people: Iterable[str]) -> None:
        """These have been looked at."""
        finished = list(people)
        if finished:
            with told():
                self._client.srem(keys.REQUESTS, *finished)
