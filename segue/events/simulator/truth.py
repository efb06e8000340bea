"""What really happened, beside the events and never among them: for tests and for judging results."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from segue.events.simulator.actions import IDENTIFY, Actions
from segue.events.simulator.days import Calendar
from segue.events.simulator.delivery import Deliveries
from segue.events.simulator.people import NEVER, Ints, People
from segue.events.simulator.visits import State, Visits
from segue.events.simulator.world import ARCHETYPES, COUNTRIES, HOLIDAY_VISITS, POWER, PROMOTION_ORDERS

#: Somebody is about to leave when they will stop within this many days after the end.
_LEAVING_WITHIN_DAYS = 28
_BATCH = 10_000
_MOMENT = pa.timestamp("ms", tz="UTC")

_MESSAGES = pa.schema(
    [
        ("message_id", pa.string()),
        ("kind", pa.string()),  # duplicate, late, contract_breaking, wrong_clock
        ("reason", pa.string()),  # of a contract-breaking one: the code that the quarantine must give
        ("file", pa.string()),
        ("line", pa.int64()),  # from 1; in Parquet files the row
        ("received_at", _MOMENT),
        ("delay_seconds", pa.float64()),  # received_at − timestamp
    ]
)
_IDENTIFIERS = pa.schema(
    [
        ("identifier_type", pa.string()),
        ("identifier_value", pa.string()),  # as the warehouse has it: e-mail addresses as SHA-256 of lower(trim())
        ("raw_value", pa.string()),
        ("person", pa.string()),
        ("is_shared", pa.bool_()),  # more than one person really used it
    ]
)

_TYPES = ("anonymous_id", "device_id", "email", "user_id")
_ANONYMOUS, _DEVICE, _EMAIL, _USER = range(4)
_NUMBER_BITS, _PERSON_BITS = 34, 26


class MessageTruth:
    """Streams the messages that something is wrong with."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, _MESSAGES, compression="zstd")
        self._waiting: list[tuple[Any, ...]] = []

    def note(
        self, message_id: str, kind: str, reason: str | None, file: str, line: int, received: int, delay: int | None
    ) -> None:
        """One thing about one message; times in milliseconds."""
        self._waiting.append((message_id, kind, reason, file, line, received, None if delay is None else delay / 1000))
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._waiting, strict=True) if self._waiting else ((),) * len(_MESSAGES)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _MESSAGES, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=_MESSAGES))
        self._waiting.clear()

    def __enter__(self) -> "MessageTruth":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


class IdentifierTruth:
    """Who used which identifier, from the messages that arrived whole. Eight bytes for each pair."""

    def __init__(self) -> None:
        self._known: Ints = np.zeros(0, dtype=np.int64)
        self._fresh: list[Ints] = []

    def see(self, visits: Visits, actions: Actions, deliveries: Deliveries) -> None:
        """Note the identifiers of a day."""
        row = deliveries.row[deliveries.breakage == 0]
        visit = actions.visit[row]
        with_user, with_email = visit[actions.has_user[row]], visit[actions.kind[row] == IDENTIFY]
        self._note(_ANONYMOUS, visits.anonymous[visit], visits.person[visit])
        self._note(_DEVICE, visits.device[visit], visits.person[visit])
        self._note(_USER, visits.person[with_user], visits.person[with_user])
        self._note(_EMAIL, visits.person[with_email], visits.person[with_email])
        if sum(map(len, self._fresh)) > max(500_000, len(self._known) // 2):
            self._compact()

    def _note(self, kind: int, number: Ints, person: Ints) -> None:
        packed = (((kind << _NUMBER_BITS) | number) << _PERSON_BITS) | person
        self._fresh.append(np.unique(packed))

    def _compact(self) -> None:
        self._known = np.unique(np.concatenate([self._known, *self._fresh]))
        self._fresh.clear()

    def write(self, path: Path, people: People) -> int:
        """One row per identifier and person who used it; how many."""
        self._compact()
        identifier = self._known >> _PERSON_BITS
        same = np.r_[False, np.diff(identifier) == 0] if len(identifier) else np.zeros(0, dtype=np.bool_)
        is_shared = same | np.r_[same[1:], False] if len(same) else same
        with pq.ParquetWriter(path, _IDENTIFIERS, compression="zstd") as writer:
            for begin in range(0, len(identifier), _BATCH):
                part = slice(begin, begin + _BATCH)
                rows = _identifier_rows(people, identifier[part], self._known[part], is_shared[part])
                writer.write_table(pa.Table.from_pylist(rows, schema=_IDENTIFIERS))
        return len(identifier)


def _identifier_rows(people: People, identifier: Ints, packed: Ints, is_shared: Any) -> list[dict[str, Any]]:
    values = (people.anonymous_id, people.device_id, people.email, people.user_id)
    rows = []
    numbers = (identifier & ((1 << _NUMBER_BITS) - 1)).tolist()
    persons = (packed & ((1 << _PERSON_BITS) - 1)).tolist()
    for kind, number, person, shared in zip(
        (identifier >> _NUMBER_BITS).tolist(), numbers, persons, is_shared.tolist(), strict=True
    ):
        raw = values[kind](number)
        rows.append(
            {
                "identifier_type": _TYPES[kind],
                "identifier_value": hashlib.sha256(raw.strip().lower().encode()).hexdigest() if kind == _EMAIL else raw,
                "raw_value": raw,
                "person": people.label(person),
                "is_shared": shared,
            }
        )
    return rows


def write_people(path: Path, calendar: Calendar, people: People, state: State) -> None:
    """One row per person who could have come, with their plans and what became of them."""

    def day_or_none(days: Ints, *, within: bool = True) -> list[Any]:
        return [calendar.date(d) if 0 <= d < (calendar.count if within else NEVER) else None for d in days.tolist()]

    persons = range(people.count)
    is_new_power = people.power_from < calendar.count
    names = np.array([a.name for a in ARCHETYPES])
    has_churned = people.churn < calendar.count
    will_churn = ~has_churned & (people.churn < calendar.count + _LEAVING_WITHIN_DAYS)
    table = {
        "person": [people.label(p) for p in persons],
        "user_id": [people.user_id(p) for p in persons],
        "email": [people.email(p) for p in persons],
        "name": [people.name(p) for p in persons],
        "country": [COUNTRIES[c][0] for c in people.country.tolist()],
        "archetype": names[np.where(is_new_power, POWER, people.archetype)].tolist(),  # at the end
        "first_archetype": names[people.archetype].tolist(),
        "became_power_user_on": day_or_none(people.power_from),
        "is_existing": people.is_existing,  # had an account before the history begins
        "has_account": state.has_account,  # at the end
        "arrived_on": day_or_none(people.arrival),
        "signed_up_at": pa.array(state.signed_up_at, _MOMENT, mask=state.signed_up_at == 0),
        "onboarded": state.is_onboarded,
        "is_subscribed": state.is_subscribed,
        "has_churned": has_churned,
        "will_churn": will_churn,
        "churned_on": pa.array(day_or_none(people.churn, within=False), pa.date32()),  # also days after the end
        "household": [f"household-{h + 1:05d}" if h >= 0 else None for h in people.household.tolist()],
        "team": [people.team_id(t) if t >= 0 else None for t in people.team.tolist()],
        "allows_analytics": people.allows_analytics,
        "allows_marketing": people.allows_marketing,
        "visit_count": state.visit_count,  # visits made, also those of which nothing was recorded
    }
    dates = {name: pa.array(table[name], pa.date32()) for name in ("became_power_user_on", "arrived_on")}
    texts = {name: pa.array(table[name], pa.string()) for name in ("household", "team")}
    pq.write_table(pa.table(table | dates | texts), path, compression="zstd")


def disturbed_days(calendar: Calendar, counts: dict[int, int], lost: int) -> list[dict[str, Any]]:
    """One entry per disturbed day, by date.

    Args:
        counts: by day index, whole messages that happened then and arrived.
        lost: messages that the outage swallowed.
    """
    days = [(day, "holiday", name, "sessions", HOLIDAY_VISITS) for day, name in calendar.holidays.items()]
    if calendar.outage is not None:
        kept = counts[calendar.outage]
        days.append((calendar.outage, "outage", "Collector down", "sessions", kept / max(kept + lost, 1)))
    if calendar.promotion is not None:
        days.append((calendar.promotion, "promotion", "Flash sale", "conversion", PROMOTION_ORDERS))
    return [
        {
            "date": calendar.date(day),
            "kind": kind,
            "name": name,
            "measure": measure,  # the KPI that it moves most
            "effect": round(effect, 4),  # times the usual value
            "message_count": counts[day],
            "lost_message_count": lost if kind == "outage" else 0,
        }
        for day, kind, name, measure, effect in sorted(days)
    ]


def write_disturbed_days(path: Path, days: Iterable[dict[str, Any]]) -> None:
    """As a table, which may be empty."""
    schema = pa.schema(
        [
            ("date", pa.date32()), ("kind", pa.string()), ("name", pa.string()), ("measure", pa.string()),
            ("effect", pa.float64()), ("message_count", pa.int64()), ("lost_message_count", pa.int64()),
        ]
    )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(list(days), schema=schema), path)


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """The counts, for a look."""
    path.write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
