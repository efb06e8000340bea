"""Who has been told what: one row per subject and channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from segue.alerts.message import Alert, Kind
from segue.clock import to_warehouse
from segue.warehouse import Connection, has_table, insert_rows

#: Unanswered for certain, each with pauses between: about a day and a half.
MAX_ATTEMPTS = 12
#: A process that stopped while sending may have sent: it is sent once more, and then no more.
MAX_UNKNOWN = 1
_LONGEST_PAUSE = timedelta(hours=6)

_COLUMNS = """
    alert_id varchar, kind varchar, subject_id varchar, channel varchar, status varchar, created_at timestamp,
    sent_at timestamp, attempts integer, payload json, detail varchar, is_final boolean, next_attempt_at timestamp,
    unknown_count integer
"""
_NAMES = [column.split()[0] for column in _COLUMNS.split(",")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """What is on record for a subject and a channel."""

    alert_id: str
    kind: Kind
    subject_id: str
    channel: str
    status: str  # pending, sent, failed
    created_at: datetime  # naive UTC, as stored
    attempts: int
    is_final: bool
    next_attempt_at: datetime | None  # naive UTC, as stored
    unknown_count: int  # attempts that were cut off, so that nobody knows whether they arrived

    @property
    def may_be_sent(self) -> bool:
        """Not there yet, and worth another attempt."""
        if self.status == "pending":
            return self.unknown_count < MAX_UNKNOWN
        return self.status == "failed" and not self.is_final and self.attempts < MAX_ATTEMPTS


def is_due(entry: LedgerEntry | None, *, as_of: datetime | None) -> bool:
    """Whether what the entry is about may be told now.

    Args:
        entry: None: it has never been tried.
        as_of: aware UTC; an attempt that failed is not repeated before its pause is over. None: whatever the hour.
    """
    if entry is None:
        return True
    if not entry.may_be_sent:
        return False
    return as_of is None or entry.next_attempt_at is None or entry.next_attempt_at <= to_warehouse(as_of)


def ensure_tables(con: Connection) -> None:
    """Create `alerts.announcements` where it is missing."""
    con.execute("create schema if not exists alerts")
    con.execute(f"create table if not exists alerts.announcements ({_COLUMNS})")


def entries(con: Connection) -> list[LedgerEntry]:
    """The whole ledger, oldest first; empty before the first alert."""
    if not has_table(con, "alerts", "announcements"):
        return []
    rows = con.execute(
        """
        select
            alert_id, kind, subject_id, channel, status, created_at, attempts, is_final, next_attempt_at, unknown_count
        from alerts.announcements
        order by created_at, channel, subject_id
        """
    ).fetchall()
    return [
        LedgerEntry(
            alert_id=row[0],
            kind=row[1],
            subject_id=row[2],
            channel=row[3],
            status=row[4],
            created_at=row[5],
            attempts=row[6],
            is_final=bool(row[7]),
            next_attempt_at=row[8],
            unknown_count=row[9],
        )
        for row in rows
    ]


def stored_alert(con: Connection, channel: str, subject_id: str) -> Alert:
    """The alert of an entry, without its pictures."""
    row = con.execute(
        "select payload::varchar from alerts.announcements where channel = $1 and subject_id = $2",
        [channel, subject_id],
    ).fetchone()
    assert row is not None
    return Alert.from_json(orjson.loads(row[0]))


def claim(
    con: Connection,
    alert: Alert,
    channel: str,
    subjects: Sequence[str],
    before: Mapping[str, LedgerEntry],
    *,
    as_of: datetime,
) -> None:
    """Put on record that the alert is about to be sent. To be committed before it is.

    Args:
        before: the entries of this channel by subject.
    """
    payload = orjson.dumps(alert.to_json()).decode()
    rows = []
    for subject in subjects:
        old = before.get(subject)
        rows.append(
            [
                alert.alert_id,
                alert.kind,
                subject,
                channel,
                "pending",
                old.created_at if old is not None else to_warehouse(as_of),
                None,
                old.attempts + 1 if old is not None else 1,
                payload,
                "being sent",
                False,
                None,
                old.unknown_count + (old.status == "pending") if old is not None else 0,
            ]
        )
    con.execute(
        "delete from alerts.announcements where channel = $1 and list_contains($2::varchar[], subject_id)",
        [channel, list(subjects)],
    )
    insert_rows(con, "alerts.announcements", _NAMES, rows)


def settle(
    con: Connection,
    channel: str,
    subjects: Sequence[str],
    *,
    as_of: datetime,
    detail: str,
    error: bool,
    is_final: bool,
    retry_after: float | None = None,
) -> None:
    """Put on record how it ended; after an error that may pass, when to try again."""
    row = con.execute(
        """
        select max(attempts) from alerts.announcements
        where channel = $1 and list_contains($2::varchar[], subject_id)
        """,
        [channel, list(subjects)],
    ).fetchone()
    attempts = int(row[0]) if row is not None and row[0] is not None else 1
    pause = min(timedelta(minutes=2 ** (attempts - 1)), _LONGEST_PAUSE)
    if retry_after is not None:
        pause = max(pause, timedelta(seconds=retry_after))
    con.execute(
        """
        update alerts.announcements
        set status = $1, sent_at = $2, detail = $3, is_final = $4, next_attempt_at = $5
        where channel = $6 and list_contains($7::varchar[], subject_id)
        """,
        [
            "failed" if error else "sent",
            None if error else to_warehouse(as_of),
            detail,
            is_final,
            to_warehouse(as_of + pause) if error and not is_final else None,
            channel,
            list(subjects),
        ],
    )
