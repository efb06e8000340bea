"""The tables of the history, and what a change of them is reported as."""

from dataclasses import dataclass
from datetime import datetime

from segue.warehouse import Connection

#: table → column definitions. The ledger is `transitions`; the rest says what was evaluated and which ids became one.
TABLES = {
    "evaluations": "segment varchar, as_of timestamp, member_count bigint, active_count bigint,"
    " definition_hash varchar, exclusive_group varchar, is_held boolean, recorded_at timestamp",
    "transitions": "transition_id varchar, person_id varchar, segment varchar, change varchar, is_member boolean,"
    " effective_at timestamp, recorded_at timestamp, cause varchar",
    "memberships": "person_id varchar, segment varchar, entered_at timestamp, exited_at timestamp",
    "merged_people": "from_person_id varchar, into_person_id varchar, known_at timestamp",
}

#: The cause of a transition that what people did, or the time that passed, brought about; no edit of a definition did.
OWN_CHANGE = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentShare:
    """How large a segment is among active people."""

    segment: str
    member_count: int
    active_count: int | None  # people seen in the last share_days; None when the project cannot say
    min_share: float

    @property
    def share(self) -> float | None:
        """Members per active person; None when nobody is known to be active."""
        return self.member_count / self.active_count if self.active_count else None

    @property
    def is_enough(self) -> bool:
        """Whether the segment has its minimum share; true when it cannot be told."""
        return self.share is None or self.share >= self.min_share


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReport:
    """What one evaluation changed in the history."""

    as_of: datetime
    entered_count: int  # transitions written by this call, by change
    exited_count: int
    merged_count: int
    removed_count: int  # transitions that the evaluation proved wrong
    shares: tuple[SegmentShare, ...]
    left_out: tuple[tuple[str, str], ...] = ()  # segment, why it was not recorded

    @property
    def added_count(self) -> int:
        """Transitions written by this call."""
        return self.entered_count + self.exited_count + self.merged_count


def ensure_tables(con: Connection) -> None:
    """Create the schema `segments` and the tables of the history where they are missing."""
    con.execute("create schema if not exists segments")
    for name, columns in TABLES.items():
        con.execute(f"create table if not exists segments.{name} ({columns})")
