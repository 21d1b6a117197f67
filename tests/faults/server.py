"""The API and the receiver, in this process, on one port that the system chooses; they write in the books that are in use."""

import base64
import hashlib
import hmac
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

from books import LOCK, PAGE, event_of

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        """The other end was killed, or its connection was reset: that is what this is for."""


def serve(handler):
    """A server of a handler, on a port that the system chooses, and its origin."""
    http = Quiet(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return http, f"http://127.0.0.1:{http.server_port}"


class Trap:
    """Where the next kill is to fall: `sprung` is set when a request comes to the stage. `poll` and `delivery` are then held up."""

    def __init__(self, stage):
        self.stage, self.sprung, self.released = stage, threading.Event(), threading.Event()

    def come(self, stage):
        if stage != self.stage or self.sprung.is_set():
            return
        self.sprung.set()
        if stage in ("poll", "delivery"):
            self.released.wait(10)


class Server:
    def __init__(self):
        self.books, self.walks = None, {}
        self.trap = Trap("never")
        self.refuse = lambda: False  # Whether a delivery is answered with 500.
        self.down = set()  # Endpoints that answer with 503.
        self.documents = {}  # Answers that are no book's, by name: (bytes, content type, etag).
        self.hits = []  # (monotonic ns, path) of each request, for rows that measure times.
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                server.get(self)

            def do_POST(self):
                server.post(self)

            def answer(self, status, body=b"", headers=()):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http, self.origin = serve(Handler)

    def use(self, books):
        with LOCK:
            self.books, self.walks, self.trap = books, {}, Trap("never")

    def set_trap(self, stage):
        self.trap.released.set()
        self.trap = Trap(stage)
        return self.trap

    # ---------------------------------------------------------------- the API

    def get(self, request):
        url = urlparse(request.path)
        self.hits.append((time.monotonic_ns(), url.path))
        name = url.path.rpartition("/")[2]
        if name in self.documents:
            body, content_type, etag = self.documents[name]
            known = request.headers.get("if-none-match") == etag
            request.answer(304 if known else 200, b"" if known else body, [("content-type", content_type), ("etag", etag)])
            return
        self.trap.come("poll")
        with LOCK:
            books, book = self.books, self.books.books.get(name)
            if book is None:
                status, body, headers, version = 404, b"", [], None
            elif book.paged:
                status, body, headers, version = self.page(book, parse_qs(url.query))
            else:
                status, body, headers, version = self.whole(book, request.headers.get("if-none-match"))
        changed = book and version is not None and (not book.served or book.served[-1][1] != version)
        request.answer(status, body, headers)
        if version is not None:
            with LOCK:
                book.served.append((time.monotonic_ns(), version))
        if changed and books is self.books:
            self.trap.come("commit")

    def whole(self, book, validator):
        etag = book.etag(book.version)
        if validator and validator.startswith(f'"{book.name}-'):
            version = int(validator.strip('"').rpartition("-")[2])
            if not book.accepted or book.accepted[-1][1] != version:
                book.accepted.append((time.monotonic_ns(), version))
        headers = [("etag", etag), ("content-type", "application/json")]
        return (304, b"", headers, book.version) if validator == etag else (200, book.body_now(), headers, book.version)

    def page(self, book, query):
        """Pages of one walk are of one moment."""
        number = int(query.get("page", ["1"])[0])
        if "walk" in query:
            walk = int(query["walk"][0])
        else:
            walk = len(self.walks)
            texts = book.texts_now()
            self.walks[walk] = (book.version, [texts[n : n + PAGE] for n in range(0, len(texts), PAGE)] or [[]])
        if walk not in self.walks:
            return 410, b"", [], None
        version, pages = self.walks[walk]
        headers = [("content-type", "application/json")]
        last = number >= len(pages)
        if not last:
            headers.append(("link", f'</api/{book.name}?walk={walk}&page={number + 1}>; rel="next"'))
        else:
            del self.walks[walk]
        return 200, b"[" + b",".join(pages[number - 1]) + b"]", headers, version if last else None

    # ---------------------------------------------------------------- the receiver

    def post(self, request):
        body = request.rfile.read(int(request.headers["content-length"]))
        at, identity = time.monotonic_ns(), request.headers["webhook-id"]
        endpoint = request.path.rpartition("/")[2]
        self.hits.append((at, request.path))
        signed = f"{identity}.{request.headers['webhook-timestamp']}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        if endpoint in self.down:
            request.answer(503)
            return
        refused = self.refuse()
        with LOCK:
            books = self.books
            if not hmac.compare_digest(wanted, request.headers["webhook-signature"] or ""):
                books.foreign.append(f"{identity}: the signature is wrong")
            else:
                event = event_of(at, identity, body, not refused)
                if event and books.of(event.bridge) is None:
                    books.foreign.append(f"{identity} is of an unknown bridge {event.bridge!r}")
                elif event:
                    books.arrivals.append(event)
        self.trap.come("delivery")
        request.answer(500 if refused else 204)
        self.trap.come("record")
