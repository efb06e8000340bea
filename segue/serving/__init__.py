"""Serving: who is in which segment, over HTTP, as a stream and on a live page.

Promises: an answer says how fresh it is; a membership is one round trip to the store; nothing of people is told
without a token; an error is problem JSON (RFC 9457) that names the fix;
a webhook arrives at least once, with the same id, or is kept as a dead letter.
Never: evaluates a rule; writes to the store; logs a token or an identifier.
"""

from segue.serving.app import make_app
from segue.serving.endpoints import Endpoint, add_endpoint, endpoint, endpoints, remove_endpoint
from segue.serving.post import Attempt, Poster, Verdict
from segue.serving.sender import Sender
from segue.serving.server import serve
from segue.serving.subscriptions import Subscription, named_in, subscriptions
from segue.serving.webhooks import DeadLetter, Delivery, Standing, Webhooks

__all__ = [
    "Attempt",
    "DeadLetter",
    "Delivery",
    "Endpoint",
    "Poster",
    "Sender",
    "Standing",
    "Subscription",
    "Verdict",
    "Webhooks",
    "add_endpoint",
    "endpoint",
    "endpoints",
    "make_app",
    "named_in",
    "remove_endpoint",
    "serve",
    "subscriptions",
]
