"""Rows to messages of the Segment spec, as bytes of JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from segue.events.simulator.actions import (
    ADDED,
    ALIAS,
    CANCELLED,
    CHECKOUT,
    GROUP,
    IDENTIFY,
    ONBOARDED,
    ORDERED,
    PAGE,
    PREMIUM,
    SEARCHED,
    SIGNED_IN,
    SIGNED_OUT,
    SIGNED_UP,
    SUBSCRIBED,
    VIEWED,
    Actions,
)
from segue.events.simulator.delivery import (
    BROKEN_JSON,
    MISSING_IDS,
    MISSING_PROPERTY,
    UNKNOWN_TYPE,
    VALUE_NOT_ALLOWED,
    WRONG_TYPE,
    Deliveries,
)
from segue.events.simulator.people import Ints, People
from segue.events.simulator.visits import Visits
from segue.events.simulator.world import (
    CANCEL_REASONS,
    CHANNELS,
    COUNTRIES,
    FEATURES,
    LIBRARIES,
    LOCALES,
    MODELS,
    PAGES,
    PREMIUM_PRICE,
    PRODUCTS,
    QUERIES,
    SIGN_IN_METHODS,
    WEB,
)

_SITE = "https://shop.example.com"
_CURRENCY = "USD"

_EVENTS = {
    SEARCHED: "Search Performed",
    VIEWED: "Product Viewed",
    ADDED: "Product Added",
    CHECKOUT: "Checkout Started",
    ORDERED: "Order Completed",
    PREMIUM: "Premium Feature Used",
    SIGNED_UP: "Signed Up",
    SIGNED_IN: "Signed In",
    SIGNED_OUT: "Signed Out",
    ONBOARDED: "Onboarding Completed",
    SUBSCRIBED: "Subscription Started",
    CANCELLED: "Subscription Cancelled",
}

#: The end of the context of a message from a web page.
_PAGE_CONTEXT = tuple(
    b"," + orjson.dumps({"page": {"path": path, "url": _SITE + path}})[1:-1] + b"}" for _, path, _ in PAGES
)

#: The required property that a broken message lacks, or has with this wrong value.
_MISSING = {
    SEARCHED: "query",
    VIEWED: "product_id",
    ADDED: "category",
    CHECKOUT: "currency",
    ORDERED: "order_id",
    PREMIUM: "feature",
}
_WRONG: dict[int, tuple[str, Any]] = {
    SEARCHED: ("result_count", "many"),
    VIEWED: ("price", "12,90"),
    ADDED: ("quantity", "1"),
    CHECKOUT: ("value", "n/a"),
    ORDERED: ("revenue", "USD 99"),
    PREMIUM: ("feature", 7),
}


#: Naive datetimes are UTC, and are written so.
_OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def moments_of(milliseconds: Ints) -> list[datetime]:
    """Naive UTC."""
    moments: list[datetime] = milliseconds.astype("datetime64[ms]").tolist()
    return moments


class Messages:
    """Some messages of a day, made one at a time."""

    def __init__(
        self, people: People, visits: Visits, actions: Actions, deliveries: Deliveries, rng: np.random.Generator
    ) -> None:
        self._people = people
        self._visits = visits
        row = deliveries.row
        self._visit: list[int] = actions.visit[row].tolist()
        self._kind: list[int] = actions.kind[row].tolist()
        self._detail: list[int] = actions.detail[row].tolist()
        self._quantity: list[int] = actions.quantity[row].tolist()
        self._has_user: list[bool] = actions.has_user[row].tolist()
        self._breakage: list[int] = deliveries.breakage.tolist()
        self._original = moments_of(deliveries.original)
        self._sent = moments_of(deliveries.sent)
        self._received = moments_of(deliveries.received)
        self._timestamp = moments_of(deliveries.timestamp)
        self._ids = rng.bytes(16 * len(row)).hex()
        # Per visit, made when they are first needed.
        self._context: dict[int, bytes] = {}
        self._who: dict[int, tuple[str, str]] = {}
        self._person: list[int] = visits.person.tolist()
        self._device: list[int] = visits.device.tolist()
        self._is_web: list[bool] = (people.platform[visits.device] == WEB).tolist()

    def message_id(self, i: int) -> str:
        return self._ids[32 * i : 32 * i + 32]

    def line(self, i: int) -> bytes:
        """The message as one line of JSON, broken if it is to be."""
        line = orjson.dumps(self._message(i), option=_OPTIONS)
        return line[: len(line) * 3 // 5] if self._breakage[i] == BROKEN_JSON else line

    def line_again(self, i: int, *, sent: datetime, received: datetime, timestamp: datetime) -> bytes:
        """The same message, delivered at another time (naive UTC)."""
        times = {"timestamp": timestamp, "sentAt": sent, "receivedAt": received}
        return orjson.dumps(self._message(i) | times, option=_OPTIONS)

    def _message(self, i: int) -> dict[str, Any]:
        visit, kind, breakage = self._visit[i], self._kind[i], self._breakage[i]
        is_web = self._is_web[visit]
        user_id, anonymous_id = self._known(visit)
        message: dict[str, Any] = {"messageId": self.message_id(i), "type": "track"}
        if kind == PAGE:
            message["type"] = "page" if is_web else "screen"
            message["name"] = PAGES[self._detail[i]][0]
        elif kind in _EVENTS:
            message["event"] = _EVENTS[kind]
        if breakage != MISSING_IDS:
            message["anonymousId"] = anonymous_id
            if self._has_user[i]:
                message["userId"] = user_id
        context = self._context.get(visit) or self._open(visit)
        if is_web:
            context = context[:-1] + _PAGE_CONTEXT[self._detail[i] if kind == PAGE else 0]
        message["context"] = orjson.Fragment(context)
        self._fill(message, i, visit, kind, is_web=is_web)
        message["timestamp"] = self._timestamp[i]
        message["originalTimestamp"] = self._original[i]
        message["sentAt"] = self._sent[i]
        message["receivedAt"] = self._received[i]
        if breakage:
            _break(message, kind, breakage, odd=visit % 2 == 1)
        return message

    def _fill(self, message: dict[str, Any], i: int, visit: int, kind: int, *, is_web: bool) -> None:
        """Properties, traits and ids that the kind needs."""
        people, person = self._people, self._person[visit]
        if kind == IDENTIFY:
            message["type"] = "identify"
            message["traits"] = {
                "email": _as_typed(people.email(person), visit),
                "name": people.name(person),
                "plan": plan_of(people, person),
                "country": COUNTRIES[people.country[person]][0],
            }
        elif kind == ALIAS:
            message["type"] = "alias"
            message["previousId"] = self._known(visit)[1]
        elif kind == GROUP:
            team = people.team_id(int(people.team[person]))
            message["type"] = "group"
            message["groupId"] = team
            message["traits"] = {"name": team.replace("-", " ").title(), "plan": "team"}
        else:
            message["properties"] = self._properties(i, person, kind, is_web=is_web)

    def _properties(self, i: int, person: int, kind: int, *, is_web: bool) -> dict[str, Any]:
        detail, quantity = self._detail[i], self._quantity[i]
        if kind == PAGE:
            name, path, title = PAGES[detail]
            return {"path": path, "title": title, "url": _SITE + path, "referrer": ""} if is_web else {"name": name}
        if kind in (VIEWED, ADDED):
            product_id, category, price = PRODUCTS[detail]
            product: dict[str, Any] = {"product_id": product_id, "category": category, "price": price}
            return product if kind == VIEWED else product | {"quantity": quantity}
        if kind == SEARCHED:
            return {"query": QUERIES[detail], "result_count": (detail * 7) % 23}
        if kind == CHECKOUT:
            return {"value": detail / 100, "currency": _CURRENCY}
        if kind == ORDERED:
            order = f"order-{self._ids[32 * i : 32 * i + 10]}"
            return {"order_id": order, "revenue": detail / 100, "currency": _CURRENCY, "product_count": quantity}
        if kind == PREMIUM:
            return {"feature": FEATURES[detail]}
        if kind == SIGNED_UP:
            return {"method": SIGN_IN_METHODS[detail], "plan": plan_of(self._people, person)}
        if kind == SIGNED_IN:
            return {"method": SIGN_IN_METHODS[detail]}
        if kind == ONBOARDED:
            return {"step_count": 4}
        if kind == SUBSCRIBED:
            return {"plan": plan_of(self._people, person), "price": PREMIUM_PRICE, "currency": _CURRENCY}
        return {"reason": CANCEL_REASONS[detail]} if kind == CANCELLED else {}

    def _known(self, visit: int) -> tuple[str, str]:
        """userId and anonymousId."""
        if visit not in self._who:
            people = self._people
            anonymous = people.anonymous_id(int(self._visits.anonymous[visit]))
            self._who[visit] = (people.user_id(self._person[visit]), anonymous)
        return self._who[visit]

    def _open(self, visit: int) -> bytes:
        """The context that all messages of a visit share."""
        people, person, device = self._people, self._person[visit], self._device[visit]
        platform = int(people.platform[device])
        kind, model, system, version = MODELS[platform][people.model[device]]
        library, library_version = LIBRARIES[platform]
        country = COUNTRIES[people.country[person]][0]
        net: Sequence[str] = ("192.0.2", "198.51.100", "203.0.113")
        context: dict[str, Any] = {
            "library": {"name": library, "version": library_version},
            "device": {"id": people.device_id(device), "type": kind, "model": model},
            "os": {"name": system, "version": version},
            "locale": LOCALES[country],
            # The shop keeps one clock: habits are planned in UTC.
            "timezone": "UTC",
            "ip": f"{net[person % 3]}.{person // 3 % 254 + 1}",
            "location": {"country": country},
            "consent": {
                "categoryPreferences": {
                    "analytics": bool(people.allows_analytics[person]),
                    "marketing": bool(people.allows_marketing[person]),
                    "functional": True,
                }
            },
        }
        campaign = CHANNELS[self._visits.channel[visit]]
        if campaign is not None:
            context["campaign"] = campaign
        self._context[visit] = orjson.dumps(context)
        return self._context[visit]


def _as_typed(email: str, visit: int) -> str:
    """The address is the same whatever the case and the blanks around it."""
    return email.title() if visit % 7 == 0 else f" {email}" if visit % 11 == 0 else email


def plan_of(people: People, person: int) -> str:
    """The plan that the person has or will have."""
    if people.team[person] >= 0:
        return "team"
    return "plus" if people.subscription[person] < people.churn[person] else "free"


def _break(message: dict[str, Any], kind: int, breakage: int, *, odd: bool) -> None:
    if breakage == MISSING_PROPERTY:
        del message["properties"][_MISSING[kind]]
    elif breakage == WRONG_TYPE:
        name, value = _WRONG[kind]
        message["properties"][name] = value
    elif breakage == VALUE_NOT_ALLOWED:
        message["properties"]["method"] = "fax"
    elif breakage == UNKNOWN_TYPE and odd:
        message["type"] = "trakc"
    elif breakage == UNKNOWN_TYPE:
        del message["type"]
