"""What is said to Prometheus."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest

if TYPE_CHECKING:
    from segue.serving.state import State

_NUMBERS = {
    "events": "Events that the engine has taken",
    "batches": "Batches that the engine has taken",
    "batch_latency_p50_ms": "From the log to the store, median of the last batches",
    "batch_latency_p99_ms": "From the log to the store, 99th percentile of the last batches",
    "history_rows": "Rows of history in the engine",
    "memory_bytes": "Most memory the engine has used",
    "timers": "Components (mostly one person each) known to change within the horizon",
    "waiting": "Components that wait for an evaluation apart, or for a look ahead",
    "only_the_sweep_caught": "Changes that came with time and that nothing had foreseen",
}


def text(state: "State") -> bytes:
    """The metrics as they are now."""
    registry = CollectorRegistry()
    engine = state.store.get("engine", {})
    Gauge("segue_store_up", "1 when the serving store answers", registry=registry).set(state.is_up)
    Gauge("segue_people", "People in the serving store", registry=registry).set(state.store.get("people", 0))
    Gauge("segue_outbox_entries", "Transitions in the outbox", registry=registry).set(state.store.get("outbox", 0))
    lag = state.freshness().lag_seconds
    if lag is not None:
        Gauge("segue_lag_seconds", "How far answers are behind", registry=registry).set(lag)
    for name, meaning in _NUMBERS.items():
        if name in engine:
            Gauge(f"segue_engine_{name}", meaning, registry=registry).set(engine[name])
    labels = ("webhook",)
    waiting = Gauge("segue_webhook_waiting", "Transitions that a webhook has not got", labels, registry=registry)
    dead = Gauge("segue_webhook_dead_letters", "Transitions that could not be delivered", labels, registry=registry)
    paused = Gauge("segue_webhook_paused", "1 while nothing can be delivered", labels, registry=registry)
    for one in state.webhooks:
        waiting.labels(one.name).set(one.waiting)
        dead.labels(one.name).set(one.dead_letters)
        paused.labels(one.name).set(one.delivery.failing_since is not None)
    return generate_latest(registry)
