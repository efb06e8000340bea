"""Who comes on a day, when, on which device, and as whom they are signed in there."""

from dataclasses import dataclass

import numpy as np

from segue.events.simulator.days import Calendar
from segue.events.simulator.people import FADING_DAYS, OWN_DEVICES, Flags, Floats, Ints, People
from segue.events.simulator.world import ARCHETYPES, HOLIDAY_VISITS, HOUR, MINUTE, PROMOTION_VISITS, WEB

#: Two visits nearer than this would be one session, and two people at one computer would talk over each other.
_APART = 50 * MINUTE

_COOKIE_LOSS = (0.02, 0.002, 0.002)  # per visit: web, ios, android
_SIGN_OUT = (0.15, 0.03, 0.03)
_SIGN_OUT_SHARED = 0.6
_NEW_ANONYMOUS_ID_AFTER_SIGN_OUT = 0.7
_SESSION_EXPIRED = 0.12
_SIGNS_IN = 0.9


class State:
    """What is carried from day to day. Grows with people and devices, never with days."""

    def __init__(self, people: People) -> None:
        rng = np.random.default_rng([people.seed, 3])
        self.has_account: Flags = people.is_existing.copy()
        self.is_onboarded: Flags = people.is_existing.copy()
        self.is_subscribed: Flags = people.is_existing & (people.subscription < 0)
        self.has_cancelled: Flags = np.zeros(people.count, dtype=np.bool_)
        self.signed_up_at: Ints = np.zeros(people.count, dtype=np.int64)  # ms; 0: not in the history
        self.visit_count: Ints = np.zeros(people.count, dtype=np.int64)
        self.anonymous: Ints = np.arange(people.device_count, dtype=np.int64)  # number of the current anonymousId
        self.next_anonymous = people.device_count
        # Existing people are mostly still signed in on their own devices.
        owner = np.repeat(np.arange(people.count), OWN_DEVICES)
        stays = np.repeat(people.is_existing, OWN_DEVICES) & (rng.random(len(owner)) < 0.7)
        self.signed_in: Ints = np.full(people.device_count, -1, dtype=np.int64)  # person, or -1
        self.signed_in[: len(owner)] = np.where(stays, owner, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """The visits of a day, by start."""

    person: Ints
    device: Ints
    start: Ints  # ms
    archetype: Ints
    channel: Ints
    anonymous: Ints  # number of the anonymousId
    held_by_other: Flags  # somebody else was signed in on the device
    was_signed_in: Flags  # still signed in from before
    signs_in: Flags
    signs_up: Flags
    signs_out: Flags

    def __len__(self) -> int:
        return len(self.person)

    @property
    def has_user(self) -> Flags:
        """Whether the person is known by account at the end of the visit."""
        return self.was_signed_in | self.signs_in | self.signs_up


def draw_visits(calendar: Calendar, people: People, state: State, day: int, rng: np.random.Generator) -> Visits:
    """The visits of a day; moves `state` to its end."""
    archetypes = people.archetype_on(day)
    person, start = _who_and_when(calendar, people, archetypes, day, rng)
    device = _device(people, person, rng)
    keep = _apart(person, device, start)
    person, start, device = person[keep], start[keep], device[keep]
    archetype = archetypes[person]
    signs_up, has_account = _accounts(people, state, person, day)
    held, was, signs_in, signs_out, anonymous = _sign_ins(people, state, person, device, signs_up, has_account, rng)
    state.has_account[person[signs_up]] = True
    state.signed_up_at[person[signs_up]] = start[signs_up]
    np.add.at(state.visit_count, person, 1)
    return Visits(
        person=person, device=device, start=start, archetype=archetype, channel=_channel(archetype, rng),
        anonymous=anonymous, held_by_other=held, was_signed_in=was, signs_in=signs_in, signs_up=signs_up,
        signs_out=signs_out,
    )  # fmt: skip


def _who_and_when(
    calendar: Calendar, people: People, archetypes: Ints, day: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    column = "weekend_visits" if calendar.is_weekend(day) else "weekday_visits"
    rate = np.array([getattr(a, column) for a in ARCHETYPES])[archetypes] * people.activity
    rate *= (people.arrival <= day) & (day < people.churn)
    rate *= np.clip((people.churn - day) / FADING_DAYS, 0.15, 1)
    if day in calendar.holidays:
        rate *= HOLIDAY_VISITS
    if day == calendar.promotion:
        rate *= PROMOTION_VISITS
    # Everybody comes on the day of their arrival.
    visits = np.maximum(rng.poisson(rate), people.arrival == day)
    person = np.repeat(np.arange(people.count), visits)
    hour = _hours(archetypes[person], rng)
    start = calendar.start(day) + (hour * HOUR).astype(np.int64)
    order = np.lexsort((person, start))
    return person[order], start[order]


def _hours(archetype: Ints, rng: np.random.Generator) -> Floats:
    u, z = rng.random(len(archetype)), rng.normal(size=len(archetype))
    hour = np.zeros(len(archetype))
    for number, habits in enumerate(ARCHETYPES):
        mine = archetype == number
        weights, means, deviations = (np.array(column) for column in zip(*habits.hours, strict=True))
        part = np.minimum(np.searchsorted(np.cumsum(weights), u[mine]), len(weights) - 1)
        hour[mine] = means[part] + deviations[part] * z[mine]
    return np.mod(hour, 24.0)


def _device(people: People, person: Ints, rng: np.random.Generator) -> Ints:
    u = rng.random((3, len(person)))
    household = people.household[person]
    own = OWN_DEVICES * person
    phone = own + np.where(people.has_tablet[person] & (u[1] < 0.25), 2, 1)
    computer = np.where((household >= 0) & (u[2] < 0.6), OWN_DEVICES * people.count + household, own)
    # At home, everybody of a family also sits down at its computer now and then.
    shared = (household >= 0) & (u[1] > 0.7)
    mobile = (u[0] < people.mobile_share[person]) & ~shared
    return np.where(mobile, phone, np.where(shared, OWN_DEVICES * people.count + household, computer))


def _apart(person: Ints, device: Ints, start: Ints) -> Flags:
    """Without visits that begin soon after another of the same person or on the same device."""
    keep: Flags = np.ones(len(person), dtype=np.bool_)
    for key in (person, device):
        order = np.lexsort((start, key))
        close = (np.diff(key[order]) == 0) & (np.diff(start[order]) < _APART)
        keep[order[1:][close]] = False
    return keep


def _accounts(people: People, state: State, person: Ints, day: int) -> tuple[Flags, Flags]:
    """Per visit: is it the sign-up, and does the person have an account before it?"""
    first = np.zeros(len(person), dtype=np.bool_)
    first[np.unique(person, return_index=True)[1]] = True
    due = ~state.has_account[person] & (people.signup[person] <= day)
    return due & first, state.has_account[person] | (due & ~first)


def _sign_ins(
    people: People,
    state: State,
    person: Ints,
    device: Ints,
    signs_up: Flags,
    has_account: Flags,
    rng: np.random.Generator,
) -> tuple[Flags, Flags, Flags, Flags, Ints]:
    """Play the visits of each device in order; what a visit finds is what the one before left."""
    u = rng.random((4, len(person)))
    platform = people.platform[device]
    is_shared = device >= OWN_DEVICES * people.count
    loses = u[0] < np.array(_COOKIE_LOSS)[platform]
    leaves = u[1] < np.where(is_shared, _SIGN_OUT_SHARED, np.array(_SIGN_OUT)[platform])
    held = np.zeros(len(person), dtype=np.bool_)
    was, signs_in, signs_out = held.copy(), held.copy(), held.copy()
    anonymous = np.zeros(len(person), dtype=np.int64)
    for v in _rounds(device):
        p, d = person[v], device[v]
        other = (state.signed_in[d] >= 0) & (state.signed_in[d] != p)
        # Who has no account (yet) first signs the other one out.
        fresh = loses[v] | (other & ~has_account[v])
        _renew(state, d[fresh])
        holder = state.signed_in[d]
        mine = (holder == p) & has_account[v]
        held[v] = holder >= 0
        held[v] &= ~mine
        signs_in[v] = has_account[v] & np.where(mine, u[2][v] < _SESSION_EXPIRED, held[v] | (u[2][v] < _SIGNS_IN))
        was[v] = mine & ~signs_in[v]
        known = mine | signs_in[v] | signs_up[v]
        anonymous[v] = state.anonymous[d]
        signs_out[v] = known & leaves[v]
        state.signed_in[d] = np.where(signs_out[v], -1, np.where(known, p, holder))
        _renew(state, d[signs_out[v] & (u[3][v] < _NEW_ANONYMOUS_ID_AFTER_SIGN_OUT)])
    return held, was, signs_in, signs_out, anonymous


def _rounds(device: Ints) -> list[Ints]:
    """First the first visit of each device, then the second …; `device` is in the order of time."""
    if not len(device):
        return []
    order = np.argsort(device, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(device[order]) != 0])
    rank = np.arange(len(device)) - np.repeat(begins, np.diff(np.r_[begins, len(device)]))
    return [order[rank == k] for k in range(int(rank.max()) + 1)]


def _renew(state: State, devices: Ints) -> None:
    """A new anonymousId, as after deleted cookies or a reset; nobody is signed in. Each device at most once."""
    state.anonymous[devices] = np.arange(state.next_anonymous, state.next_anonymous + len(devices))
    state.next_anonymous += len(devices)
    state.signed_in[devices] = -1


def _channel(archetype: Ints, rng: np.random.Generator) -> Ints:
    weights = np.array([a.channels for a in ARCHETYPES], dtype=np.float64)
    chances = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    chosen: Ints = (rng.random(len(archetype))[:, None] > chances[archetype]).sum(axis=1)
    last: Ints = np.minimum(chosen, weights.shape[1] - 1)
    return last


def is_mobile(people: People, visits: Visits) -> Flags:
    """Whether each visit is on a phone or tablet."""
    flags: Flags = people.platform[visits.device] != WEB
    return flags
