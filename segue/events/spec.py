"""The Segment spec and the contracts, as one SQL query from lines of JSON to checked messages.

The query is the only authority on what is accepted: the fast and the careful path of the loader both run it.
"""

from collections.abc import Iterable
from datetime import timedelta

from segue.events.contracts import JSON_TYPES, Contract, Property

#: Types of message that the spec knows.
TYPES = ("track", "identify", "page", "screen", "group", "alias")

#: Columns of `raw.events` that the query gives, in the order of the table, without source, load and hash.
COLUMNS = (
    "message_id", "type", "event", "name", "user_id", "anonymous_id", "previous_id", "group_id",
    "timestamp", "original_timestamp", "sent_at", "received_at", "properties", "traits", "context",
)  # fmt: skip

#: Clocks differ; a message may be this much ahead of whoever judges it: ingest, replay, the engine.
TOLERANCE = timedelta(days=1)

#: Where the collector writes down whose write key a message came with.
SOURCE = "_source"

#: Fields as Segment writes them, and the spelling of senders that write snake case.
_FIELDS = {
    "message_id": "messageId",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "previous_id": "previousId",
    "group_id": "groupId",
    "original_timestamp": "originalTimestamp",
    "sent_at": "sentAt",
    "received_at": "receivedAt",
}
_PLAIN = ("type", "event", "name", "timestamp", "properties", "traits", "context")
_IDS = ("user_id", "anonymous_id", "previous_id", "group_id")
_STAMPS = ("timestamp", "original_timestamp", "sent_at", "received_at")
_OBJECTS = ("properties", "traits", "context")

#: A message without a messageId: the id is made from what it says, so that sending it again adds nothing.
_DERIVED_ID = (
    "'content-' || md5(to_json([type, event, name, user_id, anonymous_id, previous_id, group_id, "
    "coalesce(original_timestamp_text, timestamp_text, sent_at_text, received_at_text), "
    "properties::varchar, traits::varchar, context::varchar])::varchar)"
)


def quote(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def _one_of(expression: str, texts: Iterable[str]) -> str:
    # Not `in (…)`: DuckDB makes a join of it, which costs more than all the rest.
    return "(" + " or ".join(f"{expression} = {quote(text)}" for text in texts) + ")"


def hash_of(expression: str) -> str:
    """The number by which ids are looked up in history. Not DuckDB's `hash()`, which may change with its version."""
    return f"md5_number_lower({expression})"


def given_id(line: str, *, is_camel: bool) -> str:
    """SQL for the messageId of a line, as `messages` sees it; NULL when it has none, or writes it otherwise."""
    camel, snake = (f"json_extract_string({line}, '$.{name}')" for name in ("messageId", "message_id"))
    return f"nullif({camel}, '')" if is_camel else f"nullif(coalesce({camel}, {snake}), '')"


def messages(lines: str, contracts: Iterable[Contract]) -> str:
    """A query: one row per row of `lines`, with the columns of `raw.events` and `problem`.

    Args:
        lines: a relation with `n`, `load_id`, `message_hash` and `line`: text that is valid JSON, or NULL when
            it is not even a JSON object.
        contracts: checked after the spec.

    Returns:
        SQL with one parameter, `$latest`: no message may be younger (naive UTC). `problem` is NULL for a message
        that may be loaded, else `reason` or `reason:field`. `own_source` is what the message says of its source:
        to be believed only of lines that the collector wrote.
    """
    # `random() < 2` is always true. It keeps DuckDB from moving a filter on `problem` below all of this, where it
    # would parse each line twice.
    contracts = list(contracts)
    stamps = ", ".join(f"{name}_text" for name in _STAMPS)
    return f"""
    with parsed as (
        select n, load_id, message_hash, line,
            from_json(line, {quote(_schema(*_PLAIN, *_FIELDS.values(), SOURCE))}) as m
        from {lines}
    ),
    spelled as (
        -- Snake case is looked for only where something is missing and may be there under that name.
        select n, load_id, message_hash, m,
            case when {" or ".join(_is_snake(name) for name in _FIELDS)}
                then from_json(line, {quote(_schema(*_FIELDS))}) end as s
        from parsed
    ),
    named as (
        select n, load_id, message_hash, m is null as is_no_object,
            m."{SOURCE}" as own_source,
            nullif({_field("message_id")}, '') as given_id,
            m.type as type, nullif(m.event, '') as event, nullif(m.name, '') as name,
            {", ".join(f"nullif(trim({_field(name)}), '') as {name}" for name in _IDS)},
            {", ".join(f"nullif({_field(name)}, '') as {name}_text" for name in _STAMPS)},
            {", ".join(f"{_stamp(_field(name))} as {name}_at" for name in _STAMPS)},
            m.properties as properties, m.context as context,
            -- RudderStack leaves the traits of an identify in the context.
            case when m.traits is null and (m.type = 'identify' or m.type = 'group')
                then json_extract(m.context, '$.traits') else m.traits end as traits
        from spelled
    ),
    timed as (
        select * exclude (timestamp_at, original_timestamp_at, sent_at_at, received_at_at),
            original_timestamp_at as original_timestamp, sent_at_at as sent_at,
            coalesce(received_at_at, sent_at_at, timestamp_at, original_timestamp_at) as received_at,
            case
                when received_at_at is not null and sent_at_at is not null and original_timestamp_at is not null
                    -- The client's clock may be wrong by any amount, but it is as wrong when it sends.
                    then make_timestamp(
                        epoch_us(received_at_at) - (epoch_us(sent_at_at) - epoch_us(original_timestamp_at))
                    )
                else coalesce(timestamp_at, original_timestamp_at, sent_at_at, received_at_at)
            end as corrected,
            {", ".join(f"{name}_text is not null and {name}_at is null as {name}_is_bad" for name in _STAMPS)}
        from named
    ),
    checked as (
        select * exclude (given_id, type, event, name, corrected, {stamps}),
            type,
            case when type = 'track' then event end as event,
            case when type = 'page' or type = 'screen' then
                case when name is null then nullif(json_extract_string(properties, '$.name'), '') else name end
            end as name,
            case when given_id is null then {_DERIVED_ID} else given_id end as message_id,
            -- A clock that runs a little ahead: nothing happens after it was received.
            least(corrected, received_at) as timestamp,
            {_spec_problem()} as spec_problem
        from timed
    )
    select * replace (case when random() < 2 then problem end as problem)
    from (
        select n, load_id, message_hash, own_source, {", ".join(COLUMNS)},
            case when spec_problem is not null then spec_problem else {_contract_problem(contracts)} end as problem
        from checked
    )
    """


def _is_snake(name: str) -> str:
    # These two are missing in nearly every message, and looked for only in the type that needs them.
    only = {"previous_id": "m.type = 'alias' and ", "group_id": "m.type = 'group' and "}.get(name, "")
    return f"""({only}m."{_FIELDS[name]}" is null and contains(line, '"{name}"'))"""


def _schema(*names: str) -> str:
    return "{" + ",".join(f'"{name}":"{"JSON" if name in _OBJECTS else "VARCHAR"}"' for name in names) + "}"


def _field(name: str) -> str:
    return f'coalesce(m."{_FIELDS[name]}", s."{name}")' if name in _FIELDS else f'm."{name}"'


def _stamp(text: str) -> str:
    # `timestamptz` reads the offset that `timestamp` ignores. Infinite and far-away values would break arithmetic.
    moment = f"try_cast({text} as timestamptz)"
    first, last = ("'0001-01-01 00:00:00+00'::timestamptz", "'9999-12-31 00:00:00+00'::timestamptz")
    return f"case when {moment} between {first} and {last} then {moment}::timestamp end"


def _spec_problem() -> str:
    bad_stamps = "\n".join(f"when {name}_is_bad then 'bad_timestamp:{_FIELDS.get(name, name)}'" for name in _STAMPS)
    bad_objects = "\n".join(f"when left({name}::varchar, 1) <> '{{' then 'wrong_type:{name}'" for name in _OBJECTS)
    return f"""
    case
        when is_no_object then 'broken_json'
        when type is null or not {_one_of("type", TYPES)} then 'unknown_type'
        when user_id is null and anonymous_id is null then 'missing_ids:userId'
        when type = 'alias' and previous_id is null then 'missing_ids:previousId'
        when type = 'alias' and user_id is null then 'missing_ids:userId'
        when type = 'group' and group_id is null then 'missing_ids:groupId'
        when type = 'track' and event is null then 'missing_property:event'
        {bad_stamps}
        when received_at is null then 'bad_timestamp:timestamp'
        when received_at > $latest or corrected > $latest or corrected > received_at + interval 1 day
            then 'future_timestamp'
        when received_at < timestamp '2000-01-01' or corrected < timestamp '2000-01-01' then 'ancient_timestamp'
        {bad_objects}
    end
    """


def _path(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return quote(f'$."{escaped}"')


def _by_contract(contracts: list[Contract], branches: dict[str, str]) -> str:
    """A CASE over type and event; `branches` gives the SQL by contract name, the ones not in it are NULL."""
    tracks = [c for c in contracts if c.event is not None and c.name in branches]
    others = [c for c in contracts if c.event is None and c.name in branches]
    clauses = [f"when {quote(c.type)} then {branches[c.name]}" for c in others]
    if tracks:
        events = "\n".join(f"when {quote(c.event or '')} then {branches[c.name]}" for c in tracks)
        clauses.insert(0, f"when 'track' then case event {events} end")
    return "case type " + "\n".join(clauses) + " end" if clauses else "null"


def _contract_problem(contracts: list[Contract]) -> str:
    return _by_contract(
        contracts, {contract.name: _problem_of(contract) for contract in contracts if contract.properties}
    )


def _problem_of(contract: Contract) -> str:
    """All properties are held against one pattern; only where it fails each of them is looked at."""
    paths = ", ".join(_path(item.name) for item in contract.properties)
    pattern = ", ".join(f"({'|'.join(_kinds(item))})" for item in contract.properties)
    is_fine = [f"regexp_full_match(json_type({contract.column}, [{paths}])::varchar, {quote(f'[[]{pattern}[]]')})"]
    for item in contract.properties:
        if item.allowed:
            word = f"json_extract_string({contract.column}, {_path(item.name)})"
            is_fine.append(
                _one_of(word, item.allowed) if item.required else f"coalesce({_one_of(word, item.allowed)}, true)"
            )
    tests = " ".join(test for item in contract.properties for test in _property_tests(contract.column, item))
    return f"case when {' and '.join(is_fine)} then null else case {tests} end end"


def _kinds(item: Property) -> tuple[str, ...]:
    # A value that is null and one that is missing are printed in two ways.
    return JSON_TYPES[item.type] if item.required else (*JSON_TYPES[item.type], "NULL", "'NULL'")


def _property_tests(column: str, item: Property) -> list[str]:
    kind, word = (f"{function}({column}, {_path(item.name)})" for function in ("json_type", "json_extract_string"))
    tests = []
    if item.required:
        tests.append(f"when coalesce({kind}, 'NULL') = 'NULL' then {quote(f'missing_property:{item.name}')}")
    tests.append(f"when not {_one_of(kind, (*JSON_TYPES[item.type], 'NULL'))} then {quote(f'wrong_type:{item.name}')}")
    if item.allowed:
        tests.append(
            f"when {kind} <> 'NULL' and not {_one_of(word, item.allowed)} "
            f"then {quote(f'value_not_allowed:{item.name}')}"
        )
    return tests
