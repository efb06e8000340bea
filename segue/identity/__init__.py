"""Identity: which identifiers are one person (docs/decisions/0004-identity.md).

Promises: the same events give the same people and ids, in whatever order they are received and whether each day was
run or all of it at once; growing keeps an id, a merge keeps the older one and is written to `identity.merges`; an id,
once given out, leads to whoever has its identifier for ever; a link that a guard refuses is kept with the reason; what
somebody split or merged by hand stays so.
Never: guesses, outside of `identity.probable_links`, which joins nobody; reads an address in clear.
"""

from segue.identity.decisions import (
    Edge,
    Plan,
    carry_out,
    explain,
    plan_merge,
    plan_split,
    read_decisions,
    stitcher,
    stitcher_of,
)
from segue.identity.graph import Resolution, resolve
from segue.identity.impact import Impact, impact
from segue.identity.lookup import IdentifierRow, MergeRow, Person, RefusedRow, lookup, people
from segue.identity.stitch import StitchReport, stitch, stitched_as_of
from segue.identity.tables import ensure_tables
from segue.identity.walk import REASONS

__all__ = [
    "REASONS",
    "Edge",
    "IdentifierRow",
    "Impact",
    "MergeRow",
    "Person",
    "Plan",
    "RefusedRow",
    "Resolution",
    "StitchReport",
    "carry_out",
    "ensure_tables",
    "explain",
    "impact",
    "lookup",
    "people",
    "plan_merge",
    "plan_split",
    "read_decisions",
    "resolve",
    "stitch",
    "stitched_as_of",
    "stitcher",
    "stitcher_of",
]
