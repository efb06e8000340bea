"""The serving store: who is in which segment now, by any identifier, and what has changed.

Promises: an update is applied as a whole or not at all, together with the position in the log that it came from; only
the newest engine may write; an id that was merged away leads to the one that it became, for ever; every change stays
in the outbox until each reader is past it.
Never: evaluates a rule; decides who may read; makes a time up.
"""

from segue.errors import StaleError, ValkeyError
from segue.store.model import Change, PersonState, StoredPerson, Transition, Update
from segue.store.outbox import Outbox, Told
from segue.store.read import IDENTIFIER_TYPES, Reader, identifier_keys
from segue.store.requests import EVERYBODY, Requests
from segue.store.snapshot import Snapshot, lease_holder, take_snapshot
from segue.store.store import Store, StoreStatus, open_store

__all__ = [
    "EVERYBODY",
    "IDENTIFIER_TYPES",
    "Change",
    "Outbox",
    "PersonState",
    "Reader",
    "Requests",
    "Snapshot",
    "StaleError",
    "Store",
    "StoreStatus",
    "StoredPerson",
    "Told",
    "Transition",
    "Update",
    "ValkeyError",
    "identifier_keys",
    "lease_holder",
    "open_store",
    "take_snapshot",
]
