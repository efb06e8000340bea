"""Webhooks: each endpoint follows the outbox at its own pace, so that one that fails delays no other.

An endpoint is past a transition when its receiver has answered 2xx, so whatever is killed, a receiver can see one
twice, with the same id, and never zero times. What a receiver refuses (4xx) is tried a few times and then kept as a
dead letter; while it is away (5xx, 429, no connection) the endpoint waits, in order, for up to three days.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import httpcore
import msgspec

from segue.errors import SegueError
from segue.serving.endpoints import Endpoint, endpoints
from segue.serving.post import Poster, PrivateAddressError
from segue.settings import Settings
from segue.store import Outbox, Store, Transition, open_store
from segue.store.keys import told
from segue.store.model import read_transition, transition_json
from segue.valkey import connect

_log = logging.getLogger(__name__)

#: Pauses between attempts (seconds), the last one again and again; each is varied by a third.
PAUSES = (1, 5, 30, 120, 600, 1_800, 3_600)
_LONGEST = 4 / 3
GIVE_UP = timedelta(days=3)
_REFUSED_ATTEMPTS = 4
_WAIT_SECONDS = 1.0
_AT_ONCE = 100
_STATE = "segue:{webhooks}:state"
_DEAD = "segue:{webhooks}:dead:"

Clock = Callable[[], datetime]


@dataclass(slots=True, kw_only=True)
class Delivery:
    """How an endpoint stands. Times are aware."""

    delivered: int = 0
    attempts: int = 0  # of the one that is being tried
    failing_since: datetime | None = None
    next_at: datetime | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be delivered."""

    position: str
    transition: Transition
    error: str


class Webhooks:
    """What the sender keeps in Valkey, for the sender itself and for whoever looks."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings)
        self.outbox = Outbox(self._client)

    def state(self, name: str) -> Delivery:
        """How an endpoint stands."""
        with told():
            text: Any = self._client.hget(_STATE, name)
        return msgspec.json.decode(text, type=Delivery) if text else Delivery()

    def keep(self, name: str, delivery: Delivery) -> None:
        """Remember how it stands."""
        with told():
            self._client.hset(_STATE, name, msgspec.json.encode(asdict(delivery)))  # type: ignore[arg-type]

    def begin(self, name: str, since: datetime) -> None:
        """Let an endpoint follow what is told from a time on, unless it follows already.

        The time is when it was added, and not when the sender first looks: what is told in between is for it too.
        """
        if self.outbox.committed(reader_of(name)) is None:
            self.outbox.commit(reader_of(name), self.outbox.at(since))

    def forget(self, name: str) -> None:
        """Drop all that is kept of an endpoint."""
        self.outbox.forget(reader_of(name))
        with told():
            self._client.hdel(_STATE, name)
            self._client.delete(_DEAD + name)

    def waiting(self, name: str) -> int:
        """Transitions that the endpoint has not come to, of all segments."""
        return self.outbox.lag(self.outbox.committed(reader_of(name)) or "")

    def bury(self, name: str, transition: Transition, error: str) -> None:
        """Keep a dead letter."""
        with told():
            self._client.xadd(_DEAD + name, {"t": transition_json(transition), "e": error})

    def dead(self, name: str) -> Sequence[DeadLetter]:
        """The dead letters of an endpoint, oldest first."""
        with told():
            rows: Any = self._client.xrange(_DEAD + name)
        return [DeadLetter(key.decode(), read_transition(row[b"t"]), row[b"e"].decode()) for key, row in rows]

    def dead_count(self, name: str) -> int:
        """How many there are."""
        with told():
            return int(self._client.xlen(_DEAD + name))  # type: ignore[arg-type]

    def exhume(self, name: str, letter: DeadLetter) -> None:
        """It was delivered after all."""
        with told():
            self._client.xdel(_DEAD + name, letter.position)


def reader_of(name: str) -> str:
    """The name under which an endpoint reads the outbox."""
    return f"webhook:{name}"


class Sender:
    """Sends for every endpoint, each in a thread of its own; follows the list of endpoints."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._stop = threading.Event()
        self._running: dict[str, tuple[Endpoint, threading.Event]] = {}
        self._store: Store = open_store(settings)

    def stop(self) -> None:
        """Ask everything to end; a request that is under way is finished first."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`."""
        rounds = 0
        while not self._stop.is_set():
            try:
                self._follow()
                if rounds % 60 == 0:
                    self._store.outbox.trim()
            except SegueError as error:
                _log.warning("%s", error.message)
            rounds += 1
            self._stop.wait(_WAIT_SECONDS)
        for _, ended in self._running.values():
            ended.set()

    def _follow(self) -> None:
        wanted = {one.name: one for one in endpoints(self._settings)}
        for name, (one, ended) in list(self._running.items()):
            if wanted.get(name) != one:
                ended.set()
                del self._running[name]
        for name, one in wanted.items():
            if name not in self._running:
                ended = threading.Event()
                self._running[name] = (one, ended)
                courier = Courier(self._settings, one, self._clock)
                threading.Thread(target=courier.run, args=(ended,), name=f"webhook {name}", daemon=True).start()


class Courier:
    """Brings one endpoint what the outbox has for it, in order."""

    def __init__(self, settings: Settings, to: Endpoint, clock: Clock, poster: Poster | None = None) -> None:
        self._to, self._clock = to, clock
        self._kept = Webhooks(settings)
        self._poster = poster or Poster(allow_private=settings.webhook_allow_private)

    def run(self, ended: threading.Event) -> None:
        """Until it is told to end."""
        while not ended.is_set():
            try:
                wait = self.step()
            except SegueError as error:
                _log.warning("webhook %s: %s", self._to.name, error.message)
                wait = 1.0
            except Exception:
                _log.exception("webhook %s failed; it goes on", self._to.name)
                wait = 5.0
            if wait > 0:
                ended.wait(min(wait, 5.0))

    def step(self) -> float:
        """Deliver what waits, until there is nothing or one fails. Returns seconds until there may be more to do."""
        kept, name = self._kept, self._to.name
        kept.begin(name, self._to.created_at)
        delivery = kept.state(name)
        if delivery.next_at is not None:
            wait = (delivery.next_at - self._clock()).total_seconds()
            # Longer than any pause after so many attempts: the clock was set back, which is no reason to wait.
            if 0 < wait <= _pause(delivery.attempts) * _LONGEST:
                return wait
        after = kept.outbox.committed(reader_of(name)) or ""
        rows = kept.outbox.read(after, limit=_AT_ONCE, wait_seconds=_WAIT_SECONDS)
        for row in rows:
            is_wanted = not self._to.segments or row.transition.segment in self._to.segments
            if is_wanted and not self._deliver(row.transition, delivery):
                return (delivery.next_at - self._clock()).total_seconds() if delivery.next_at else 0.0
            kept.outbox.commit(reader_of(name), row.position)
        return 0.0

    def _deliver(self, transition: Transition, delivery: Delivery) -> bool:
        """Try once. False: to be tried again; True: the endpoint is past it."""
        now = self._clock()
        error, is_refused = attempt(self._poster, self._to, transition, now)
        if not error:
            was_failing = delivery.failing_since is not None
            delivery.delivered += 1
            delivery.attempts, delivery.failing_since, delivery.next_at, delivery.last_error = 0, None, None, ""
            self._kept.keep(self._to.name, delivery)
            if was_failing:
                _log.warning("webhook %s is served again", self._to.name)
            return True
        delivery.attempts += 1
        delivery.last_error = error
        if delivery.failing_since is None:
            delivery.failing_since = now
            _log.warning("webhook %s is paused: %s", self._to.name, error)
        if now - delivery.failing_since >= GIVE_UP or (is_refused and delivery.attempts >= _REFUSED_ATTEMPTS):
            self._kept.bury(self._to.name, transition, error)
            delivery.attempts, delivery.failing_since, delivery.next_at = 0, None, None
            self._kept.keep(self._to.name, delivery)
            _log.error("webhook %s: a transition is kept as a dead letter: %s", self._to.name, error)
            return True
        pause = _pause(delivery.attempts) * random.uniform(2 - _LONGEST, _LONGEST)  # noqa: S311 - no secret
        delivery.next_at = now + timedelta(seconds=pause)
        self._kept.keep(self._to.name, delivery)
        return False


def _pause(attempts: int) -> float:
    """Seconds before the next attempt, before they are varied."""
    return PAUSES[min(max(attempts, 1), len(PAUSES)) - 1]


def attempt(poster: Poster, to: Endpoint, transition: Transition, now: datetime) -> tuple[str, bool]:
    """Send once: what went wrong ("": nothing), and whether the receiver will not have it."""
    try:
        status = poster.transition(to, transition, now=now)
    except PrivateAddressError as error:
        return str(error), False
    except SegueError as error:
        return error.message, False
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, False
    if 200 <= status < 300:
        return "", False
    return f"the receiver answered {status}", 400 <= status < 500 and status not in (408, 425, 429)
