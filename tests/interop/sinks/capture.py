"""A receiver that keeps every request as it came, for verify.py.

Usage: python3 capture.py PORT_FILE LEDGER
Answers 204 to a POST, and the handshake of CloudEvents to an OPTIONS; each is one JSON line of LEDGER, its body in base64.
"""

import base64
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port_file, ledger = sys.argv[1:]
ledger_lock = threading.Lock()


class Capture(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def keep(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        line = {"method": self.command, "path": self.path, "headers": headers, "body": base64.b64encode(body).decode()}
        with ledger_lock, open(ledger, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def do_POST(self):
        self.keep()
        self.send_response(204)
        self.end_headers()

    def do_OPTIONS(self):
        self.keep()
        self.send_response(200)
        self.send_header("webhook-allowed-origin", self.headers.get("webhook-request-origin", "*"))
        self.send_header("webhook-allowed-rate", "6000")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Capture)
server.daemon_threads = True
with open(port_file + ".new", "w", encoding="utf-8") as file:
    file.write(str(server.server_port))
os.rename(port_file + ".new", port_file)
server.serve_forever()
