"""A large shop for the benchmarks of real time: rows of `raw.events`, made by DuckDB in seconds."""

from datetime import datetime

import duckdb
import pyarrow as pa

from segue.models.tables import TABLES

_EVENTS = """
select
    'm-' || n as message_id,
    case when h % 10 < 7 then 'track' else 'page' end as type,
    case when h % 10 < 7 then
        ['Product Viewed', 'Product Viewed', 'Search Performed', 'Signed In', 'Premium Feature Used',
         'Order Completed', 'Onboarding Completed'][1 + (h // 10 % 7)::bigint]
    end as event,
    case when h % 10 >= 7 then 'Home' end as name,
    case when h // 100 % 10 < 6 then 'u' || person end as user_id,
    'a' || person || '-' || (h // 1000 % 2) as anonymous_id,
    moment as timestamp, moment as original_timestamp, moment as sent_at, moment as received_at,
    '{"category": "c' || (h % 5) || '", "revenue": ' || (h % 90) || ', "path": "/p/' || (h % 1000) || '"}'
        as properties,
    '{}' as traits,
    '{"library": {"name": "analytics.js", "version": "2.1.0"}, "locale": "en-US", "campaign": {"medium": "email"},'
        || ' "page": {"path": "/p/' || (h % 1000) || '"}, "location": {"country": "DE"}' ||
        case when person % 3 = 0 then ', "device": {"id": "d' || person || '", "type": "ios"}' else '' end || '}'
        as context,
    'web' as source, 1::bigint as load_id, md5_number_lower('m-' || n) as message_hash
from (
    select range as n, hash(range + $seed) as h, (hash(range * 7 + $seed) % $people)::bigint as person,
        $first::timestamp + to_microseconds(((range - $start) * ($span / $count))::bigint) as moment
    from range($start, $start + $count)
)
"""


def shop_events(*, people: int, count: int, first: datetime, last: datetime, start: int = 0, seed: int = 1) -> pa.Table:
    """`raw.events` of so many people, evenly spread over a time (naive UTC), sorted by when they were received.

    Args:
        start: number of the first message; ids of different numbers differ.
    """
    columns = ", ".join(f'"{name}" {kind}' for name, kind in TABLES["raw.events"].items())
    with duckdb.connect(":memory:") as con:
        con.execute(f"create table events ({columns})")
        con.execute(
            "insert into events by name " + _EVENTS.replace("range($start, $start + $count)", "range($start, $stop)"),
            {
                "seed": seed, "people": people, "count": float(count), "first": first, "start": start,
                "stop": start + count, "span": (last - first).total_seconds() * 1e6,
            },
        )  # fmt: skip
        return con.execute("from events order by received_at").to_arrow_table()
