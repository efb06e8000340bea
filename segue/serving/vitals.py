"""How real time is doing, as whoever watches over it sees it: one look, and what is wrong by it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from segue.errors import BadInputError, LogError, ValkeyError
from segue.log import LogStatus, open_log
from segue.serving.subscriptions import subscriptions
from segue.serving.webhooks import Webhooks
from segue.settings import Settings
from segue.store import lease_holder, open_store
from segue.valkey import connect

#: Lags of the log (seconds) that are trouble. Files are written every few seconds, batches within milliseconds.
ENGINE_LAG = 60.0
LANDING_LAG = 600.0
#: An engine that holds the lease says something each second, but for the time in which it reads its history.
SILENT = timedelta(minutes=10)
#: A receiver may be deployed anew without anybody being told.
RECEIVER_AWAY = timedelta(minutes=10)
#: Share of its ceiling from which on the log is close to refusing events.
FULL = 0.8

#: Of what the engine says of itself.
_SHOWN = ("batch_latency_p50_ms", "batch_latency_p99_ms", "timers", "only_the_sweep_caught", "to_evaluate",
          "history_rows", "memory_bytes")  # fmt: skip

#: What a trouble must have grown by since it was told, to be told again.
_GROWTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A webhook as it stands."""

    name: str
    waiting: int  # transitions that it is to get and has not got
    dead_letters: int
    failing_since: datetime | None
    last_error: str
    fault: str = ""  # why it cannot be called at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What one look has found."""

    log: LogStatus | None = None  # None: it does not answer
    lease: str | None = None  # who may write the store
    as_of: datetime | None = None  # of the newest update
    people: int = 0
    engine: Mapping[str, Any] = field(default_factory=dict)  # what it said of itself last
    receivers: Sequence[Receiver] = ()
    receivers_fault: str = ""  # why nothing is known of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that a person should know of."""

    key: str  # the same while it lasts
    title: str
    detail: str
    size: float = 0.0  # when it has grown much since it was told, it is told again
    is_certain: bool = False  # one look is enough


@dataclass(frozen=True, slots=True, kw_only=True)
class LastingTrouble:
    """A trouble, for as long as it lasts."""

    since: str  # ISO 8601
    looks: int
    title: str
    told_size: float | None = None  # None: nobody was told yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What is to be told after a look. The subject is the same for the same thing, whoever asks and however often."""

    subject_id: str
    title: str
    detail: str
    is_over: bool


def look(settings: Settings) -> Vitals:
    """One look at the log, the store, the engine's own words and the webhooks."""
    store = open_store(settings)
    try:
        status, log = store.status(), open_log(settings).status()
        receivers, fault = _receivers(settings)
        return Vitals(
            log=log,
            lease=lease_holder(connect(settings)),
            as_of=status.as_of,
            people=status.people,
            engine=status.engine,
            receivers=receivers,
            receivers_fault=fault,
        )
    except (LogError, ValkeyError):
        return Vitals()


def _receivers(settings: Settings) -> tuple[list[Receiver], str]:
    """The webhooks as they stand; or why that cannot be said, such as a list of them that is damaged."""
    kept = Webhooks(settings)
    named = kept.named()
    try:
        known = subscriptions(settings, named)
    except BadInputError as error:
        return [], str(error)
    found = [
        Receiver(
            name=one.name,
            waiting=one.waiting,
            dead_letters=one.dead_letters,
            failing_since=one.delivery.failing_since,
            last_error=one.delivery.last_error,
            fault=one.fault,
        )
        for one in kept.standings(known)
    ]
    return found, ""


def facts(seen: Vitals) -> dict[str, dict[str, str | int | float]]:
    """What a look has found, for people: of the log, of the memberships that are served, of the webhooks."""
    log, engine = seen.log, seen.engine
    if log is None:
        return {}
    left_out = engine.get("left_out") or {}
    return {
        "log": {
            "entries": log.entries,
            "bytes": log.bytes,
            "ceiling, bytes": log.ceiling_bytes,
            **{f"lag of {reader}, s": round(lag.seconds, 3) for reader, lag in log.lags.items()},
            **{f"lag of {reader}, entries": lag.entries for reader, lag in log.lags.items()},
        },
        "memberships": {
            "engine": seen.lease or "none is at work",
            "as of": f"{seen.as_of:%Y-%m-%d %H:%M:%S} UTC" if seen.as_of else "nobody was evaluated yet",
            "people": seen.people,
            "lag, s": round(log.lags["engine"].seconds, 3),
            **{name.replace("_", " "): engine[name] for name in _SHOWN if name in engine},
            "definition error": str(engine.get("definition_error") or "none"),
            "left to the warehouse": "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "none",
        },
        "webhooks": {
            "endpoints": len(seen.receivers),
            "waiting": sum(one.waiting for one in seen.receivers),
            "dead letters": sum(one.dead_letters for one in seen.receivers),
            "failing": ", ".join(one.name for one in seen.receivers if one.failing_since) or "none",
            **({"cannot be read": seen.receivers_fault} if seen.receivers_fault else {}),
        },
    }


def troubles(seen: Vitals, *, is_wanted: bool, as_of: datetime) -> list[Trouble]:
    """What is wrong.

    Args:
        is_wanted: real time was started, and nobody has stopped it.
        as_of: the time of the look.
    """
    if seen.log is None:
        if not is_wanted:
            return []
        detail = (
            "Segue tries to start it again; HOME/valkey/valkey.log says why it ended. Nothing acknowledged is lost."
        )
        return [Trouble(key="server", title="The event log and the serving store do not answer", detail=detail)]
    return [*_of_engine(seen, seen.log, is_wanted, as_of), *_of_log(seen.log), *_of_receivers(seen, as_of)]


def _of_engine(seen: Vitals, log: LogStatus, is_wanted: bool, as_of: datetime) -> list[Trouble]:
    found = []
    lag = log.lags["engine"]
    if seen.lease is None and (is_wanted or lag.entries):
        detail = f"{lag.entries:,} entries of the log wait. SEGUE_HOME/realtime/engine.log says why it ended."
        found.append(Trouble(key="engine", title="No engine is at work: segments stand still", detail=detail))
    elif lag.seconds > ENGINE_LAG:
        detail = f"Segments are {lag.seconds:,.0f} s behind; {lag.entries:,} entries of the log wait."
        found.append(Trouble(key="engine_lag", title="The engine is behind", detail=detail, size=lag.seconds))
    said = seen.engine.get("as_of")
    if seen.lease is not None and said and as_of - datetime.fromisoformat(said) > SILENT:
        detail = f"{seen.lease} holds the lease, and has said nothing since {said}. Restart it: it loses nothing."
        found.append(Trouble(key="silent", title="The engine does not go on", detail=detail))
    error = str(seen.engine.get("definition_error") or "")
    if error:
        key = f"definition:{sha256(error.encode()).hexdigest()[:12]}"
        title = "A definition is broken; real time goes on with the last good one"
        found.append(Trouble(key=key, title=title, detail=error, is_certain=True))
    return found


def _of_log(log: LogStatus) -> list[Trouble]:
    found = []
    lag = log.lags["landing"]
    if lag.seconds > LANDING_LAG:
        detail = (
            f"{lag.entries:,} entries of the log wait to be written to the landing zone, since {lag.seconds:,.0f} s."
        )
        found.append(Trouble(key="landing_lag", title="The landing writer is behind", detail=detail, size=lag.seconds))
    if log.bytes > FULL * log.ceiling_bytes:
        share = log.bytes / log.ceiling_bytes
        detail = f"It holds {log.bytes:,} of {log.ceiling_bytes:,} bytes; at its ceiling the collector answers 503."
        found.append(Trouble(key="log_full", title=f"The event log is {100 * share:.0f} % full", detail=detail))
    return found


def _of_receivers(seen: Vitals, as_of: datetime) -> list[Trouble]:
    found = []
    if seen.receivers_fault:
        title = "The list of webhooks cannot be read"
        found.append(Trouble(key="webhooks", title=title, detail=seen.receivers_fault))
    for one in seen.receivers:
        if one.fault:
            title = f"Webhook {one.name} cannot be called"
            found.append(Trouble(key=f"fault:{one.name}", title=title, detail=one.fault))
        if one.dead_letters:
            detail = (
                f"`segue webhooks letters {one.name}` says why; `segue webhooks replay {one.name}` sends them again."
            )
            title = f"Webhook {one.name} has {one.dead_letters:,} dead letter{'s' * (one.dead_letters > 1)}"
            size = float(one.dead_letters)
            found.append(Trouble(key=f"dead:{one.name}", title=title, detail=detail, size=size, is_certain=True))
        if one.failing_since is not None and as_of - one.failing_since > RECEIVER_AWAY:
            detail = f"{one.waiting:,} changes wait for it. Last error: {one.last_error}"
            title = f"Webhook {one.name} has not been served since {one.failing_since:%Y-%m-%d %H:%M} UTC"
            found.append(Trouble(key=f"failing:{one.name}", title=title, detail=detail))
    return found


def follow(
    known: Mapping[str, LastingTrouble], found: Sequence[Trouble], *, as_of: datetime
) -> tuple[dict[str, LastingTrouble], list[Announcement]]:
    """The troubles that last after a look, and what is to be told: once when one begins, once when it is over.

    What may pass in a moment, such as an engine that starts again, is told when it is seen a second time.
    """
    now: dict[str, LastingTrouble] = {}
    news: list[Announcement] = []
    for trouble in found:
        before = known.get(trouble.key)
        since = before.since if before else as_of.isoformat()
        told = before.told_size if before else None
        looks = before.looks + 1 if before else 1
        is_new = told is None and (looks > 1 or trouble.is_certain)
        if is_new or (told is not None and told > 0 and trouble.size >= _GROWTH * told):
            told = trouble.size
            subject = f"realtime:{trouble.key}:{since}:{told:.0f}"
            news.append(Announcement(subject_id=subject, title=trouble.title, detail=trouble.detail, is_over=False))
        now[trouble.key] = LastingTrouble(since=since, looks=looks, title=trouble.title, told_size=told)
    for key, lasting in known.items():
        if key not in now and lasting.told_size is not None:
            subject = f"realtime:{key}:{lasting.since}:over"
            detail = f"It began at {lasting.since[:16].replace('T', ' ')} UTC."
            news.append(Announcement(subject_id=subject, title=f"Over: {lasting.title}", detail=detail, is_over=True))
    return now, news


def to_json(lasting: Mapping[str, LastingTrouble]) -> dict[str, Any]:
    """For `from_json`."""
    return {key: asdict(one) for key, one in lasting.items()}


def from_json(kept: Mapping[str, Any]) -> dict[str, LastingTrouble]:
    """The troubles that `to_json` wrote."""
    return {key: LastingTrouble(**fields) for key, fields in kept.items()}
