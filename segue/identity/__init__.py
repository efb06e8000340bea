"""Identity: which identifiers are one person.

Promises: an id, once published, stays: growing keeps it, a merge keeps the oldest and is written to
`identity.merges`; the same messages give the same ids whether each day was run or all of it at once; a link that a
guard refuses is kept with the reason; running again as of the same time writes nothing.
Never: guesses; reads an identifier in clear that staging keeps as a hash; splits a published person.
"""

from segue.identity.graph import Resolution, resolve, resolve_as_of
from segue.identity.lookup import IdentifierRow, MergeRow, Person, RefusedRow, lookup, people
from segue.identity.stitch import StitchReport, ensure_tables, stitch

__all__ = [
    "IdentifierRow",
    "MergeRow",
    "Person",
    "RefusedRow",
    "Resolution",
    "StitchReport",
    "ensure_tables",
    "lookup",
    "people",
    "resolve",
    "resolve_as_of",
    "stitch",
]
