"""A sentence for each reason why a message is in quarantine: what is wrong, with which value, and the fix."""

from collections.abc import Mapping
from typing import Any

import orjson

from segue.events.contracts import Contract
from segue.events.spec import TYPES

#: Every reason code and what it means.
REASONS: Mapping[str, str] = {
    "broken_json": "the line is not one JSON object",
    "bad_encoding": "the line is not UTF-8",
    "truncated_file": "the file breaks off here, or is corrupt",
    "line_too_long": "the line is larger than any message can be",
    "unknown_type": "`type` is not one the Segment spec knows",
    "missing_ids": "an id that the type needs is missing",
    "bad_timestamp": "a timestamp is missing or cannot be read",
    "future_timestamp": "the message says it is from the future",
    "ancient_timestamp": "the message says it is from before 2000",
    "missing_property": "a required property is missing",
    "wrong_type": "a property has another type than its contract says",
    "value_not_allowed": "a property has a value its contract does not allow",
}

_SHOWN = 60


def explain(problem: str, payload: str, contracts: Mapping[str, Contract]) -> tuple[str, str]:
    """Reason code and sentence.

    Args:
        problem: `reason` or `reason:field`, as the spec's query says it.
        payload: the original text of the message.
        contracts: by event name, or by type for messages that have no event name.
    """
    reason, _, field = problem.partition(":")
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if reason != "broken_json":
            message = {}
        else:
            where = f"column {error.colno}" if error.lineno == 1 else "its end"
            return reason, f"not JSON at {where}: {error.msg}. Write one JSON object a line; was the line cut off?"
    if reason == "broken_json":
        kind = _kind(message)
        found = f"an {kind}" if kind in ("array", "object", "integer") else f"a {kind}"
        return reason, f"the line holds {found} instead of one message; write one JSON object a line"
    return reason, _sentence(reason, field, message if isinstance(message, dict) else {}, contracts)


def _sentence(reason: str, field: str, message: dict[str, Any], contracts: Mapping[str, Contract]) -> str:
    kind = message.get("type")
    if reason == "unknown_type":
        given = "there is no `type`" if kind is None else f"type {_show(kind)} is unknown"
        return f"{given}; the Segment spec has {', '.join(TYPES)}"
    if reason == "missing_ids":
        need = (
            f"{kind} needs `{field}`"
            if field != "userId" or kind == "alias"
            else "neither `userId` nor `anonymousId` is given"
        )
        return f"{need}; without it nobody can be told apart"
    if reason == "bad_timestamp":
        value = message.get(field, message.get(_snake(field)))
        if value is None:
            return "no timestamp at all; send `originalTimestamp` or `timestamp` as ISO 8601, e.g. 2026-01-31T12:00:00Z"
        return f"`{field}` is {_show(value)}; write ISO 8601, e.g. 2026-01-31T12:00:00Z"
    if reason in ("future_timestamp", "ancient_timestamp"):
        names = ("originalTimestamp", "sentAt", "receivedAt", "timestamp")
        given = ", ".join(
            f"{name} {message.get(name) or message.get(_snake(name))}" for name in names if _has(message, name)
        )
        why = "more than a day in the future" if reason == "future_timestamp" else "before 2000"
        return f"the corrected time is {why} ({given}); check the sender's clock"
    if field in ("properties", "traits", "context") and reason == "wrong_type":
        return f"`{field}` is {_kind(message.get(field))}, not an object; write {{…}}"
    if reason == "missing_property" and field == "event" and kind == "track" and not message.get("event"):
        return "track needs `event`, the name of what happened"
    return _contract_sentence(reason, field, message, contracts)


def _contract_sentence(reason: str, field: str, message: dict[str, Any], contracts: Mapping[str, Contract]) -> str:
    contract = (
        contracts.get(str(message.get("event")))
        if message.get("type") == "track"
        else contracts.get(str(message.get("type")))
    )
    if contract is None:
        return f"`{field}`: {REASONS.get(reason, reason)}"
    values = message.get(contract.column)
    value = values.get(field) if isinstance(values, dict) else None
    wanted = next((item for item in contract.properties if item.name == field), None)
    where = f"`{field}` in {contract.path.name}"
    if reason == "missing_property" or wanted is None:
        return f"`{contract.name}` needs `{field}`; send it, or drop `required` of {where}"
    if reason == "wrong_type":
        found = f"{_kind(value)} {_show(value)}"
        return f"`{field}` of `{contract.name}` is {found}, the contract says {wanted.type}; see {where}"
    return f"`{field}` of `{contract.name}` is {_show(value)}; allowed: {', '.join(wanted.allowed)}; see {where}"


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _has(message: dict[str, Any], name: str) -> bool:
    return bool(message.get(name) or message.get(_snake(name)))


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


def _show(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
