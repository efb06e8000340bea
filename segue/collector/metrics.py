"""What the collector counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

REQUESTS = Counter("segue_collector_requests", "Requests by route and status", ["route", "status"], registry=REGISTRY)
MESSAGES = Counter("segue_collector_messages", "Messages acknowledged, by source", ["source"], registry=REGISTRY)
BYTES = Counter("segue_collector_bytes", "Bytes of the lines that were acknowledged", registry=REGISTRY)
APPEND_SECONDS = Histogram(
    "segue_collector_append_seconds",
    "How long an append to the event log took, until it was durable",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
WAITING_BYTES = Gauge("segue_collector_waiting_bytes", "Payload that waits for the event log", registry=REGISTRY)
LOG_BYTES = Gauge("segue_log_bytes", "Payload in the event log", registry=REGISTRY)
LOG_CEILING = Gauge("segue_log_ceiling_bytes", "Payload that the event log may hold", registry=REGISTRY)
LOG_ENTRIES = Gauge("segue_log_entries", "Entries in the event log", registry=REGISTRY)
LAG_SECONDS = Gauge(
    "segue_log_lag_seconds", "Age of the oldest entry that a reader has not committed", ["reader"], registry=REGISTRY
)
LAG_ENTRIES = Gauge("segue_log_lag_entries", "Entries that a reader has not committed", ["reader"], registry=REGISTRY)
LOG_UP = Gauge("segue_log_up", "1 when the event log answers", registry=REGISTRY)
