"""The collector: Segment's HTTP tracking API in, the event log out; and the writer of the log's landing files.

Promises: a message is acknowledged only when it is durable in the log; what it says reaches the log as the client
wrote it; when the log is full or away clients are told to come back; each entry of the log lands in one file.
Never: judges a message (ingest and the engine do, and nothing is lost to a rule); keeps a write key in the clear;
lets one client's slow or huge request hold up another's.
"""

from segue.collector.app import Collector
from segue.collector.landing import LandingWriter
from segue.collector.messages import BATCH_MESSAGES, MESSAGE_BYTES, REQUEST_BYTES
from segue.collector.server import serve

__all__ = [
    "BATCH_MESSAGES",
    "MESSAGE_BYTES",
    "REQUEST_BYTES",
    "Collector",
    "LandingWriter",
    "serve",
]
