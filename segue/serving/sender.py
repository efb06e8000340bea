"""Webhooks as a process: one event loop in which each endpoint has a courier, so that one that fails delays no other.

The outbox is read once for all of them. An endpoint is past a transition when its receiver has answered 2xx, or when
the transition is kept apart as held or dead: whatever is killed, a receiver can see one twice, with the same id and
body, and never zero times.
"""

import asyncio
import fcntl
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime

from segue.errors import SegueError
from segue.serving.courier import Courier
from segue.serving.post import Poster
from segue.serving.project import FollowedProject
from segue.serving.subscriptions import Named, Subscription, named_in, subscriptions
from segue.serving.tail import Tail
from segue.serving.webhooks import EndpointChange, Webhooks, reader_of
from segue.settings import Settings
from segue.store import Told

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
#: Endpoints that have passed only what is not for them are noted this often.
_NOTE_SECONDS = 5.0
_TRIM_SECONDS = 60.0
_READ_SECONDS = 1.0
_AT_ONCE = 1_000
#: A name that takes long to look up occupies one.
_THREADS = 64


class Sender:
    """Sends for every endpoint; follows the list of endpoints and the YAML of segments.

    Args:
        clock: the system's time, aware.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings, self._clock = settings, clock
        self._kept = Webhooks(settings)
        self._project = FollowedProject(settings)
        self._stop = threading.Event()
        self._couriers: dict[str, tuple[Courier, asyncio.Task[None]]] = {}
        self._unsaved: set[Courier] = set()
        self._pending: list[EndpointChange] = []  # no courier's any more, and not yet written
        self._saving: asyncio.Task[None] | None = None
        self._dirty = asyncio.Event()
        self._named: Named = {}
        self._looked_up = ""
        self._told: set[str] = set()
        self._faults: dict[str, str] = {}

    def stop(self) -> None:
        """Ask everything to end; requests that are under way are finished first."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`. A second sender of the home waits until the first one ends."""
        with _alone(self._settings, self._stop) as is_alone:
            if is_alone:
                asyncio.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, "webhooks"))
        poster = Poster(allow_private=self._settings.webhook_allow_private)
        threading.Thread(target=self._project.follow, args=(self._stop,), name="project", daemon=True).start()
        tail = await self._begin()
        if tail is None:
            return
        parts = (self._look_after(tail, poster), self._follow(tail), self._keep())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # one that failed ends them all: whoever looks after this process starts it again
        finally:
            self._stop.set()
            couriers = [task for _, task in self._couriers.values()]
            for task in (*tasks, *couriers):
                task.cancel()
            await asyncio.gather(*tasks, *couriers, *filter(None, [self._saving]), return_exceptions=True)
            self._pending += [courier.change() for courier, _ in self._couriers.values()]
            with suppress(SegueError):
                await self._save()
            await poster.close()

    async def _begin(self) -> Tail | None:
        """Where the outbox ends now, as soon as the store answers; None: told to stop before."""
        while not self._stop.is_set():
            try:
                self._named = await asyncio.to_thread(self._kept.named)
                return Tail(await asyncio.to_thread(self._kept.outbox.newest))
            except SegueError as error:
                self._tell(error.message)
                await asyncio.sleep(_LOOK_SECONDS)
        return None

    async def _follow(self, tail: Tail) -> None:
        """Feed the tail, and wake who is concerned."""
        while True:
            try:
                rows = await asyncio.to_thread(
                    self._kept.outbox.read, tail.newest, limit=_AT_ONCE, wait_seconds=_READ_SECONDS
                )
            except SegueError as error:
                self._tell(error.message)
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            self._told.clear()
            tail.feed(rows)
            changed = {row.transition.segment for row in rows}
            for courier, _ in self._couriers.values():
                if any(courier.subscription.wants(segment) for segment in changed):
                    courier.wake()

    async def _keep(self) -> None:
        """Write what couriers have done; what comes meanwhile is written together with the next."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._pending += [courier.change() for courier in self._unsaved]
            self._unsaved.clear()
            while self._pending:
                self._saving = asyncio.create_task(self._save())
                try:
                    await asyncio.shield(self._saving)  # it cannot be broken off, and what comes last waits for it
                except SegueError as error:
                    self._tell(error.message)
                    await asyncio.sleep(_LOOK_SECONDS)

    async def _save(self) -> None:
        """What could not be written stays pending: a later change moves the endpoint past it."""
        changes = list(self._pending)
        await asyncio.to_thread(self._kept.save, changes)
        del self._pending[: len(changes)]

    def _mark(self, courier: Courier) -> None:
        self._unsaved.add(courier)
        self._dirty.set()

    async def _look_after(self, tail: Tail, poster: Poster) -> None:
        """Begin and end couriers, note and trim, until told to stop."""
        loop = asyncio.get_running_loop()
        noted = trimmed = loop.time()
        while not self._stop.is_set():
            try:
                await self._resubscribe(tail, poster)
                if loop.time() - noted >= _NOTE_SECONDS:
                    noted = loop.time()
                    for courier, _ in self._couriers.values():
                        if courier.is_behind:
                            self._mark(courier)
                        courier.wake()
                if loop.time() - trimmed >= _TRIM_SECONDS:
                    trimmed = loop.time()
                    await asyncio.to_thread(self._kept.outbox.trim)
            except SegueError as error:
                self._tell(error.message)
            await asyncio.to_thread(self._stop.wait, _LOOK_SECONDS)

    async def _resubscribe(self, tail: Tail, poster: Poster) -> None:
        for _, task in self._couriers.values():
            if task.done():
                task.result()  # it works until it is cancelled, so this raises what ended it
        await self._look_up()
        readers = await asyncio.to_thread(self._kept.readers)  # before the endpoints: what is added now stays
        wanted = {one.name: one for one in subscriptions(self._settings, self._named)}
        removed = {
            name
            for name, (courier, _) in self._couriers.items()
            if name not in readers or _is_another(courier.subscription, wanted.get(name))
        }
        for name, (courier, task) in list(self._couriers.items()):
            if name in removed or name not in wanted:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self._unsaved.discard(courier)
                if name in removed:  # by the command, which has dropped all but what was written since
                    await asyncio.to_thread(self._kept.forget, name)
                del self._couriers[name]
            elif courier.subscription != wanted[name]:
                courier.resubscribe(wanted[name])
        if self._project.is_known or self._named:  # else it is not known whom YAML names: nobody is let go
            for name in readers - set(wanted):
                await asyncio.to_thread(self._kept.leave, name)
        for name, subscription in wanted.items():
            if name in removed:
                continue  # the command may be about to say that it is gone: who is still there next time begins anew
            if subscription.fault and self._faults.get(name) != subscription.fault:
                _log.warning("webhook %s: %s", name, subscription.fault)
            self._faults[name] = subscription.fault
            if name not in self._couriers:
                courier = await asyncio.to_thread(self._courier, subscription, tail, poster)
                self._couriers[name] = (courier, asyncio.create_task(courier.run()))

    def _courier(self, subscription: Subscription, tail: Tail, poster: Poster) -> Courier:
        name = subscription.name
        self._kept.begin(name, subscription.endpoint.created_at if subscription.endpoint else None)
        return Courier(
            subscription,
            tail=tail,
            read_outbox=self._older,
            committed=self._kept.outbox.committed(reader_of(name)) or "",
            delivery=self._kept.state(name),
            held=self._kept.held(name),
            poster=poster,
            save=self._mark,
            clock=self._clock,
        )

    def _older(self, after: str, limit: int) -> list[Told]:
        return self._kept.outbox.read(after, limit=limit)

    async def _look_up(self) -> None:
        """What the YAML of segments names; a segment that cannot be read just now keeps what it said."""
        project = self._project
        if not project.is_known or project.fingerprint == self._looked_up:
            return
        fingerprint, named = project.fingerprint, named_in(project.segments.values())
        for name, segments in self._named.items():
            kept = [segment for segment in segments if segment in project.unusable]
            if kept:
                named[name] = sorted({*named.get(name, []), *kept})
        if named != self._named:
            await asyncio.to_thread(self._kept.keep_named, named)
        self._named, self._looked_up = named, fingerprint

    def _tell(self, text: str) -> None:
        """Once, until all is well again."""
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)


def _is_another(one: Subscription, now: Subscription | None) -> bool:
    """Whether a webhook was removed, and another one added by the same name."""
    if now is None or one.endpoint is None or now.endpoint is None:
        return False
    return one.endpoint.created_at is not None and one.endpoint.created_at != now.endpoint.created_at


@contextmanager
def _alone(settings: Settings, stop: threading.Event) -> Iterator[bool]:
    """Whether this process is the home's only sender; waits until it is, or is told to stop.

    Two would send everything twice, and neither would know what the other one has paused.
    """
    folder = settings.home / "realtime"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "webhooks.lock").open("a") as lock:
        is_told = False
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not is_told:
                    _log.warning("another process sends the webhooks of this home; this one waits")
                    is_told = True
                stop.wait(_LOOK_SECONDS)
                continue
            yield True
            return
        yield False
