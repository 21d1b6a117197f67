"""What the servers in Python have in common: the shop's state, a file that the driver replaces whole, and how they say that they listen.

State: {"orders": [{id, customer, status, total, currency, note or null, placed, lines: [{sku, count}]}], "trouble": bool}
"""

import json
import os
import sys
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

_log_lock = threading.Lock()


def state(file):
    """The shop as it is now."""
    with open(file, encoding="utf-8") as opened:
        return json.load(opened)


def log(file, **what):
    """One line about a request, for the driver's checks."""
    with _log_lock, open(file, "a", encoding="utf-8") as opened:
        opened.write(json.dumps(what) + "\n")


def listening(port_file, port):
    """Written under another name first: the driver never reads half a number."""
    with open(port_file + ".new", "w", encoding="utf-8") as opened:
        opened.write(str(port))
    os.rename(port_file + ".new", port_file)


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def serve_wsgi(application, port_file):
    """Until SIGTERM. One request at a time: the standard library's own server."""
    server = make_server("127.0.0.1", 0, application, handler_class=_Quiet)
    listening(port_file, server.server_port)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
