"""Serving: who is in which segment, over HTTP, as a stream and on a live page.

Promises: an answer says how fresh it is; a membership is one round trip to the store; nothing of people is told
without a token; an error is problem JSON (RFC 9457) that names the fix;
a webhook arrives at least once, with the same id, or is kept as a dead letter.
Never: evaluates a rule; writes to the store; logs a token or an identifier.
"""

from segue.serving.app import make_app
from segue.serving.endpoints import Endpoint, add_endpoint, endpoint, endpoints, remove_endpoint
from segue.serving.post import Poster
from segue.serving.server import serve
from segue.serving.webhooks import Courier, Sender, Webhooks, attempt

__all__ = [
    "Courier",
    "Endpoint",
    "Poster",
    "Sender",
    "Webhooks",
    "add_endpoint",
    "attempt",
    "endpoint",
    "endpoints",
    "make_app",
    "remove_endpoint",
    "serve",
]
