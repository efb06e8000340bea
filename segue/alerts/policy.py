"""Who is told, where and when: `dbt_project/alerts.yml`, which the team keeps. It holds no secrets.

```yaml
routes:                       # the first that fits; none: the channels of the settings
  - {owner: "team:growth", slack: "#growth", email: growth@example.com}
  - {source: web, slack: "#web"}          # faults of the data of a source; one of an event goes to its owner first
quiet_hours: {from: "22:00", until: "07:00", timezone: Europe/Berlin}   # severity high is told at any hour
escalate: {after_minutes: 120, slack: "#on-call", email: lead@example.com}
digest: {hour: 8, timezone: Europe/Berlin}
heartbeat: {hours: 36}
```
"""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from segue.errors import DefinitionError
from segue.yaml_file import Section, read_yaml

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
#: A daily detection that is half a day late is dead.
_HEARTBEAT_HOURS = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a message goes; empty: the default of the settings."""

    slack: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """A time of day in a time zone, that may pass midnight."""

    start: time
    end: time
    zone: ZoneInfo

    def contains(self, moment: datetime) -> bool:
        """Whether the moment (aware) lies in these hours, in their own time zone."""
        now = moment.astimezone(self.zone).time()
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the team agreed on."""

    routes: tuple[tuple[str, Place], ...] = ()  # owner and place
    source_routes: tuple[tuple[str, Place], ...] = ()  # source of events and place
    quiet: Hours | None = None
    escalate_after: timedelta | None = None
    escalate_to: Place = Place()
    digest: tuple[int, ZoneInfo] | None = None
    heartbeat: timedelta = timedelta(hours=_HEARTBEAT_HOURS)

    def place_of(self, owner: str) -> Place:
        """Where what this owner answers for is told."""
        return next((place for name, place in self.routes if name == owner), Place())

    def place_of_data(self, owner: str, source: str) -> Place:
        """Where a fault of the data is told: by the owner of the event's contract, else by the source."""
        fitting = [place for name, place in self.routes if owner and name == owner]
        fitting += [place for name, place in self.source_routes if source and name == source]
        return fitting[0] if fitting else Place()

    def digest_day(self, as_of: datetime) -> str | None:
        """The day whose digest is due at this time, as text; None when it is not its hour yet or there is none."""
        if self.digest is None:
            return None
        local = as_of.astimezone(self.digest[1])
        return local.date().isoformat() if local.hour >= self.digest[0] else None


def load_policy(path: Path) -> Policy:
    """The policy of a file; the default one when there is none.

    Raises:
        DefinitionError: naming file, line and fix.
    """
    if not path.is_file():
        return Policy()
    keys = ("routes", "quiet_hours", "escalate", "digest", "heartbeat")
    fields = read_yaml(path, DefinitionError, "the policy of alerts").mapping(keys)
    quiet = escalate_after = digest = None
    escalate_to = Place()
    heartbeat = Policy().heartbeat
    if "quiet_hours" in fields:
        hours = fields["quiet_hours"].mapping(("from", "until", "timezone"), required=("from", "until"))
        quiet = Hours(start=_clock(hours["from"]), end=_clock(hours["until"]), zone=_zone(hours))
    if "escalate" in fields:
        said = fields["escalate"].mapping(("after_minutes", "slack", "email"), required=("after_minutes",))
        escalate_after = timedelta(minutes=_number(said["after_minutes"], 1, 100_000))
        escalate_to = _place(said)
    if "digest" in fields:
        said = fields["digest"].mapping(("hour", "timezone"), required=("hour",))
        digest = (_number(said["hour"], 0, 23), _zone(said))
    if "heartbeat" in fields:
        said = fields["heartbeat"].mapping(("hours",), required=("hours",))
        heartbeat = timedelta(hours=_number(said["hours"], 1, 1000))
    routes: dict[str, list[tuple[str, Place]]] = {"owner": [], "source": []}
    for entry in fields.get("routes", ()):
        said = entry.mapping(("owner", "source", "slack", "email"))
        by = [key for key in routes if key in said]
        if len(by) != 1:
            raise entry.wrong("a route is by owner or by source", fix="write `owner: …` or `source: …`, one of them")
        routes[by[0]].append((said[by[0]].text(), _place(said)))
    return Policy(
        routes=tuple(routes["owner"]),
        source_routes=tuple(routes["source"]),
        quiet=quiet,
        escalate_after=escalate_after,
        escalate_to=escalate_to,
        digest=digest,
        heartbeat=heartbeat,
    )


def _place(said: dict[str, Section]) -> Place:
    return Place(**{key: said[key].text() for key in ("slack", "email") if key in said})


def _clock(section: Section) -> time:
    found = _CLOCK.fullmatch(section.text())
    if found is None:
        raise section.wrong(f"{section.label} is no time of day", fix='write it like "22:00", with the quotes')
    return time(int(found[1]), int(found[2]))


def _zone(said: dict[str, Section]) -> ZoneInfo:
    if "timezone" not in said:
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(said["timezone"].text())
    except (ZoneInfoNotFoundError, ValueError):
        raise said["timezone"].wrong("there is no such time zone", fix="write it like Europe/Berlin") from None


def _number(section: Section, least: int, most: int) -> int:
    value = section.value()
    if type(value) is not int or not least <= value <= most:
        raise section.wrong(f"{section.label} is {value!r}", fix=f"write a whole number from {least} to {most}")
    return value
