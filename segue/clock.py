"""The one place that reads the wall clock.

Everything else takes `as_of`: an aware UTC datetime. The warehouse stores naive UTC timestamps;
`to_warehouse` and `from_warehouse` are the only conversions.
"""

import time
from datetime import UTC, date, datetime, timedelta

from segue.errors import BadInputError


def system_time() -> datetime:
    """The machine's time, aware and in UTC. For the outermost edge only (CLI, servers, run creation)."""
    return datetime.fromtimestamp(time.time(), tz=UTC)


def parse_as_of(text: str) -> datetime:
    """An aware UTC datetime from ISO 8601. A bare date means its first instant; no offset means UTC.

    Raises:
        BadInputError: when the text is not ISO 8601.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadInputError(
            f"{text!r} is not a date or time", fix="write it like 2026-01-31 or 2026-01-31T12:00:00Z"
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_warehouse(moment: datetime) -> datetime:
    """Aware to naive UTC, as the warehouse stores it.

    Raises:
        ValueError: when the datetime is naive, since its zone would be a guess.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; pass an aware datetime")
    return moment.astimezone(UTC).replace(tzinfo=None)


def from_warehouse(moment: datetime) -> datetime:
    """Naive UTC from the warehouse to aware UTC."""
    return moment.replace(tzinfo=UTC)


def end_of_day(day: date) -> datetime:
    """The first instant after `day`, in UTC: the `as_of` that has seen the whole day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
