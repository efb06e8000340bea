"""Names in Valkey, in one hash slot, and its errors as ours."""

from contextlib import AbstractContextManager

from segue.errors import ValkeyError
from segue.valkey.streams import telling

_ROOT = "segue:{store}:"
META = _ROOT + "meta"  # position, as_of, status
FENCE = _ROOT + "fence"  # the newest token
LEASE = _ROOT + "lease"  # who holds it
SEGMENTS = _ROOT + "segments"  # person → JSON
FEATURES = _ROOT + "features"
IDENTIFIERS = _ROOT + "identifiers"
INDEX = _ROOT + "index"  # an identifier, with its type before it → person
MERGED = _ROOT + "merged"  # id that is gone → id it became
NAMES = _ROOT + "names"  # segments that anybody was ever in
MEMBERS = _ROOT + "members:"  # + segment: its people, in order of id
OUTBOX = _ROOT + "outbox"
OUTBOX_READERS = _ROOT + "outbox_readers"
REQUESTS = _ROOT + "requests"  # people whom the engine is asked to look at again


def told() -> AbstractContextManager[None]:
    """Errors of the client as errors that name the fix."""
    return telling("the serving store", full=ValkeyError, away=ValkeyError)
