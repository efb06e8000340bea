"""The people and their devices: drawn once, kept as arrays of a few hundred bytes a person."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segue.events.simulator.days import Calendar
from segue.events.simulator.world import (
    ANDROID,
    ARCHETYPES,
    COUNTRIES,
    DAY,
    FIRST_NAMES,
    HOUR,
    IOS,
    LAST_NAMES,
    MODELS,
    POWER,
    PROSPECT,
    WEB,
    WRONG_CLOCK_SHARE,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: A day that never comes.
NEVER = 1 << 30

#: Own devices of a person: computer, phone, second phone or tablet. Shared computers come after all of these.
OWN_DEVICES = 3

#: People who were there before the history begins.
_EXISTING_SHARE = 0.45
_HOUSEHOLD_SHARE = 0.10
_CHURN_SHARE = 0.18
_NEW_POWER_SHARE = 0.08
_DECLINES_ANALYTICS_SHARE = 0.05
_DECLINES_MARKETING_SHARE = 0.3
_TEAM_SHARE = 0.15
#: Activity fades over these days before somebody stops.
FADING_DAYS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """One entry per person; days are indices into the calendar, negative before it."""

    seed: int
    archetype: Ints  # at first
    power_from: Ints  # the day from which they live like power users; NEVER for most
    arrival: Ints  # first visit
    is_existing: Flags
    signup: Ints  # earliest day of the sign-up
    onboarding: Ints
    subscription: Ints
    churn: Ints  # the day from which they do not come any more
    activity: Floats  # times the visits of the archetype
    mobile_share: Floats
    has_tablet: Flags
    household: Ints  # -1: none
    team: Ints  # -1: none
    country: Ints
    allows_analytics: Flags
    allows_marketing: Flags
    platform: Ints  # per device
    model: Ints  # per device
    clock_error: Ints  # per device: milliseconds that its clock is ahead

    @property
    def count(self) -> int:
        return len(self.archetype)

    @property
    def device_count(self) -> int:
        return len(self.platform)

    def archetype_on(self, day: int) -> Ints:
        return np.where(day >= self.power_from, POWER, self.archetype)

    def label(self, person: int) -> str:
        return f"person-{person + 1:06d}"

    def name(self, person: int) -> str:
        first, last = divmod(person, len(LAST_NAMES))
        return f"{FIRST_NAMES[first % len(FIRST_NAMES)]} {LAST_NAMES[last]}"

    def email(self, person: int) -> str:
        return f"{self.name(person).lower().replace(' ', '.')}.{person + 1}@example.com"

    def user_id(self, person: int) -> str:
        return f"u-{self._digest('user', person).hex()[:16]}"

    def device_id(self, device: int) -> str:
        return _dashed(self._digest("device", device).hex()).upper()

    def anonymous_id(self, number: int) -> str:
        return _dashed(self._digest("anonymous", number).hex())

    def team_id(self, team: int) -> str:
        return f"team-{team + 1:04d}"

    def _digest(self, kind: str, number: int) -> bytes:
        return hashlib.blake2b(f"{self.seed}/{kind}/{number}".encode(), digest_size=16).digest()


def _dashed(text: str) -> str:
    """32 hexadecimal digits in the form of a UUID of version 4."""
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def draw_people(calendar: Calendar, *, people: int, seed: int) -> People:
    """Everybody who will ever come, with their habits and plans."""
    rng = np.random.default_rng([seed, 2])
    days = calendar.count
    archetype = rng.choice(len(ARCHETYPES), people, p=[a.share for a in ARCHETYPES]).astype(np.int64)
    is_prospect = archetype == PROSPECT
    is_existing = (rng.random(people) < _EXISTING_SHARE) & ~is_prospect
    # More and more new people a day, and fewer on weekends.
    weights = np.array([(1 + 1.2 * d / days) * (0.75 if calendar.is_weekend(d) else 1.0) for d in range(days)])
    if calendar.promotion is not None:
        weights[calendar.promotion] *= 1.5
    arrival = np.where(is_existing, -1, rng.choice(days, people, p=weights / weights.sum()))
    delay = np.where(rng.random(people) < 0.5, 0, rng.geometric(0.22, people))
    signup = np.where(is_prospect, NEVER, np.where(is_existing, -1, arrival + delay))
    return People(
        seed=seed,
        archetype=archetype,
        arrival=arrival,
        is_existing=is_existing,
        signup=signup,
        onboarding=_onboarding(rng, archetype, signup),
        activity=np.exp(rng.normal(0, 0.3, people)),
        allows_analytics=rng.random(people) >= _DECLINES_ANALYTICS_SHARE,
        allows_marketing=rng.random(people) >= _DECLINES_MARKETING_SHARE,
        country=rng.choice(len(COUNTRIES), people, p=[share for _, share in COUNTRIES]).astype(np.int64),
        **_changes(rng, days, archetype, arrival, signup),  # type: ignore[arg-type]
        **_devices(rng, archetype),  # type: ignore[arg-type]
    )


def _share(name: str, archetype: Ints) -> Floats:
    values: Floats = np.array([getattr(a, name) for a in ARCHETYPES], dtype=np.float64)[archetype]
    return values


def _onboarding(rng: np.random.Generator, archetype: Ints, signup: Ints) -> Ints:
    does = rng.random(len(archetype)) < _share("onboarded_share", archetype)
    later = np.where(rng.random(len(archetype)) < 0.6, 0, rng.integers(1, 6, len(archetype)))
    return np.where(does & (signup < NEVER), signup + later, NEVER)


def _changes(rng: np.random.Generator, days: int, archetype: Ints, arrival: Ints, signup: Ints) -> dict[str, Ints]:
    """Who leaves, who becomes a power user, who subscribes, and when."""
    people = len(archetype)
    is_prospect = archetype == PROSPECT
    begin = np.maximum(arrival, 0)
    # Some of the days of leaving lie after the end of the history: these people are about to leave.
    leaving = begin + 10 + np.floor(rng.random(people) * np.maximum(days + 30 - begin - 10, 20)).astype(np.int64)
    churn = np.where(rng.random(people) < _CHURN_SHARE, leaving, NEVER)
    churn = np.where(is_prospect, arrival + rng.integers(5, 45, people), churn)
    # New power users, late in the history, after some time of another life.
    earliest = np.maximum(arrival + 7, days - 28)
    room = days - 7 - earliest
    able = (archetype != POWER) & ~is_prospect & (churn == NEVER) & (room > 0) & (signup < days - 14)
    chosen = able & (rng.random(people) < _NEW_POWER_SHARE)
    power_from = np.where(chosen, earliest + np.floor(rng.random(people) * np.maximum(room, 1)).astype(np.int64), NEVER)
    subscribes = (rng.random(people) < _share("subscribed_share", archetype)) & (signup < NEVER)
    subscription = np.where(subscribes, signup + np.where(signup < 0, 0, rng.geometric(0.25, people) - 1), NEVER)
    return {"churn": churn, "power_from": power_from, "subscription": np.minimum(subscription, power_from)}


def _devices(rng: np.random.Generator, archetype: Ints) -> dict[str, npt.NDArray[np.generic]]:
    people = len(archetype)
    mobile = _share("mobile_share", archetype)
    both = rng.random(people) < _share("second_kind_share", archetype)
    # Who owns one kind only uses that one: mostly the one the archetype prefers.
    only_mobile = rng.random(people) < mobile
    own_share = np.where(both, np.clip(mobile + rng.normal(0, 0.05, people), 0.02, 0.98), only_mobile)
    household, households = _households(rng, people)
    phone = np.where(rng.random(people) < 0.55, IOS, ANDROID)
    platform = np.full(OWN_DEVICES * people + households, WEB, dtype=np.int64)
    platform[1 : OWN_DEVICES * people : OWN_DEVICES] = phone
    platform[2 : OWN_DEVICES * people : OWN_DEVICES] = phone
    devices = len(platform)
    team = np.where(
        (archetype == POWER) & (rng.random(people) < _TEAM_SHARE), rng.integers(0, max(people // 60, 1), people), -1
    )
    return {
        "mobile_share": own_share,
        "has_tablet": rng.random(people) < 0.2,
        "household": household,
        "team": team,
        "platform": platform,
        "model": rng.integers(0, len(MODELS[WEB]), devices),
        "clock_error": _clock_errors(rng, devices),
    }


def _households(rng: np.random.Generator, people: int) -> tuple[Ints, int]:
    """Families of two to four around one shared computer."""
    household = np.full(people, -1, dtype=np.int64)
    members = rng.permutation(people)[: max(round(people * _HOUSEHOLD_SHARE), 0)]
    sizes = rng.integers(2, 5, len(members))
    ends = np.cumsum(sizes)
    count = int(np.searchsorted(ends, len(members), side="right"))
    for number, (size, end) in enumerate(zip(sizes[:count].tolist(), ends[:count].tolist(), strict=True)):
        household[members[end - size : end]] = number
    return household, count


def _clock_errors(rng: np.random.Generator, devices: int) -> Ints:
    """Most clocks are right; some are hours off, a few a year."""
    kind = rng.random(devices)
    hours = (rng.uniform(0.1, 60, devices) * HOUR * rng.choice([-1, 1], devices)).astype(np.int64)
    year = (rng.uniform(300, 500, devices) * DAY * rng.choice([-1, 1], devices)).astype(np.int64)
    return np.where(kind < WRONG_CLOCK_SHARE * 0.85, hours, np.where(kind < WRONG_CLOCK_SHARE, year, 0))
