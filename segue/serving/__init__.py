"""Serving: who is in which segment, over HTTP, as a stream and on a live page.

Promises: an answer says how fresh it is; a membership is one round trip to the store; nothing of people is told
without a token; an error is problem JSON (RFC 9457) that names the fix.
Never: evaluates a rule; writes to the store; logs a token or an identifier.
"""

from segue.serving.app import make_app
from segue.serving.server import serve

__all__ = ["make_app", "serve"]
