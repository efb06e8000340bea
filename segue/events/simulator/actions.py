"""What happens in the visits of a day: one row per message, in the order of the visit."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from segue.events.simulator.days import Calendar
from segue.events.simulator.people import NEVER, Flags, Floats, Ints, People
from segue.events.simulator.visits import State, Visits
from segue.events.simulator.world import (
    ARCHETYPES,
    CANCEL_REASONS,
    FEATURES,
    MINUTE,
    PAGE_WEIGHTS,
    POWER,
    PRODUCTS,
    PROMOTION_ORDERS,
    QUERIES,
    SIGN_IN_METHODS,
)

(
    PAGE, SEARCHED, VIEWED, ADDED, CHECKOUT, ORDERED, PREMIUM, SIGNED_UP, SIGNED_IN, SIGNED_OUT, ONBOARDED, SUBSCRIBED,
    CANCELLED, IDENTIFY, ALIAS, GROUP,
) = range(16)  # fmt: skip

#: Where in a visit things happen, on a scale without unit.
_TAKES_OVER, _LANDS, _SIGNS_IN, _SIGNS_UP, _BUYS, _LEAVES = 0.0, 1.0, 2.0, 20.0, 50.0, 60.0

_LONGEST_VISIT = 40 * MINUTE
_LONGEST_PAUSE = 6 * MINUTE
_MEAN_PAUSE = 45_000.0
_ALIAS_SHARE = 0.35
_ABANDONS = 0.6  # of the baskets that are not bought: left before the checkout
_BASKET_WITHOUT_ORDER = 0.15
_CANCELS_WITHIN_DAYS = 8


class _Part(NamedTuple):
    """Rows of one kind. Their times run on from the same moment of the visit: account first, then who it is."""

    visit: Ints
    kind: int
    order: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """One entry per message of the day, by visit and time."""

    visit: Ints
    kind: Ints
    occurred: Ints  # ms, true time
    has_user: Flags
    detail: Ints  # index into the list that the kind chooses from; cents of an order
    quantity: Ints  # of an added product; products of an order

    def __len__(self) -> int:
        return len(self.visit)


def draw_actions(
    calendar: Calendar, people: People, state: State, visits: Visits, day: int, rng: np.random.Generator
) -> Actions:
    """The messages of the day's visits; notes in `state` who was onboarded, subscribed, left."""
    parts = [
        *_account_parts(people, state, visits, day, rng),
        *_behaviour_parts(calendar, people, state, visits, day, rng),
    ]
    visit = np.concatenate([part.visit for part in parts])
    kind = np.concatenate([np.full(len(part.visit), part.kind, dtype=np.int64) for part in parts])
    place = np.concatenate([part.order for part in parts])
    order = np.lexsort((kind, place, visit))
    visit, kind, place = visit[order], kind[order], place[order]
    archetype = visits.archetype[visit]
    quantity = np.where(kind == ADDED, 1 + (rng.random(len(kind)) * _of(archetype, "top_quantity")).astype(np.int64), 0)
    detail = _details(kind, archetype, rng)
    _total_orders(len(visits), visit, kind, detail, quantity)
    known_from = np.where(
        visits.was_signed_in,
        -1.0,
        np.where(
            visits.signs_in,
            np.where(visits.held_by_other, _TAKES_OVER, _SIGNS_IN),
            np.where(visits.signs_up, _SIGNS_UP, np.inf),
        ),
    )
    return Actions(
        visit=visit, kind=kind, occurred=_times(visits, visit, kind, rng), has_user=place >= known_from[visit],
        detail=detail, quantity=quantity,
    )  # fmt: skip


def _of(archetype: Ints, name: str) -> Floats:
    values: Floats = np.array([getattr(a, name) for a in ARCHETYPES], dtype=np.float64)[archetype]
    return values


def _at(mask: Flags, kind: int, place: float | Floats) -> _Part:
    """One row in each visit of the mask."""
    visit = np.flatnonzero(mask)
    return _Part(visit, kind, place[visit] if isinstance(place, np.ndarray) else np.full(len(visit), place))


def _some(counts: Ints, kind: int, place: tuple[float, float], rng: np.random.Generator) -> _Part:
    """As many rows as counted, anywhere between two places of the visit."""
    visit = np.repeat(np.arange(len(counts)), counts)
    return _Part(visit, kind, rng.uniform(*place, len(visit)))


def _account_parts(people: People, state: State, visits: Visits, day: int, rng: np.random.Generator) -> list[_Part]:
    u = rng.random((3, len(visits)))
    signs_in, signs_up = visits.signs_in, visits.signs_up
    place = np.where(visits.held_by_other, _TAKES_OVER, _SIGNS_IN)
    onboards = _once(visits, visits.has_user & ~state.is_onboarded[visits.person], people.onboarding, day)
    state.is_onboarded[visits.person[onboards]] = True
    subscribes = _once(visits, visits.has_user & ~state.is_subscribed[visits.person], people.subscription, day)
    subscribes &= ~state.has_cancelled[visits.person]
    state.is_subscribed[visits.person[subscribes]] = True
    leaving = np.where(people.churn < NEVER, people.churn - _CANCELS_WITHIN_DAYS, NEVER)
    cancels = _once(visits, visits.has_user & state.is_subscribed[visits.person] & ~subscribes, leaving, day)
    state.is_subscribed[visits.person[cancels]] = False
    state.has_cancelled[visits.person[cancels]] = True
    in_team = people.team[visits.person] >= 0
    return [
        _at(signs_in, SIGNED_IN, place),
        _at(signs_in, IDENTIFY, place),
        _at(signs_up, SIGNED_UP, _SIGNS_UP),
        _at(signs_up, IDENTIFY, _SIGNS_UP),
        _at(signs_up & (u[0] < _ALIAS_SHARE), ALIAS, _SIGNS_UP),
        _at(in_team & (signs_up | (signs_in & (u[1] < 0.2))), GROUP, np.where(signs_up, _SIGNS_UP, place)),
        _at(onboards, ONBOARDED, 49.0),
        _at(subscribes, SUBSCRIBED, 52.0),
        _at(cancels, CANCELLED, 56.0),
        _at(visits.signs_out, SIGNED_OUT, _LEAVES),
    ]


def _once(visits: Visits, able: Flags, due: Ints, day: int) -> Flags:
    """The first able visit of each person for whom the day has come."""
    candidates = np.flatnonzero(able & (due[visits.person] <= day))
    chosen = np.zeros(len(visits), dtype=np.bool_)
    chosen[candidates[np.unique(visits.person[candidates], return_index=True)[1]]] = True
    return chosen


def _behaviour_parts(
    calendar: Calendar, people: People, state: State, visits: Visits, day: int, rng: np.random.Generator
) -> list[_Part]:
    allows = people.allows_analytics[visits.person]
    archetype, count = visits.archetype, len(visits)
    u = rng.random((4, count))
    chance = _of(archetype, "order_probability")
    if day == calendar.promotion:
        chance = np.minimum(chance * PROMOTION_ORDERS, 0.9)
    orders = visits.has_user & (u[0] < chance)
    fills = orders | (u[1] < _BASKET_WITHOUT_ORDER)
    lines = np.where(fills, 1 + rng.poisson(_of(archetype, "basket_lines") - 1), 0)
    checks_out = orders | (fills & (u[2] > _ABANDONS))
    trial = u[3] < _of(archetype, "trial_probability")
    uses = np.where(
        state.is_subscribed[visits.person],
        rng.poisson(np.where(archetype == POWER, _of(archetype, "premium_uses"), 0.2)),
        trial,
    )
    if_allowed = allows.astype(np.int64)
    # What is bought must be sent in any case; the way there is behaviour.
    return [
        _at(allows, PAGE, _LANDS),
        _some(rng.poisson(_of(archetype, "pages")) * if_allowed, PAGE, (5.0, 40.0), rng),
        _some(rng.poisson(_of(archetype, "searches")) * if_allowed, SEARCHED, (5.0, 30.0), rng),
        _some((lines + rng.poisson(_of(archetype, "views"))) * if_allowed, VIEWED, (5.0, 40.0), rng),
        _some(lines * if_allowed, ADDED, (41.0, 45.0), rng),
        _at(checks_out & allows, CHECKOUT, _BUYS),
        _at(orders, ORDERED, _BUYS + 1),
        _some(uses * visits.has_user * if_allowed, PREMIUM, (30.0, 48.0), rng),
    ]


def _details(kind: Ints, archetype: Ints, rng: np.random.Generator) -> Ints:
    """Which page, product, query …: the index that the row's kind needs."""
    u = rng.random(len(kind))
    sizes = {
        SEARCHED: QUERIES, PREMIUM: FEATURES, SIGNED_IN: SIGN_IN_METHODS, SIGNED_UP: SIGN_IN_METHODS,
        CANCELLED: CANCEL_REASONS,
    }  # fmt: skip
    detail = np.zeros(len(kind), dtype=np.int64)
    for one, choices in sizes.items():
        detail = np.where(kind == one, (u * len(choices)).astype(np.int64), detail)
    page = np.minimum(np.searchsorted(np.cumsum(PAGE_WEIGHTS), u), len(PAGE_WEIGHTS) - 1)
    detail = np.where(kind == PAGE, page, detail)
    # Products are ascending by price: a taste is a bell around a place in that order.
    taste = (_of(archetype, "priciness") + rng.normal(0, 0.18, len(kind))) * len(PRODUCTS)
    is_product = (kind == VIEWED) | (kind == ADDED)
    return np.where(is_product, np.clip(taste, 0, len(PRODUCTS) - 1).astype(np.int64), detail)


def _total_orders(visit_count: int, visit: Ints, kind: Ints, detail: Ints, quantity: Ints) -> None:
    """Put the worth of the basket, in cents, and its size into the rows of checkouts and orders."""
    cents = np.array([round(price * 100) for _, _, price in PRODUCTS], dtype=np.int64)
    added = kind == ADDED
    worth = np.bincount(visit[added], weights=cents[detail[added]] * quantity[added], minlength=visit_count)
    size = np.bincount(visit[added], weights=quantity[added], minlength=visit_count)
    ends = (kind == ORDERED) | (kind == CHECKOUT)
    # Who declines analytics adds nothing that we hear of: one product in the middle of the range.
    detail[ends] = np.where(worth[visit[ends]] > 0, worth[visit[ends]], cents[len(cents) // 2]).astype(np.int64)
    quantity[ends] = np.maximum(size[visit[ends]], 1).astype(np.int64)


def _times(visits: Visits, visit: Ints, kind: Ints, rng: np.random.Generator) -> Ints:
    """Milliseconds: pauses between messages, never so long that the visit falls apart."""
    pauses = np.clip(rng.exponential(_MEAN_PAUSE, len(visit)), 1500, _LONGEST_PAUSE)
    # These go out together with the message before them.
    pauses = np.where((kind == IDENTIFY) | (kind == ALIAS) | (kind == GROUP), 15, pauses)
    begins = np.r_[True, np.diff(visit) != 0] if len(visit) else np.zeros(0, dtype=np.bool_)
    pauses[begins] = 0
    run = np.cumsum(pauses)
    offset = run - np.repeat(run[begins], np.diff(np.r_[np.flatnonzero(begins), len(visit)]))
    length = np.zeros(len(visits))
    np.maximum.at(length, visit, offset)
    squeeze = np.minimum(1.0, _LONGEST_VISIT / np.maximum(length, 1.0))
    occurred: Ints = visits.start[visit] + (offset * squeeze[visit]).astype(np.int64)
    return occurred
