"""The small dbt project, compiled once, and a stream of events for it."""

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from segue.clock import to_warehouse
from segue.models import Project, prepare
from segue.models.tables import TABLES, create_empty
from segue.settings import PROJECT_ROOT, Settings
from segue.warehouse import Connection


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three segments on events per person; `power_users` and `present` exclude one another."""
    root = tmp_path_factory.mktemp("tiny")
    shutil.copytree(Path(__file__).parents[1] / "models" / "tiny_project", root / "dbt")
    (root / "dbt" / "macros").mkdir()
    for name in ("as_of.sql", "generate_schema_name.sql"):
        shutil.copy(PROJECT_ROOT / "dbt_project" / "macros" / name, root / "dbt" / "macros")
    shutil.copy(PROJECT_ROOT / "dbt_project" / "profiles.yml", root / "dbt")
    return prepare(Settings(home=root / "home", dbt_project=root / "dbt", _env_file=None))  # type: ignore[call-arg]


#: occurred, received, user_id, previous_id (an alias when set)
Message = tuple[datetime, datetime, str, str | None]


@pytest.fixture
def put_events() -> Callable[[Connection, Sequence[Message]], None]:
    """Fill `raw.events` of a connection."""

    def put(con: Connection, messages: Sequence[Message]) -> None:
        con.execute("drop table if exists raw.events")
        create_empty(con, "raw.events", TABLES["raw.events"])
        batch = pa.table(
            {
                "message_id": [f"m{n}" for n in range(len(messages))],
                "type": ["alias" if previous else "track" for *_, previous in messages],
                "event": ["Product Viewed" for _ in messages],
                "timestamp": [to_warehouse(at) for at, *_ in messages],
                "received_at": [to_warehouse(received) for _, received, *_ in messages],
                "user_id": [user for _, _, user, _ in messages],
                "previous_id": pa.array([previous for *_, previous in messages], pa.string()),
                "load_id": list(range(len(messages))),
            }
        )
        con.register("batch", batch)
        con.execute("insert into raw.events by name from batch")
        con.unregister("batch")

    return put


@pytest.fixture
def stitch_aliases() -> Callable[[Connection, datetime], None]:
    """A stand-in for identity: a user_id is a person, until an alias says that it is another one."""

    def stitch(con: Connection, as_of: datetime) -> None:
        for table in ("identity.identifiers", "identity.aliases"):
            con.execute(f"drop table if exists {table}")
            create_empty(con, table, TABLES[table])
        con.execute(
            """
            insert into identity.aliases (alias_id, person_id, known_at)
            select distinct previous_id, user_id, $1::timestamp from raw.events
            where previous_id is not null and received_at <= $1::timestamp
            """,
            [to_warehouse(as_of)],
        )
        con.execute(
            """
            insert into identity.identifiers (identifier_type, identifier_value, person_id)
            select distinct 'user_id', e.user_id, coalesce(a.person_id, e.user_id)
            from raw.events e
            left join identity.aliases a on a.alias_id = e.user_id
            where e.received_at <= $1::timestamp
            """,
            [to_warehouse(as_of)],
        )

    return stitch


@pytest.fixture
def stream(as_of: datetime) -> list[Message]:
    """Twenty days of forty people before `as_of`: late events, an alias now and then, people who stop coming."""
    random = Random(7)
    start = as_of - timedelta(days=20)
    messages: list[Message] = []
    for _ in range(900):
        person = f"u{random.randrange(40):02}"
        at = start + timedelta(seconds=random.randrange(20 * 86_400) * (0.4 if person < "u10" else 1))
        late = timedelta(days=random.randrange(5)) if random.random() < 0.2 else timedelta(seconds=2)
        messages.append((at, at + late, person, None))
    for old, new, day in (("u30", "u05", 3), ("u31", "u32", 8), ("u33", "u11", 15)):
        messages.append((start + timedelta(days=day), start + timedelta(days=day, hours=1), new, old))
    return messages


SHOP_EVENTS = (
    "Signed In", "Onboarding Completed", "Product Viewed", "Product Viewed", "Search Performed",
    "Premium Feature Used", "Order Completed", "Product Added",
)  # fmt: skip


@pytest.fixture
def shop_messages() -> Callable[..., pa.Table]:
    """Makes the content of `raw.events` of a shop."""
    return make_shop_messages


def make_shop_messages(
    *, people: int, days: int, end: datetime, per_person_day: float = 1.5, seed: int = 1
) -> pa.Table:
    """`raw.events` of a shop: several devices per person, an anonymous time first, shared devices, late arrivals."""
    random = Random(seed)
    rows: list[dict[str, Any]] = []
    for n in range(people):
        anonymous, device, user = [f"a{n}-{k}" for k in range(2)], f"d{n // 2 if n % 10 == 0 else n}", f"u{n}"
        known_from = random.random() * days * 0.6 if n % 5 else 0.0
        quits = random.random() * days * 2
        for _ in range(int(days * per_person_day * random.random() * 2)):
            day = random.random() * days
            if day > quits:
                continue
            at = end - timedelta(days=days) + timedelta(seconds=int(day * 86_400))
            received = at + (timedelta(hours=random.randrange(60)) if random.random() < 0.05 else timedelta(seconds=3))
            is_known, event = day >= known_from, random.choice(SHOP_EVENTS)
            context = {
                "library": {"name": "analytics.js"},
                "device": {"id": device, "type": random.choice(["ios", "android"])} if n % 3 == 0 else {},
                "campaign": {"medium": random.choice(["email", "cpc"])},
            }
            rows.append(
                {
                    "type": "track" if random.random() < 0.7 else "page",
                    "event": event,
                    "name": "Home",
                    "user_id": user if is_known else None,
                    "anonymous_id": random.choice(anonymous),
                    "timestamp": to_warehouse(at),
                    "received_at": to_warehouse(received),
                    "properties": json.dumps({"category": f"c{random.randrange(5)}", "revenue": random.randrange(90)}),
                    "traits": json.dumps({"email": f"{n}@example.com"} if is_known and random.random() < 0.05 else {}),
                    "context": json.dumps(context),
                }
            )
    rows.sort(key=lambda row: row["received_at"])
    for number, row in enumerate(rows):
        row |= {"message_id": f"m{number:07}", "load_id": number // 1000 + 1}
    return pa.Table.from_pylist(rows)
