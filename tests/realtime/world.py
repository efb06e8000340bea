"""Messages for the engine, a store that only remembers, and the truth: everyone evaluated at once."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from segue.clock import to_warehouse
from segue.identity import stitcher
from segue.models import Evaluator, Project
from segue.models.check import empty_lake
from segue.models.tables import TABLES
from segue.realtime.engine import Engine
from segue.segments import definitions, ensure_tables, record
from segue.warehouse import Connection

START = datetime(2026, 3, 2, 6, tzinfo=UTC)  # a Monday morning


def raw_events(messages: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of `raw.events`. Times are aware; properties, traits and context are dicts."""
    con = empty_lake()
    rows = []
    for number, message in enumerate(messages):
        row = dict.fromkeys(TABLES["raw.events"]) | dict(message)
        for name in ("timestamp", "received_at"):
            row[name] = to_warehouse(row[name])
        for name in ("properties", "traits", "context"):
            row[name] = json.dumps(row[name] or {})
        row["load_id"] = row["load_id"] or number
        rows.append(row)
    columns = ", ".join(f'"{name}" {kind}' for name, kind in TABLES["raw.events"].items())
    con.execute(f"create table memory.main.made ({columns})")
    if rows:
        con.register("arriving", pa.Table.from_pylist(rows))
        con.execute("insert into memory.main.made by name from arriving")
        con.execute("update memory.main.made set message_hash = md5_number_lower(message_id)")
    found = con.execute("from memory.main.made order by load_id").to_arrow_table()
    con.close()
    return found


class Truth:
    """The same models, run for everyone, with identity from nothing."""

    def __init__(self, project: Project, raw: pa.Table, until: datetime) -> None:
        self._project = project
        lake = empty_lake()
        lake.execute("create schema raw")
        lake.register("arriving", raw)
        # A message counts once, as it was received first.
        lake.execute(
            "create table raw.events as from arriving"
            " qualify row_number() over (partition by message_id order by received_at, load_id) = 1"
        )
        self._decisions: list[dict[str, Any]] = []
        self._evaluator = Evaluator(project, lake, until=until, stitch=self._stitch)
        self._ledger = empty_lake()
        ensure_tables(self._ledger)

    def close(self) -> None:
        self._evaluator.close()
        self._ledger.close()

    def at(self, as_of: datetime) -> dict[str, tuple[str, ...]]:
        """person_id → segments served, of everybody who is in one; also recorded as history."""
        found = self._evaluator.at(as_of)
        assert not found.failed, found.failed
        segments = definitions(self._project).segments
        union = " union all ".join(
            f"select person_id, '{s.name}' as segment from segments.\"{s.name}\"" for s in segments
        )
        self._ledger.register("members_now", found.con.execute(union).to_arrow_table())
        self._ledger.register(
            "merges_now",
            found.con.execute(
                "select alias_id as from_person_id, person_id as into_person_id from identity.aliases"
            ).to_arrow_table(),
        )
        record(self._ledger, as_of=as_of, segments=segments, members="from members_now", merges="from merges_now")
        served = {s.name for s in segments if s.realtime}
        members: dict[str, list[str]] = {}
        for person, segment in self._ledger.execute(
            "select person_id, segment from segments.memberships where exited_at is null"
        ).fetchall():
            if segment in served:
                members.setdefault(person, []).append(segment)
        return {person: tuple(sorted(names)) for person, names in members.items()}

    def decide(self, decisions: Sequence[Mapping[str, Any]]) -> None:
        """All that was decided by hand; what is later than a time does not count then."""
        self._decisions = [dict(row) for row in decisions]

    def _stitch(self, con: Connection, as_of: datetime) -> object:
        return stitcher(self._project.rules, self._decisions)(con, as_of)

    def transitions(self, served: set[str]) -> set[tuple[str, str, str, str]]:
        """id, person, segment, change of everything recorded."""
        rows = self._ledger.execute("select transition_id, person_id, segment, change from segments.transitions")
        return {row for row in rows.fetchall() if row[2] in served}


class Remembered:
    """A store that holds what updates say, and checks that they are consistent."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, datetime]] = {}
        self.into: dict[str, str] = {}
        self.told: list[Any] = []

    def apply(self, update: Any) -> None:
        expected = {person: set(since) for person, since in self.people.items()}
        for t in update.transitions:
            assert t.transition_id not in {x.transition_id for x in self.told}, "told twice"
            mine = expected.setdefault(t.person_id, set())
            assert t.before == tuple(sorted(self.people.get(t.person_id, {}))), t
            if t.segment in mine:
                assert t.change in ("exited", "merged"), t
                mine.remove(t.segment)
            else:
                assert t.change in ("entered", "merged"), t
                mine.add(t.segment)
            assert (t.segment in mine) == (t.segment in t.after), t
            self.told.append(t)
        for person in (*update.merged, *update.gone):
            self.people.pop(person, None)
        self.into |= update.merged
        for state in update.people:
            self.people[state.person_id] = dict(state.segments)
        now = {person: set(since) for person, since in self.people.items() if since}
        assert now == {person: names for person, names in expected.items() if names}, "transitions do not fold"
        assert not [t for t in update.transitions if t.change == "exited" and t.person_id in update.merged]
        exits = {(self.survivor(t.person_id), t.segment) for t in update.transitions if t.change == "exited"}
        entries = {(t.person_id, t.segment) for t in update.transitions if t.change == "entered"}
        assert not exits & entries, "a merge was told as an exit and an entry"

    def survivor(self, person: str) -> str:
        seen = set()
        while person in self.into and person not in seen and person not in self.people:
            seen.add(person)
            person = self.into[person]
        return person

    def memberships(self) -> dict[str, tuple[str, ...]]:
        return {person: tuple(sorted(since)) for person, since in self.people.items() if since}


def pass_time(engine: Engine, store: Remembered, until: datetime) -> None:
    """Let the engine do what it has to do on its own, each thing when its time comes."""
    now = engine.as_of
    while True:
        while engine.look_ahead(now):
            pass
        while engine.has_big:
            big = engine.big(now)
            assert big is not None
            store.apply(big)
        moments = [m for m in (engine.next_due, engine.next_look) if m is not None]
        # Looking again an instant before what was looked at has passed: as late as is allowed.
        now = max(now, min(moments, default=until))
        if now > until or (now == until and (engine.next_due is None or engine.next_due > now)):
            break
        update = engine.due(now)
        if update is not None:
            store.apply(update)
        elif not engine.look_ahead(now):
            now += timedelta(seconds=1)
    while (update := engine.due(until)) is not None:
        store.apply(update)
