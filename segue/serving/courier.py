"""Brings one endpoint what the outbox has for it: in order for each person, several people at once.

What can go wrong is of two kinds. **Away** (no connection, too slow, 5xx, 408, 425, 429, a redirect, a private
address): nothing can be delivered, so the endpoint is paused, and one message at a time tries whether it is back.
**Refused** (any other 4xx; a 5xx again, when others were taken since the first): that message is not wanted. It is
held, with all that comes for the same person, and tried again while others go on. When the receiver takes others and
has refused it six times (a quarter of an hour), it is a dead letter, and the person's next message goes. A receiver
that refuses everybody is one that is away: a wrong path or a lost secret must not make dead letters of all that
happens. Whatever could not be delivered for three days is a dead letter too.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from segue.errors import SegueError
from segue.serving.post import Attempt, Poster, Verdict
from segue.serving.subscriptions import Subscription
from segue.serving.tail import Tail
from segue.serving.webhooks import Delivery, EndpointChange, Message
from segue.store import Told

_log = logging.getLogger(__name__)

#: Pauses between attempts (seconds), the last one again and again; each is varied by a third.
PAUSES = (1, 5, 30, 120, 600, 1_800, 3_600)
GIVE_UP = timedelta(days=3)
#: A message that is refused so often, by a receiver that takes others, is not tried again.
REFUSED_ATTEMPTS = 6
#: So many people refused, and nobody taken in between: it is the receiver.
_REFUSES_EVERYBODY = 10
#: Requests under way to one endpoint, each for another person.
_LANES = 8
#: Messages of the outbox that may be under way or wait for one that is.
_WINDOW = 256
#: With so many held, no more are taken from the outbox.
_MOST_HELD = 1_000
#: What is under way at the end may take so long to be finished; later it is sent again, by the next sender.
_LAST_SECONDS = 4.0
#: A clock that was set back must not make anything wait for long.
_LONGEST_SLEEP_SECONDS = 5.0


class Courier:
    """Delivers for one endpoint, in an event loop.

    Args:
        tail: where new transitions come from.
        read_outbox: (after, limit) → older ones.
        committed: how far the endpoint is; held messages are before that.
        save: is called when `change` has something new to be kept.
        clock: aware times.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        tail: Tail,
        read_outbox: Callable[[str, int], Sequence[Told]],
        committed: str,
        delivery: Delivery,
        held: Sequence[Message],
        poster: Poster,
        save: Callable[["Courier"], None],
        clock: Callable[[], datetime],
    ) -> None:
        self.subscription = subscription
        self._tail, self._read_outbox, self._poster = tail, read_outbox, poster
        self._save, self._clock = save, clock
        self._read = self._committed = self._kept_position = committed
        self._delivery = delivery
        self._change = EndpointChange(name=subscription.name)
        self._queues: dict[str, deque[Message]] = {}  # person → what waits or is under way, oldest first
        self._ready: deque[str] = deque()  # people whose first message may go now
        self._refused: dict[str, datetime] = {}  # person → when to try again
        self._open: dict[str, bool] = {}  # position → whether it is settled; in the order of the outbox
        self._held = {m.position for m in held}
        self._flying: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._pauses = 0  # how often it was paused, to tell whether a failure is news
        self._refused_in_a_row = 0
        self._last_taken: datetime | None = None
        for message in held:
            self._enqueue(message)

    # What the sender calls.

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def resubscribe(self, subscription: Subscription) -> None:
        """Its segments, address or secret are others now; a pause ends, since that may have been the fault."""
        if subscription.endpoint != self.subscription.endpoint and self._delivery.next_at is not None:
            self._delivery.next_at = self._clock()
        self.subscription = subscription
        self.wake()

    def change(self) -> EndpointChange:
        """What has to be kept; from now on it is the caller's."""
        change, self._change = self._change, EndpointChange(name=self.subscription.name)
        if change.delivery is not None:
            change.delivery = replace(change.delivery)
        if self._committed != self._kept_position:
            change.committed = self._kept_position = self._committed
        return change

    @property
    def is_behind(self) -> bool:
        """Whether it has passed something that is not noted yet."""
        return self._committed != self._kept_position

    async def run(self) -> None:
        """Until cancelled; what is under way then is finished first."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._take()
                    self._launch()
                except SegueError as error:
                    _log.warning("webhook %s: %s", self.subscription.name, error.message)
                    await asyncio.sleep(1.0)
                    continue
                await self._sleep()
        finally:
            if self._flying:
                _, late = await asyncio.wait(self._flying, timeout=_LAST_SECONDS)
                for task in late:
                    task.cancel()

    # From the outbox into queues.

    async def _take(self) -> None:
        """Take what there is room for."""
        while True:
            self._bury_old()
            if len(self._open) >= _WINDOW or len(self._held) >= _MOST_HELD:
                return
            rows = self._tail.after(self._read, _WINDOW)
            if rows is None:
                rows = await asyncio.to_thread(self._read_outbox, self._read, _WINDOW)
            if not rows:
                return
            for row in rows:
                if len(self._open) >= _WINDOW:
                    break
                self._read = row.position
                if self.subscription.wants(row.transition.segment) and row.position not in self._held:
                    self._open[row.position] = False
                    self._enqueue(Message(position=row.position, transition=row.transition))
            self._settle()

    def _enqueue(self, message: Message) -> None:
        person = message.transition.person_id
        queue = self._queues.setdefault(person, deque())
        queue.append(message)
        if len(queue) == 1:
            if message.next_at is not None:
                self._refused[person] = message.next_at
            else:
                self._ready.append(person)
        elif person in self._refused:
            self._hold(message)

    def _settle(self, *positions: str) -> None:
        """These are done with; the endpoint is past all that is before the first one that is not."""
        for position in positions:
            if position in self._open:
                self._open[position] = True
        for position, is_settled in list(self._open.items()):
            if not is_settled:
                break
            self._committed = position
            del self._open[position]
        if not self._open:
            self._committed = self._read

    # Out to the receiver.

    def _launch(self) -> None:
        if self.subscription.endpoint is None:
            return
        now = self._clock()
        if self._delivery.next_at is not None:
            if not self._flying and _is_due(self._delivery.next_at, now):
                if self._ready:
                    self._start(self._ready.popleft())
                elif self._refused:
                    self._start(min(self._refused, key=lambda person: self._refused[person]))
            return
        for person in [p for p, at in self._refused.items() if _is_due(at, now)]:
            if len(self._flying) < _LANES:
                self._start(person)
        while self._ready and len(self._flying) < _LANES:
            self._start(self._ready.popleft())

    def _start(self, person: str) -> None:
        self._refused.pop(person, None)
        task = asyncio.create_task(self._deliver(person, self._pauses))
        self._flying.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: "asyncio.Task[None]") -> None:
        self._flying.discard(task)
        self.wake()

    async def _deliver(self, person: str, pauses: int) -> None:
        message, to = self._queues[person][0], self.subscription.endpoint
        assert to is not None
        now, is_trial = self._clock(), self._delivery.failing_since is not None
        try:
            attempt = await self._poster.transition(to, message.transition, now=now)
        except Exception as error:
            _log.exception("webhook %s: sending failed", self.subscription.name)
            attempt = Attempt(verdict=Verdict.AWAY, error=f"sending failed: {type(error).__name__}")
        if attempt.verdict is Verdict.TAKEN:
            self._taken(person, now)
        elif attempt.verdict is Verdict.REFUSED or self._fails_at(message, attempt, now):
            self._was_refused(person, message, attempt, now, pauses)
        else:
            if message.refused_at is not None:
                self._refused[person] = now
            else:
                # The next one to try is another person's: what fails may be this message, and not the receiver.
                self._ready.insert(1 if is_trial else 0, person)
            if pauses == self._pauses:
                self._pause(attempt, now)
        self._change.delivery = self._delivery
        self._save(self)

    def _taken(self, person: str, now: datetime) -> None:
        self._delivery.delivered += 1
        self._refused_in_a_row, self._last_taken = 0, now
        if self._delivery.failing_since is not None:
            _log.warning("webhook %s is served again", self.subscription.name)
            self._delivery.failing_since = self._delivery.next_at = None
            self._delivery.attempts = 0
        if not self._held:
            self._delivery.last_error = ""
        self._done_with_first(person)

    def _fails_at(self, message: Message, attempt: Attempt, now: datetime) -> bool:
        """Whether the receiver fails at this message, since it has taken others after it failed at it first."""
        if attempt.status is None or attempt.status < 500:  # too many requests, or a redirect: no message's fault
            return False
        message.failed_at = message.failed_at or message.refused_at or now
        return self._last_taken is not None and self._last_taken > message.failed_at

    def _was_refused(self, person: str, message: Message, attempt: Attempt, now: datetime, pauses: int) -> None:
        message.attempts += 1
        message.error = attempt.error
        message.refused_at = message.refused_at or now
        takes_others = self._last_taken is not None and self._last_taken >= message.refused_at
        if message.attempts >= REFUSED_ATTEMPTS and takes_others:
            self._bury_first(person, attempt.error)
            return
        message.next_at = now + _pause(message.attempts, attempt.retry_after_seconds)
        self._refused[person] = message.next_at
        for waiting in self._queues[person]:
            if waiting is message or not waiting.is_held:
                self._hold(waiting)
        self._delivery.last_error = attempt.error
        self._refused_in_a_row += 1
        is_failing = self._delivery.failing_since is not None
        if pauses == self._pauses and (is_failing or self._refused_in_a_row >= _REFUSES_EVERYBODY):
            self._pause(attempt, now)

    def _pause(self, attempt: Attempt, now: datetime) -> None:
        self._pauses += 1
        self._delivery.attempts += 1
        self._delivery.last_error = attempt.error
        self._delivery.next_at = now + _pause(self._delivery.attempts, attempt.retry_after_seconds)
        if self._delivery.failing_since is None:
            self._delivery.failing_since = now
            _log.warning("webhook %s is paused: %s", self.subscription.name, attempt.error)

    # Held and dead.

    def _hold(self, message: Message) -> None:
        """Keep it apart, so that the endpoint can go on to others."""
        message.is_held = True
        self._held.add(message.position)
        self._change.held[message.position] = message
        self._settle(message.position)

    def _done_with_first(self, person: str) -> None:
        queue = self._queues[person]
        message = queue.popleft()
        if message.is_held:
            self._held.discard(message.position)
            self._change.held.pop(message.position, None)
            self._change.freed.add(message.position)
        else:
            self._settle(message.position)
        if queue:
            self._ready.append(person)
        else:
            del self._queues[person]

    def _bury_first(self, person: str, error: str) -> None:
        transition = self._queues[person][0].transition
        self._change.dead.append((transition, error))
        _log.error("webhook %s: a transition is kept as a dead letter: %s", self.subscription.name, error)
        self._done_with_first(person)

    def _bury_old(self) -> None:
        """After three days of nothing but failures, what is older than that is tried no more."""
        now, delivery = self._clock(), self._delivery
        limit, count = now - GIVE_UP, 0
        is_over = delivery.failing_since is not None and delivery.failing_since <= limit
        if self._flying or not (is_over or self._refused):
            return
        for person in list(self._queues):
            queue = self._queues[person]
            while queue and (is_over or (queue[0].refused_at or now) <= limit):
                if queue[0].transition.recorded_at > limit:
                    break
                self._refused.pop(person, None)
                if person in self._ready:
                    self._ready.remove(person)
                self._change.dead.append((queue[0].transition, queue[0].error or delivery.last_error))
                self._done_with_first(person)
                count += 1
        if count:
            _log.error("webhook %s: %d transitions are dead letters after three days", self.subscription.name, count)
            self._save(self)

    # Time.

    async def _sleep(self) -> None:
        times = list(self._refused.values()) if self._delivery.next_at is None else [self._delivery.next_at]
        if not times or not self._queues or self._flying or self.subscription.endpoint is None:
            await self._wake.wait()
            return
        seconds = (min(times) - self._clock()).total_seconds()
        try:
            async with asyncio.timeout(min(max(0.0, seconds), _LONGEST_SLEEP_SECONDS)):
                await self._wake.wait()
        except TimeoutError:
            return


def _is_due(at: datetime, now: datetime) -> bool:
    """Whether it is time; what lies further ahead than any pause was planned by a clock that was wrong."""
    return now >= at or at - now > timedelta(seconds=2 * PAUSES[-1])


def _pause(attempts: int, asked_seconds: float) -> timedelta:
    seconds = PAUSES[min(attempts, len(PAUSES)) - 1] * random.uniform(2 / 3, 4 / 3)  # noqa: S311 - no secret
    return timedelta(seconds=max(seconds, asked_seconds))
