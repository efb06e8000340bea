"""What is known to happen: `dbt_project/calendar.yml`, which analysts keep.

An `event` (a sale, a campaign) is known to the forecasts, as a public holiday is: the days of one that was there before
are expected to be as they were then, those of a new one may differ. A `note` (a deploy, a change of tracking, an
experiment that starts) changes no forecast; it is named beside what moved on that day.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from segue.errors import DefinitionError
from segue.yaml_file import Section, read_yaml

EntryKind = Literal["event", "note"]
_KINDS: tuple[EntryKind, ...] = ("event", "note")
_LONGEST_DAYS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarEntry:
    """Something that is known to happen: a name and its days."""

    name: str
    kind: EntryKind
    first_date: date
    last_date: date
    kpis: tuple[str, ...] = ()  # empty: all

    def days(self) -> list[date]:
        return [self.first_date + timedelta(days=n) for n in range((self.last_date - self.first_date).days + 1)]


def load_calendar(path: Path) -> tuple[CalendarEntry, ...]:
    """The entries in the order of the file; none when there is no file.

    Raises:
        DefinitionError: naming file, line and fix.
    """
    if not path.is_file():
        return ()
    top = read_yaml(path, DefinitionError, "the calendar")
    fields = top.mapping(("calendar",), required=("calendar",))
    return tuple(_entry(entry) for entry in fields["calendar"])


def events_of(calendar: Sequence[CalendarEntry], kpi: str) -> dict[date, str]:
    """Name of the event on each day that has one, for one KPI; the later entry wins."""
    return {
        day: f"calendar: {entry.name}"
        for entry in calendar
        if entry.kind == "event" and (not entry.kpis or kpi in entry.kpis)
        for day in entry.days()
    }


def mark_of(events: Mapping[date, str], *, first: date, last: date) -> str:
    """Changes when the events between two days do; empty without any."""
    text = "\n".join(f"{day} {name}" for day, name in sorted(events.items()) if first <= day <= last)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def _entry(entry: Section) -> CalendarEntry:
    fields = entry.mapping(("name", "kind", "first", "last", "kpis"), required=("name", "first"))
    first = _date(fields["first"])
    last = _date(fields["last"]) if "last" in fields else first
    if last < first:
        raise fields["last"].wrong("the last day is before the first", fix="swap them")
    if (last - first).days >= _LONGEST_DAYS:
        raise fields["last"].wrong(
            f"an entry of {(last - first).days + 1} days would teach the forecasts nothing",
            fix=f"keep it under {_LONGEST_DAYS} days",
        )
    kind = fields["kind"].choice(_KINDS) if "kind" in fields else "event"
    return CalendarEntry(
        name=fields["name"].text(),
        kind="note" if kind == "note" else "event",
        first_date=first,
        last_date=last,
        kpis=tuple(kpi.text() for kpi in fields["kpis"]) if "kpis" in fields else (),
    )


def _date(section: Section) -> date:
    value = section.value()
    if isinstance(value, datetime) or not isinstance(value, date):
        raise section.wrong(f"{section.label} is {value!r}, not a day", fix="write it like 2026-03-14")
    return date(value.year, value.month, value.day)
