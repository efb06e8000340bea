"""Names in Valkey, in one hash slot, and its errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from segue.errors import ValkeyError

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


@contextmanager
def told() -> Iterator[None]:
    """Errors of the client as errors that name the fix."""
    try:
        yield
    except redis.OutOfMemoryError as error:
        raise ValkeyError(
            "the Valkey of the serving store has no memory left", fix="raise SEGUE_VALKEY_MAX_BYTES"
        ) from error
    except redis.ResponseError as error:
        if "OOM" in str(error):
            raise ValkeyError(
                "the Valkey of the serving store has no memory left", fix="raise SEGUE_VALKEY_MAX_BYTES"
            ) from error
        if str(error).startswith(("LOADING", "BUSY", "MISCONF", "READONLY", "MASTERDOWN")):
            raise ValkeyError(f"the serving store is not ready: {error}") from error
        raise
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise ValkeyError(
            f"the serving store does not answer: {error}",
            fix="it is started with `segue up`; HOME/valkey/valkey.log says why it ended",
        ) from error
