"""The simulation, day by day."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from segue.errors import BadInputError
from segue.events.simulator.actions import Actions, draw_actions
from segue.events.simulator.days import Calendar, plan_days
from segue.events.simulator.delivery import BREAKAGES, Deliveries, deliver
from segue.events.simulator.files import DayFile, FileFormat, cannot_write, day_file, prepare_folders
from segue.events.simulator.messages import Messages, moments_of
from segue.events.simulator.people import draw_people
from segue.events.simulator.truth import (
    IdentifierTruth,
    MessageTruth,
    disturbed_days,
    write_disturbed_days,
    write_people,
    write_summary,
)
from segue.events.simulator.visits import State, Visits, draw_visits

#: So many messages are Python objects at a time.
_AT_ONCE = 20_000

#: Called after each day with: days done, days in all, lines written so far.
Progress = Callable[[int, int, int], None]

#: No history begins before this: messages from before 2000 are refused, and some clocks are a year late.
_EARLIEST = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbedDay:
    """A day on which something unusual was planted."""

    date: date
    kind: str  # holiday, outage, promotion
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationReport:
    """What was made. lines = accepted + duplicates + broken; late messages are accepted ones."""

    events: Path
    truth: Path
    people: int
    days: int
    seed: int
    first_day: date
    until: datetime
    files: int
    bytes: int
    lines: int
    accepted: int  # distinct messages that keep the spec and the contracts
    duplicates: int
    late: int  # held back on a phone without network
    wrong_clock: int
    broken: dict[str, int]  # by the reason that the quarantine must give
    sign_ups: int
    disturbed: tuple[DisturbedDay, ...]

    @property
    def broken_count(self) -> int:
        return sum(self.broken.values())


@dataclass(order=True, slots=True)
class _Waiting:
    """A line that arrives later; `number` keeps ties in the order in which they were sent."""

    received: int
    number: int
    line: bytes
    notes: tuple[tuple[str, str, str | None, int | None], ...]  # message_id, kind, reason, delay


def simulate(
    out: Path,
    *,
    people: int,
    days: int,
    seed: int,
    until: datetime,
    progress: Progress | None = None,
    file_format: FileFormat = FileFormat.ndjson_gz,
    force: bool = False,
) -> SimulationReport:
    """Make a history of Segment-spec messages in OUT/events, one file per received UTC day, and its truth in OUT/truth.

    The same arguments give the same bytes. Memory depends on the people, not on the days.

    Args:
        out: a new or empty folder.
        people: how many people ever come, at least 1.
        days: length of the history, at least 1.
        seed: not negative.
        until: the end of the history, aware; nothing is received then or later.
        progress: told after each day.
        force: replace the simulation that is in the folder; files that are not ours stay.

    Raises:
        BadInputError: naming the argument, or the folder that cannot be used.
    """
    _check(people=people, days=days, seed=seed, until=until)
    events, truth = prepare_folders(out, force=force)
    with _disk(out):
        calendar = plan_days(days=days, until=until, seed=seed)
        return _Run(calendar, events, truth, people=people, days=days, seed=seed, file_format=file_format).play(
            until, progress
        )


def _check(*, people: int, days: int, seed: int, until: datetime) -> None:
    if people < 1:
        raise BadInputError(f"people is {people}", fix="simulate at least 1 person")
    if days < 1:
        raise BadInputError(f"days is {days}", fix="simulate at least 1 day")
    if seed < 0:
        raise BadInputError(f"seed is {seed}", fix="use a seed of 0 or more")
    if people >= 1 << 24:
        raise BadInputError(f"people is {people:,}", fix=f"simulate fewer than {1 << 24:,}")
    if (until - _EARLIEST).days < days:
        raise BadInputError(
            f"{days:,} days before {until:%Y-%m-%d} is before {_EARLIEST.year}", fix="simulate fewer days, or end later"
        )


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(out, error) from error


@dataclass(frozen=True, slots=True)
class _Day:
    visits: Visits
    actions: Actions
    deliveries: Deliveries
    rng: np.random.Generator


class _Run:
    def __init__(
        self,
        calendar: Calendar,
        events: Path,
        truth: Path,
        *,
        people: int,
        days: int,
        seed: int,
        file_format: FileFormat,
    ) -> None:
        self._calendar, self._events, self._truth = calendar, events, truth
        self._seed, self._days, self._format = seed, days, file_format
        self._people = draw_people(calendar, people=people, seed=seed)
        self._state = State(self._people)
        self._waiting: list[_Waiting] = []
        self._numbers = 0
        self._counts: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        special = {*calendar.holidays, calendar.outage, calendar.promotion} - {None}
        self._on_day: dict[int, int] = {day: 0 for day in special if day is not None}

    def play(self, until: datetime, progress: Progress | None) -> SimulationReport:
        identifiers = IdentifierTruth()
        with MessageTruth(self._truth / "messages.parquet") as notes:
            for day in range(self._calendar.count):
                rng = np.random.default_rng([self._seed, 4, day])
                visits = draw_visits(self._calendar, self._people, self._state, day, rng)
                actions = draw_actions(self._calendar, self._people, self._state, visits, day, rng)
                text = self._format is not FileFormat.parquet
                deliveries = deliver(self._calendar, self._people, visits, actions, day, rng, text=text)
                identifiers.see(visits, actions, deliveries)
                self._count(deliveries)
                self._write_day(day, _Day(visits, actions, deliveries, rng), notes)
                if progress is not None:
                    progress(day + 1, self._calendar.count, self._counts["lines"])
        identifiers.write(self._truth / "identifiers.parquet", self._people)
        return self._finish(until)

    def _count(self, deliveries: Deliveries) -> None:
        whole = deliveries.breakage == 0
        self._counts["accepted"] += int(whole.sum())
        self._counts["duplicates"] += int((deliveries.copy_received > 0).sum())
        self._counts["late"] += int((deliveries.is_late & whole).sum())
        self._counts["wrong_clock"] += int((deliveries.has_wrong_clock & whole).sum())
        self._counts["lost"] += deliveries.lost_count
        for breakage, count in zip(*np.unique(deliveries.breakage[~whole], return_counts=True), strict=True):
            self._broken[BREAKAGES[breakage]] += int(count)
        for day in self._on_day:
            begin, end = self._calendar.start(day), self._calendar.start(day + 1)
            happened = whole & (deliveries.timestamp >= begin) & (deliveries.timestamp < end)
            self._on_day[day] += int(happened.sum())

    def _write_day(self, index: int, day: "_Day", notes: MessageTruth) -> None:
        """The file of the day: what it received, in that order; the rest waits."""
        end = self._calendar.start(index + 1)
        waits = bool(self._waiting) and self._waiting[0].received < end
        if not waits and not (day.deliveries.received < end).any():
            return self._write_messages(None, "", end, day, notes)
        name = f"{self._calendar.date(index)}.{self._format.value}"
        with day_file(self._events / name, self._format) as file:
            self._write_messages(file, name, end, day, notes)
            self._counts["lines"] += file.count
        self._counts["files"] += 1
        self._counts["bytes"] += (self._events / name).stat().st_size

    def _write_messages(self, file: DayFile | None, name: str, end: int, day: "_Day", notes: MessageTruth) -> None:
        waiting = self._waiting
        for begin in range(0, len(day.deliveries), _AT_ONCE):
            part = day.deliveries.part(slice(begin, begin + _AT_ONCE))
            messages = Messages(self._people, day.visits, day.actions, part, day.rng)
            is_noted = ((part.breakage > 0) | part.is_late | part.has_wrong_clock).tolist()
            for i, (arrival, copy) in enumerate(zip(part.received.tolist(), part.copy_received.tolist(), strict=True)):
                line = messages.line(i)
                about = self._about(i, messages, part) if is_noted[i] else ()
                if arrival < end:
                    assert file is not None
                    if waiting and waiting[0].received <= arrival:
                        self._arrive(file, name, arrival, notes)
                    number = file.write(line)
                    for message_id, kind, reason, delay in about:
                        notes.note(message_id, kind, reason, name, number, arrival, delay)
                else:
                    self._wait(arrival, line, about)
                if copy:
                    self._copy(i, line, messages, part)
        if file is not None:
            self._arrive(file, name, end - 1, notes)

    def _about(
        self, i: int, messages: Messages, deliveries: Deliveries
    ) -> tuple[tuple[str, str, str | None, int | None], ...]:
        """What the truth says about a message: every kind that it is."""
        message_id = messages.message_id(i)
        if deliveries.breakage[i]:
            return ((message_id, "contract_breaking", BREAKAGES[deliveries.breakage[i]], None),)
        delay = int(deliveries.received[i] - deliveries.timestamp[i])
        flags = (("late", deliveries.is_late[i]), ("wrong_clock", deliveries.has_wrong_clock[i]))
        return tuple((message_id, kind, None, delay) for kind, is_it in flags if is_it)

    def _copy(self, i: int, line: bytes, messages: Messages, deliveries: Deliveries) -> None:
        """The same message once more: the same bytes soon after, or sent anew much later."""
        arrival = int(deliveries.copy_received[i])
        if deliveries.copy_is_later[i]:
            shift = arrival - int(deliveries.received[i])
            moments = np.array([int(deliveries.sent[i]) + shift, arrival, int(deliveries.timestamp[i])], dtype=np.int64)
            sent, received, timestamp = moments_of(moments)
            line = messages.line_again(i, sent=sent, received=received, timestamp=timestamp)
        self._wait(arrival, line, ((messages.message_id(i), "duplicate", None, None),))

    def _wait(self, arrival: int, line: bytes, about: tuple[tuple[str, str, str | None, int | None], ...]) -> None:
        self._numbers += 1
        heapq.heappush(self._waiting, _Waiting(arrival, self._numbers, line, about))

    def _arrive(self, file: DayFile, name: str, until: int, notes: MessageTruth) -> None:
        """Write what has been waiting and is received by then."""
        while self._waiting and self._waiting[0].received <= until:
            item = heapq.heappop(self._waiting)
            number = file.write(item.line)
            for message_id, kind, reason, delay in item.notes:
                notes.note(message_id, kind, reason, name, number, item.received, delay)

    def _finish(self, until: datetime) -> SimulationReport:
        calendar, people, counts = self._calendar, self._people, self._counts
        days = disturbed_days(calendar, self._on_day, counts["lost"])
        write_disturbed_days(self._truth / "disturbed_days.parquet", days)
        write_people(self._truth / "people.parquet", calendar, people, self._state)
        report = SimulationReport(
            events=self._events,
            truth=self._truth,
            people=people.count,
            days=self._days,
            seed=self._seed,
            first_day=calendar.first,
            until=until,
            files=counts["files"],
            bytes=counts["bytes"],
            lines=counts["lines"],
            accepted=counts["accepted"],
            duplicates=counts["duplicates"],
            late=counts["late"],
            wrong_clock=counts["wrong_clock"],
            broken=dict(sorted(self._broken.items())),
            sign_ups=int((self._state.signed_up_at > 0).sum()),
            disturbed=tuple(DisturbedDay(date=day["date"], kind=day["kind"], name=day["name"]) for day in days),
        )
        fields = ("people", "days", "seed", "first_day", "until", "files", "lines", "accepted", "duplicates", "late")
        summary = {name: getattr(report, name) for name in (*fields, "wrong_clock", "broken", "sign_ups")}
        write_summary(self._truth / "summary.json", summary | {"lost": counts["lost"], "disturbed_days": days})
        return report
