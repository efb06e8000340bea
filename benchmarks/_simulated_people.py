"""The simulator's own world, through staging and identity, and who its people really are."""

import hashlib
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._simulated import UNTIL, shop
from segue.identifiers import Normaliser, load_key
from segue.identity import stitcher
from segue.models import Evaluator

Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Times play no part any more."""

    found: dict[Key, str]  # identifier → person_id
    links: pa.Table  # as in staging.stg_links
    last_user: dict[Key, str]  # identifier → the account that it was seen with last
    owner: dict[Key, str]  # identifier → who it is, of identifiers that one person only has used


def simulated(people: int, *, seed: int) -> Simulated:
    """A history of 60 days, resolved as of its end."""
    with tempfile.TemporaryDirectory() as name:
        world = shop(Path(name), people=people, days=60, seed=seed)
        normaliser = Normaliser(load_key(world.warehouse.settings))
        with world.warehouse.read() as con, Evaluator(
            world.project, con, until=UNTIL, stitch=stitcher(world.project.rules, []),
            targets=["int_events", "stg_links"],
        ) as everyone:  # fmt: skip
            built = everyone.at(UNTIL).con
            found = {
                (kind, value): person
                for kind, value, person in built.execute(
                    "select identifier_type, identifier_value, person_id from identity.identifiers"
                ).fetchall()
            }
            links = built.execute("select * from staging.stg_links").to_arrow_table()
            last_user = {}
            for kind, column in (("anonymous_id", "anonymous_id"), ("device_id", "device_id"), ("email", "email_hash")):
                rows = built.execute(
                    f"select {column}, arg_max(user_id, occurred_at) from staging.stg_events"
                    f" where {column} is not null and user_id is not null group by {column}"
                ).fetchall()
                last_user |= {(kind, value): user for value, user in rows}
            sent = con.execute(
                "select distinct email from (select traits->>'$.email' as email from raw.events"
                " union all select context->>'$.traits.email' from raw.events) where email is not null"
            ).fetchall()
        # The truth has plain hashes, the warehouse keyed ones; the messages have the addresses.
        keyed = {
            hashlib.sha256(email.strip().lower().encode()).hexdigest(): normaliser.email(email) for (email,) in sent
        }
        owners = defaultdict(set)
        for row in pq.read_table(world.truth / "identifiers.parquet").to_pylist():
            kind, value = row["identifier_type"], row["identifier_value"]
            owners[kind, keyed.get(value, value) if kind == "email" else value].add(row["person"])
    return Simulated(
        found=found,
        links=links,
        last_user=last_user,
        owner={key: next(iter(who)) for key, who in owners.items() if len(who) == 1 and key in found},
    )
