"""Receives bellpull's events: python3 receive.py, with SECRET and PORT in the environment. Needs PyPI's standardwebhooks."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["SECRET"])
applied = {}  # (stream, bridge, key): the last sequence. Keep it where your data is, and change both together.


def apply(event):
    print(event["type"], event["data"]["key"], event["data"]["sequence"], flush=True)


def receive(body, headers):
    """The status to answer."""
    try:
        event = webhook.verify(body, headers)
    except (WebhookVerificationError, ValueError):
        return 401
    if not event["type"].startswith("bellpull."):  # those tell of bellpull itself, and have no sequence
        data = event["data"]
        record = data["stream"], data["bridge"], data["key"]
        if data["sequence"] > applied.get(record, 0):
            apply(event)
            applied[record] = data["sequence"]
    return 204


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(receive(body, self.headers))
        self.end_headers()


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hook).serve_forever()
