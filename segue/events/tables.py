"""The raw tables, and the proof that nothing was dropped."""

from dataclasses import dataclass

from segue.warehouse import Connection, has_table, scalar

#: What stands in `raw.loads.file` for a load that put quarantined messages back.
REPLAY = "quarantine replay"

_DDL = (
    "create schema if not exists raw",
    """
    create table if not exists raw.events (
        message_id varchar, type varchar, event varchar, name varchar,
        user_id varchar, anonymous_id varchar, previous_id varchar, group_id varchar,
        timestamp timestamp, original_timestamp timestamp, sent_at timestamp, received_at timestamp,
        properties json, traits json, context json,
        source varchar, load_id bigint, message_hash ubigint
    )
    """,
    """
    create table if not exists raw.loads (
        load_id bigint, source varchar, file varchar, file_size bigint, file_modified_at timestamp,
        read_count bigint, loaded_count bigint, duplicate_count bigint, quarantined_count bigint, loaded_at timestamp
    )
    """,
    """
    create table if not exists raw.quarantine (
        quarantine_id varchar, received_at timestamp, reason varchar, detail varchar, payload varchar,
        source varchar, file varchar, line bigint, load_id bigint, replayed_at timestamp
    )
    """,
)


def ensure_tables(con: Connection) -> None:
    """Create the schema `raw` and its tables where they are missing."""
    for statement in _DDL:
        con.execute(statement)


def has_tables(con: Connection) -> bool:
    """Whether anything was ever ingested."""
    return has_table(con, "raw", "loads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Where every message that was ever read is now: read = loaded + duplicates + quarantined."""

    read: int
    loaded: int
    duplicates: int
    quarantined: int  # waiting in quarantine, not yet replayed
    replayed: int  # were in quarantine and have been put back
    problems: tuple[str, ...]  # sentences; empty when the books balance

    @property
    def holds(self) -> bool:
        """Whether the books balance."""
        return not self.problems


def accounting(con: Connection) -> Accounting:
    """Count the tables against the ledger `raw.loads`.

    Returns:
        The totals, with a sentence for each place where the ledger and a table disagree.
    """
    if not has_tables(con):
        return Accounting(read=0, loaded=0, duplicates=0, quarantined=0, replayed=0, problems=())
    loads = con.execute(
        """
        select
            coalesce(sum(read_count) filter (where file <> $1), 0),
            coalesce(sum(loaded_count), 0),
            coalesce(sum(duplicate_count), 0),
            coalesce(sum(quarantined_count), 0),
            coalesce(sum(read_count) filter (where file = $1), 0),
            count(*) filter (where read_count <> loaded_count + duplicate_count + quarantined_count)
        from raw.loads
        """,
        [REPLAY],
    ).fetchone()
    assert loads is not None
    read, loaded, duplicates, quarantined, replayed, unbalanced = map(int, loads)
    events = int(scalar(con, "select count(*) from raw.events"))
    waiting = int(scalar(con, "select count(*) from raw.quarantine where replayed_at is null"))
    gone = int(scalar(con, "select count(*) from raw.quarantine where replayed_at is not null"))
    claims = (
        (unbalanced == 0, f"{unbalanced} loads do not add up"),
        (events == loaded, f"raw.events has {events:,} rows, the ledger says {loaded:,}"),
        (waiting + gone == quarantined, f"raw.quarantine has {waiting + gone:,} rows, the ledger says {quarantined:,}"),
        (gone == replayed, f"{gone:,} messages are marked as replayed, the ledger says {replayed:,}"),
        (
            read == events + duplicates + waiting,
            f"{read:,} read, but {events:,} loaded + {duplicates:,} duplicates + {waiting:,} quarantined",
        ),
    )
    return Accounting(
        read=read,
        loaded=events,
        duplicates=duplicates,
        quarantined=waiting,
        replayed=gone,
        problems=tuple(sentence for holds, sentence in claims if not holds),
    )
