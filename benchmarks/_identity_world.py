"""A world in which it is hard to say who is who, with the truth: what a resolver sees of each visit, and who it was.

People have accounts or not, phones with apps, computers whose browsers forget their cookies, a computer that a family
shares (on some the cookie survives a change of who is signed in), addresses that get a new owner, newsletters opened
where nobody is signed in. Devices that are never signed in on are linked by nothing but habits.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

START = datetime(2026, 1, 1)  # noqa: DTZ001 — naive UTC, as in the warehouse
DAYS = 90

_ZONES = (
    "America/New_York",
    "America/Chicago",
    "America/Los_Angeles",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Paris",
)
_LOCALES = (("en-US", "es-US"), ("en-US", "es-US"), ("en-US", "es-US"), ("en-GB",), ("de-DE", "tr-TR"), ("fr-FR",))
#: A browser tells its version, its screen and its system; a telephone its model. Some are far more common than others.
_PHONES = tuple((f"phone-{n}", "iOS" if n % 2 else "Android") for n in range(150))
_COMPUTERS = tuple(
    (f"browser-{n % 40} {1200 + 80 * (n // 40)}", ("Windows", "macOS", "Linux")[n % 3]) for n in range(400)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """One row per visit: moment, anonymous_id, device_id, user_id, email (null where absent), model, os, timezone,
    locale, network, hour, person."""

    table: pa.Table
    owner: dict[tuple[str, str], str]  # (type, value) → person, of identifiers that one person only has used


def visits(people: int, *, seed: int) -> Visits:
    """Made up by the seed."""
    rng = np.random.default_rng(seed)
    home = _households(rng, people)
    cities = rng.integers(0, len(_ZONES), home.max() + 1)
    # A network of 256 addresses has a few homes in it.
    networks = rng.permutation(home.max() + 1) * 2 // 3
    members = np.bincount(home)
    shared = {
        h: int(rng.integers(len(_COMPUTERS))) for h in np.flatnonzero(members > 1).tolist() if rng.random() < 0.35
    }
    rows: list[tuple] = []
    address = {p: f"address-{p}" for p in range(people)}
    for old, new in rng.choice(people, (people // 200, 2), replace=False).tolist():
        address[new] = address[old]  # given up by the one, taken by the other half-way
    recycled = {p: 45 for p in range(people) if address[p] != f"address-{p}"}
    for p in range(people):
        has_account = rng.random() < 0.75
        zone = int(cities[home[p]])
        locale = _LOCALES[zone][int(rng.random() < 0.15) % len(_LOCALES[zone])]
        work = f"office-{rng.integers(people // 15)}" if rng.random() < 0.6 else None
        peak, spread = rng.uniform(7, 23), rng.uniform(0.8, 2.5)
        devices = _devices(rng, shared.get(int(home[p])))
        begin = recycled.get(p, int(rng.integers(0, 40)))
        for number in range(int(rng.poisson(14)) + 2):
            day = int(rng.integers(begin, DAYS))
            hour = (rng.normal(peak, spread)) % 24
            kind, index, signs_in, (model, system) = devices[_used(rng.random(), len(devices))]
            network = _network(
                rng.random(), f"net-{networks[home[p]]}", work, kind, index, f"mobile-{zone}-{number % 4}"
            )
            is_in = has_account and rng.random() < signs_in
            owner = f"home{home[p]}" if kind == "shared" else f"p{p}"
            epoch = _cookie_epoch(owner, index, kind, day, seed)
            cookie = f"a-{owner}-{index}-{epoch}"
            if kind == "shared" and (home[p] % 10) >= 3:
                cookie += f"-{p}"  # the site resets the cookie when somebody signs out
            device = f"d-{owner}-{index}" if kind == "phone" else None
            email = None
            if is_in and rng.random() < 0.3:
                email = address[p]
            elif has_account and not is_in and kind != "shared" and rng.random() < 0.04:
                email = address[p]  # a newsletter
            rows.append(
                (day * 24 * 60 + int(hour * 60) + number % 7, cookie, device, f"u{p}" if is_in else None, email,
                 model, system, _ZONES[zone], locale, network, int(hour), f"p{p}")
            )  # fmt: skip
    rows.sort(key=lambda row: (row[0], row[1]))
    names = (
        "minute",
        "anonymous_id",
        "device_id",
        "user_id",
        "email",
        "model",
        "os",
        "timezone",
        "locale",
        "network",
        "hour",
        "person",
    )
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    owners: dict[tuple[str, str], set[str]] = {}
    for kind in ("anonymous_id", "device_id", "user_id", "email"):
        for value, person in zip(table[kind].to_pylist(), table["person"].to_pylist(), strict=True):
            if value is not None:
                owners.setdefault((kind, value), set()).add(person)
    return Visits(table=table, owner={key: next(iter(people)) for key, people in owners.items() if len(people) == 1})


def staged(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """What staging makes of the visits."""
    seen: dict[tuple[str, str], list[int]] = {}
    links: dict[tuple[str, str, str, str, str], list[int]] = {}
    columns = (table[name].to_pylist() for name in ("minute", "anonymous_id", "device_id", "user_id", "email"))
    for minute, anonymous, device, user, email in zip(*columns, strict=True):
        anchor = ("user_id", user) if user else ("anonymous_id", anonymous)
        for key in (("anonymous_id", anonymous), ("device_id", device), ("user_id", user), ("email", email)):
            if key[1] is not None:
                seen.setdefault(key, []).append(minute)
        pairs = (
            (("anonymous_id", anonymous), ("user_id", user), "same_message"),
            (("device_id", device), ("user_id", user), "device"),
            (("device_id", device), ("anonymous_id", anonymous), "device"),
            (("email", email), anchor, "email"),
        )
        for left, right, rule in pairs:
            if left[1] is not None and right[1] is not None:
                links.setdefault((*left, *right, rule), []).append(minute)
    stamp = pa.timestamp("us")
    when = lambda minutes: pa.array([START + timedelta(minutes=min(m)) for m in minutes], stamp)  # noqa: E731
    identifiers = {"identifier_type": [k for k, _ in seen], "identifier_value": [v for _, v in seen]}
    ends = dict(
        zip(
            ("left_type", "left_value", "right_type", "right_value", "rule"),
            map(list, zip(*links, strict=True)),
            strict=True,
        )
    )
    return (
        pa.table(identifiers | {"first_seen_at": when(seen.values())}),
        pa.table(ends | {"first_seen_at": when(links.values())}),
    )


def _households(rng: np.random.Generator, people: int) -> np.ndarray:
    sizes = rng.choice([1, 2, 3, 4], people, p=[0.9, 0.06, 0.03, 0.01])
    return np.repeat(np.arange(people), sizes)[:people]


def _devices(rng: np.random.Generator, family: int | None) -> list[tuple[str, int, float, tuple[str, str]]]:
    """Kind, number, how often somebody signs in on it, model and system; the one used most first."""
    found = [("phone", 0, float(rng.choice([0.0, 0.5, 0.9], p=[0.15, 0.35, 0.5])), _PHONES[_common(rng, len(_PHONES))])]
    for number in range(1, 1 + int(rng.choice([0, 1, 2], p=[0.3, 0.5, 0.2]))):
        signs_in = float(rng.choice([0.0, 0.3, 0.8], p=[0.35, 0.3, 0.35]))
        found.append(("computer", number, signs_in, _COMPUTERS[_common(rng, len(_COMPUTERS))]))
    if family is not None and rng.random() < 0.8:
        found.append(("shared", 9, 0.9, _COMPUTERS[family]))
    return found


def _common(rng: np.random.Generator, count: int) -> int:
    """Half of the draws fall on a sixth of the numbers."""
    return int(count * rng.random() ** 2.6)


def _network(draw: float, home: str, work: str | None, kind: str, index: int, mobile: str) -> str:
    """A second computer stands at work; a telephone goes everywhere."""
    if kind == "phone":
        return home if draw < 0.55 else work if work and draw < 0.75 else mobile
    if work and index == 2:
        return work if draw < 0.9 else home
    return home if draw < 0.93 else mobile


def _used(draw: float, count: int) -> int:
    """The first half of the time the first device, and so on."""
    weights = (0.5, 0.3, 0.2, 0.15)[:count]
    draw *= sum(weights)
    for index, weight in enumerate(weights):
        draw -= weight
        if draw < 0:
            return index
    return count - 1


def _cookie_epoch(owner: str, index: int, kind: str, day: int, seed: int) -> int:
    """How often the cookies were lost by that day: never in an app, every month or so in a browser."""
    if kind == "phone":
        return 0
    period = 15 + sum(map(ord, f"{owner}{index}{seed}")) % 45
    return day // period
