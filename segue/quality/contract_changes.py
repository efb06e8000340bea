"""Contracts that were edited, on record: somebody who asks why a number moved wants to know."""

from collections.abc import Sequence
from datetime import date, datetime

import orjson

from segue.clock import to_warehouse
from segue.events import Contract
from segue.warehouse import Connection, has_table, insert_rows
from segue.watch import clean

Terms = dict[str, str]  # by property, what it must be


def note_contracts(con: Connection, contracts: Sequence[Contract], *, as_of: datetime) -> int:
    """Compare the contracts with those of the last time and keep what has changed; returns how many have.

    The first time there is nothing to compare with.

    Args:
        con: a connection inside a write transaction.
    """
    con.execute("create schema if not exists quality")
    con.execute("create table if not exists quality.contracts (event varchar, terms varchar)")
    con.execute(
        "create table if not exists quality.contract_changes (changed_at timestamp, event varchar, sentence varchar)"
    )
    before: dict[str, Terms] = {
        event: orjson.loads(terms)
        for event, terms in con.execute("select event, terms from quality.contracts").fetchall()
    }
    now = {c.name: _terms(c) for c in contracts}
    if now == before:
        return 0
    changes = []
    if before:
        for event in sorted(before.keys() | now.keys()):
            if sentence := _change(event, before.get(event), now.get(event)):
                changes.append((to_warehouse(as_of), event, clean(sentence, limit=400)))
    con.execute("delete from quality.contracts")
    if now:
        rows = [(event, orjson.dumps(terms).decode()) for event, terms in now.items()]
        insert_rows(con, "quality.contracts", ("event", "terms"), rows)
    if changes:
        insert_rows(con, "quality.contract_changes", ("changed_at", "event", "sentence"), changes)
    return len(changes)


def contract_changes(con: Connection, *, first: date, last: date) -> list[str]:
    """What was changed on these days, a sentence each."""
    if not has_table(con, "quality", "contract_changes"):
        return []
    rows = con.execute(
        "select sentence from quality.contract_changes where changed_at::date between $1 and $2"
        " order by changed_at, event",
        [first, last],
    ).fetchall()
    return [sentence for (sentence,) in rows]


def _terms(contract: Contract) -> Terms:
    return {
        p.name: " ".join(
            [p.type, *(["required"] if p.required else []), *(["one of", ", ".join(p.allowed)] if p.allowed else [])]
        )
        for p in contract.properties
    }


def _change(event: str, before: Terms | None, now: Terms | None) -> str:
    if before is None:
        return f"{event} has got a contract"
    if now is None:
        return f"{event} has no contract any more"
    parts = [f"{name} is new ({now[name]})" for name in sorted(now.keys() - before.keys())]
    parts += [f"{name} is gone" for name in sorted(before.keys() - now.keys())]
    parts += [
        f"{name} is {now[name]}, before {before[name]}"
        for name in sorted(now.keys() & before.keys())
        if now[name] != before[name]
    ]
    return f"The contract of {event} has changed: {'; '.join(parts)}" if parts else ""
