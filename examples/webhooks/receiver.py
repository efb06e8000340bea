"""Receives Segue's webhooks: verifies, forgets nothing, answers at once.

Run it with the secret that `segue webhooks add` printed:
WEBHOOK_SECRET=whsec_… python receiver.py [PORT]
Needs `pip install standardwebhooks`.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
seen: set[str] = set()  # in your database, in the transaction that does the work


class Receiver(BaseHTTPRequestHandler):
    """One request is one change of one person."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Verify the bytes as they came, before anything reads them as JSON."""
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            message = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.reply(400)
            return
        if self.headers["webhook-id"] not in seen:  # the same change may come twice, with the same id
            seen.add(self.headers["webhook-id"])
            data = message["data"]
            if message["type"] != "segment.test":
                print(data["personId"], data["change"], data["segment"], data["before"], "→", data["after"], flush=True)
        self.reply(204)

    def reply(self, status: int) -> None:
        """Without a body."""
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Receiver).serve_forever()
