"""The people found, held against who the simulated people really are."""

import hashlib
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from segue.events.simulator import FileFormat, simulate
from segue.identity import resolve
from tests.identity.identity_world import Key, Message, staged

EPOCH = datetime(1970, 1, 1)  # naive UTC, as in the warehouse


def when_is(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def micros(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH.replace(tzinfo=UTC)) // timedelta(microseconds=1)


def messages(folder: Path) -> list[Message]:
    """The whole messages of a simulation, once each."""
    found: dict[str, Message] = {}
    for path in sorted(folder.glob("*.ndjson")):
        for line in path.read_bytes().splitlines():
            try:
                m = orjson.loads(line)
            except json.JSONDecodeError:
                continue
            if m.get("type") not in {"track", "identify", "page", "screen", "group", "alias"} or "receivedAt" not in m:
                continue
            email = m.get("traits", {}).get("email") if m["type"] == "identify" else None
            received = micros(m["receivedAt"])
            found[m["messageId"]] = Message(
                received=received,
                user=m.get("userId"),
                anonymous=m.get("anonymousId"),
                device=m["context"]["device"]["id"],
                email=hashlib.sha256(email.strip().lower().encode()).hexdigest() if email else None,
                previous=m.get("previousId"),
                late=max(received - micros(m["timestamp"]), 0),
            )
    return list(found.values())


def pair_scores(found: dict[Key, str], truth: dict[Key, str]) -> tuple[float, float]:
    """Of the pairs of identifiers put together, how many belong together; and the other way round."""
    keys = sorted(found.keys() & truth.keys())
    pairs = lambda groups: sum(n * (n - 1) // 2 for n in groups.values())  # noqa: E731
    both = pairs(Counter((found[k], truth[k]) for k in keys))
    return both / pairs(Counter(found[k] for k in keys)), both / pairs(Counter(truth[k] for k in keys))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_people_of_the_demo_world_are_found(tmp_path: Path, seed: int) -> None:
    until = datetime(2026, 3, 1, tzinfo=UTC)
    report = simulate(tmp_path, people=300, days=60, seed=seed, until=until, file_format=FileFormat.ndjson)
    owners = defaultdict(set)
    for row in pq.read_table(report.truth / "identifiers.parquet").to_pylist():
        owners[row["identifier_type"], row["identifier_value"]].add(row["person"])
    # What several people use, a family computer, is nobody's in truth.
    truth = {key: next(iter(people)) for key, people in owners.items() if len(people) == 1}
    identifiers, links = staged(messages(report.events), when_is)
    result = resolve(identifiers, links, as_of=until)
    keys = zip(identifiers["identifier_type"].to_pylist(), identifiers["identifier_value"].to_pylist(), strict=True)
    found = dict(zip(keys, result.person_ids.to_pylist(), strict=True))
    assert len(truth) > 900
    assert truth.keys() <= found.keys()
    precision, recall = pair_scores(found, truth)
    assert precision >= 0.99
    assert recall >= 0.9
    # No two people with accounts of their own are one.
    users = Counter(found[key] for key in truth if key[0] == "user_id")
    assert max(users.values()) == 1
