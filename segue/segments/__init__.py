"""Segments: what analysts defined, and who was in them when.

Promises: the ledger of transitions is the truth and memberships are its fold; evaluating again writes nothing, and
evaluating days in any order gives the same tables; nobody is in two segments of one exclusive group; a merge of two
ids is never shown as an exit or an entry.
Never: decides who belongs to a segment, which is the analysts' SQL; writes outside the schema `segments`.
"""

from segue.segments.definitions import Definitions, Segment, definitions
from segue.segments.history import record
from segue.segments.ledger import OWN_CHANGE, RecordReport, SegmentShare, ensure_tables
from segue.segments.preview import preview
from segue.segments.read import Member, PastTransition, SegmentSize, members, person_history, sizes
from segue.segments.refresh import backfill, backfill_missing, refresh_memberships

__all__ = [
    "OWN_CHANGE",
    "Definitions",
    "Member",
    "PastTransition",
    "RecordReport",
    "Segment",
    "SegmentShare",
    "SegmentSize",
    "backfill",
    "backfill_missing",
    "definitions",
    "ensure_tables",
    "members",
    "person_history",
    "preview",
    "record",
    "refresh_memberships",
    "sizes",
]
