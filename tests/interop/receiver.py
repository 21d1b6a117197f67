"""A receiver that verifies every webhook with PyPI's standardwebhooks.

Usage: python3 receiver.py PORT_FILE LEDGER SECRET_FILE
Answers 204 to what verifies and 400 to what does not; either way one JSON line goes to LEDGER.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook

port_file, ledger, secret_file = sys.argv[1:]
with open(secret_file, encoding="utf-8") as file:
    webhook = Webhook(file.read().strip())
ledger_lock = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        error = None
        try:
            webhook.verify(body.decode("utf-8"), headers)
        except Exception as reason:  # whatever the library raises is a refusal
            error = f"{type(reason).__name__}: {reason}"
        line = {
            "method": self.command,
            "path": self.path,
            "headers": headers,
            "verified": error is None,
            "error": error,
            "body": body.decode("utf-8", "replace"),
        }
        with ledger_lock, open(ledger, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.send_response(204 if error is None else 400)
        if error is not None:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
server.daemon_threads = True
with open(port_file + ".new", "w", encoding="utf-8") as file:
    file.write(str(server.server_port))
os.rename(port_file + ".new", port_file)
server.serve_forever()
