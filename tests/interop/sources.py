"""The other sources: servers of other protocols, each made with somebody's library, polled while their data changes and while they fail.

Every row of SOURCES goes through the same steps (`run`): a silent baseline, a round of changes, trouble in which more changes happen, the end
of the trouble. All changes must arrive once. What differs by protocol is in the row's class: its server, its bridge, how one order looks as a
record, and what trouble is. Alerts, whose data comes from Prometheus, follow the same steps in `Alerts.run`.
"""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

from harness import (
    CALL_LIMIT_S,
    HERE,
    PACKAGES,
    START_LIMIT_S,
    GaveUp,
    Receiver,
    bellpull,
    call,
    check,
    check_events,
    check_stop,
    free_port,
    port_from,
    start,
    start_daemon,
    start_receivers,
    status_of,
    stop,
    tail,
    wait_for,
    write_config,
    write_secret,
)

SERVERS = HERE / "servers"
NODE_SERVERS = PACKAGES / "servers"
BRIDGE = "orders"
EVERY = "300ms"
POLLS_MORE = 3  # so that anything sent twice has had its chance


# ---------------------------------------------------------------- the shop

FIRST_ID = 2**53 + 1  # a number that a float cannot hold


class Shop:
    """The orders that the servers show: a file, replaced whole, so that a server sees all of a change or none."""

    def __init__(self, directory):
        self.file = directory / "shop.json"
        self.orders = {}
        self.trouble = False
        for number in range(1, 13):
            self.add(number)
        self.save()

    def add(self, number):
        order = {
            "id": str(FIRST_ID + number),
            "customer": ["Grüße & <Söhne>", "你好 ✓", 'O"Neil', "plain"][number % 4],
            "status": "OPEN",
            "total": f"{number}.50",
            "currency": "EUR",
            "note": f"leave with the neighbour at {number}" if number % 2 else None,
            "placed": f"2026-11-{number:02}T08:00:00Z",
            "lines": [{"sku": f"sku-{number}-{line}", "count": line} for line in range(1, 1 + number % 3)],
        }
        self.orders[number] = order
        return order

    def save(self):
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"orders": list(self.orders.values()), "trouble": self.trouble}))
        os.replace(new, self.file)

    def change(self, created, updated, deleted):
        """Returns [(before or None, after or None)], one pair for each order that changed."""
        pairs = [(None, copy.deepcopy(self.add(number))) for number in created]
        for number in updated:
            order = self.orders[number]
            before = copy.deepcopy(order)
            order["status"] = "PAID"
            order["note"] = "paid" if order["note"] is None else None
            order["lines"].append({"sku": "gift", "count": 1})
            order["total"] = f"{number}.75"
            pairs.append((before, copy.deepcopy(order)))
        pairs += [(self.orders.pop(number), None) for number in deleted]
        self.save()
        return pairs

    def set_trouble(self, trouble):
        self.trouble = trouble
        self.save()


# ---------------------------------------------------------------- the steps

class Source:
    """What the steps need to know of a protocol; the defaults are those of a Python server that shows all orders."""

    name = title = script = None
    needs = ("PyPI",)
    trouble = None  # what bellpull's status says of it
    deletes = True  # whether a record that is missing is reported
    known = 12  # records of the baseline

    def argv(self):
        return [sys.executable, SERVERS / self.script]

    def env(self):
        return None

    def key(self, order):
        return order["id"]

    def same(self, record):
        return record

    def prepare(self):
        pass

    def prove(self):
        """Checks of the server itself, before bellpull asks it."""

    def witness(self):
        """Checks at the end, of what the server saw."""

    def start_server(self, *more):
        self.port_file.unlink(missing_ok=True)
        argv = [*self.argv(), self.port_file, self.shop.file, self.request_log, *more]
        self.server = start(f"{self.name}-server", argv, cwd=self.directory, env=self.env())
        self.port = port_from(self.server, self.port_file)
        self.origin = f"http://127.0.0.1:{self.port}"

    def requests(self):
        return [json.loads(line) for line in self.request_log.read_text().splitlines()] if self.request_log.exists() else []

    # Trouble that the server plays by itself. Two polls fail: the schedule's, and one by hand.
    def begin_trouble(self):
        self.shop.set_trouble(True)
        self.wait_until_failing()
        before = len(self.requests())
        polled = bellpull(self.config, "poll", BRIDGE)
        asked = self.requests()[before:]
        check(f"{self.name}: a poll by hand meets it too, and says so", polled.returncode != 0 and asked, polled.stdout + polled.stderr)

    def end_trouble(self):
        self.shop.set_trouble(False)
        polled = bellpull(self.config, "poll", BRIDGE)
        check(f"{self.name}: a poll by hand after it succeeds", polled.returncode == 0, polled.stdout + polled.stderr)

    def wait_until_failing(self):
        status = wait_for("the poll fails", lambda: (now := self.status()).get("state") == "failing" and now)
        check(f"{self.name}: status says why: {self.trouble!r}", self.trouble in (status["last_error"] or ""), status["last_error"])

    def status(self):
        return status_of(self.config, BRIDGE)

    def wait_for_polls(self, number):
        """So many accepted polls more."""
        for _ in range(number):
            last = self.status().get("last_poll")
            wait_for("another accepted poll", lambda: (now := self.status()).get("state") == "ok" and now["last_poll"] != last)

    def arrived(self):
        return [len(receiver.lines()) for receiver in self.receivers]

    def wait_for_events(self, number):
        try:
            wait_for("all changes arrived", lambda: min(self.arrived()) >= number)
        except GaveUp as reason:
            print(f"  {reason}; comparing what is there", flush=True)

    def start_bellpull(self):
        self.receivers = start_receivers(self.directory)
        # The checks count events: what bellpull says of itself goes to a receiver of its own.
        self.ops = Receiver("ops", [sys.executable, HERE / "receiver.py"], self.directory, rotated=False)
        bridge = f'[bridge.{BRIDGE}]\nevery = "{EVERY}"\nto = @TO@\nalert = {{ after = 1, to = ["ops"] }}\n' + self.bridge()
        self.config = write_config(self.directory, bridge + self.ops.toml(), self.receivers)
        self.daemon = start_daemon(self.directory, self.config)
        wait_for("the baseline is taken", lambda: self.status().get("state") == "ok")
        self.wait_for_polls(1)
        check(f"{self.name}: the baseline was silent", not any(self.arrived()), self.arrived())
        records = self.status().get("records")
        check(f"{self.name}: it holds {self.known} records", records == self.known, records)

    def run(self, directory):
        self.directory = directory
        self.shop = Shop(directory)
        self.port_file, self.request_log = directory / "server.port", directory / "requests.jsonl"
        self.prepare()
        self.start_server()
        self.prove()
        self.start_bellpull()

        print("  changing: 2 created, 3 changed, 2 deleted", flush=True)
        pairs = self.shop.change(created=(13, 14), updated=(8, 9, 12), deleted=(2, 5))
        expected = self.expected(pairs)
        self.wait_for_events(len(expected))

        print("  trouble; meanwhile 1 created, 1 changed, 1 deleted", flush=True)
        told = self.arrived()
        self.begin_trouble()
        known = self.status().get("records")
        pairs = self.shop.change(created=(15,), updated=(10,), deleted=(11,))
        check(f"{self.name}: no event came of the trouble", self.arrived() == told, (told, self.arrived()))
        kept = self.known + 2 - (2 if self.deletes else 0)
        check(f"{self.name}: the snapshot outlived it: {kept} records", known == kept, known)
        self.end_trouble()
        expected |= self.expected(pairs)
        self.wait_for_events(len(expected))
        self.wait_for_polls(POLLS_MORE)

        check_events(self.name, BRIDGE, self.receivers, expected, self.same)
        self.check_notices(["failing", "recovered"])
        self.witness()
        check_stop(self.daemon, self.config, BRIDGE)

    def check_notices(self, wanted):
        lines = wait_for("the operational events", lambda: (lines := self.ops.lines())[len(wanted) - 1 :] and lines)
        types = [json.loads(line["body"])["type"].removeprefix("bellpull.bridge.") for line in lines if line["verified"]]
        check(f"{self.name}: what bellpull told of itself is {wanted}, each once and verified", sorted(types) == sorted(wanted), types)

    def expected(self, pairs):
        events = {}
        for before, after in pairs:
            kind = "created" if before is None else "deleted" if after is None else "updated"
            if kind != "deleted" or self.deletes:
                events[self.key(before or after), kind] = tuple(order and self.record(order) for order in (before, after))
        return events


# ---------------------------------------------------------------- SOAP

ENVELOPE_11 = "http://schemas.xmlsoap.org/soap/envelope/"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
PASSWORD_TEXT = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText"
LIST_ORDERS = '<ListOrders xmlns="urn:shop:service"><region>eu</region></ListOrders>'


class Soap(Source):
    script = "soap_server.py"
    trouble = "the shop is closed for stock-taking"

    def record(self, order):
        """XML has text only; an empty element is an empty string, and spyne leaves out what is None."""
        lines = [{"sku": line["sku"], "count": str(line["count"])} for line in order["lines"]]
        record = {name: order[name] for name in ("id", "customer", "status", "total")}
        record |= {"@currency": order["currency"], "lines": {"Line": lines} if lines else ""}
        return record if order["note"] is None else record | {"note": order["note"]}

    def bridge(self):
        return f"""items = ".Envelope.Body.ListOrdersResponse.ListOrdersResult.Order[]"
key = ".id"
[bridge.{BRIDGE}.source.soap]
url = "{self.origin}/{self.name}"
action = "ListOrders"
version = "{self.version}"
lists = ["Order", "Line"]
body = {self.body()}
"""

    def witness(self):
        asked = self.requests()
        troubled = [request for request in asked if request["trouble"]]
        check(f"{self.name}: spyne was called, and answered at least two calls with a Fault", len(troubled) >= 2, asked[-3:])
        others = [request for request in asked if request["endpoint"] != self.name]
        check(f"{self.name}: at no other endpoint", not others, others[:3])


class Soap11(Soap):
    name, version = "soap11", "1.1"
    title = "SOAP 1.1, PyPI's spyne, three namespaces, a UsernameToken"

    def envelope(self, password):
        return (
            f'<s:Envelope xmlns:s="{ENVELOPE_11}"><s:Header><w:Security xmlns:w="{WSSE}"><w:UsernameToken><w:Username>bell</w:Username>'
            f'<w:Password Type="{PASSWORD_TEXT}">{password}</w:Password></w:UsernameToken></w:Security></s:Header>'
            f"<s:Body>{LIST_ORDERS}</s:Body></s:Envelope>"
        )

    def body(self):
        # A whole envelope, which is a secret because of the password in it.
        return f'{{ file = "{write_secret(self.directory, "envelope.xml", self.envelope("test-password"))}" }}'

    def prove(self):
        for password, wanted in [("test-password", 200), ("wrong", 500)]:
            headers = {"content-type": "text/xml", "soapaction": '"ListOrders"'}
            status, _, body = call("POST", f"{self.origin}/soap11", self.envelope(password).encode(), headers)
            named = b"who are you?" in body if wanted == 500 else body.count(b"Order ") == len(self.shop.orders)
            check(f"{self.name}: asked by hand with the password {password!r}, spyne says {wanted}", status == wanted and named, (status, body))


class Soap12(Soap):
    name, version = "soap12", "1.2"
    title = "SOAP 1.2, PyPI's spyne, three namespaces"

    def body(self):
        return f"'{LIST_ORDERS}'"


# ---------------------------------------------------------------- GraphQL

PAGE = 5


class GraphQL(Source):
    name = "graphql"
    title = "GraphQL, npm's graphql-http and graphql-relay, pages through a connection's cursors"
    needs = ("npm",)
    trouble = "the notes are being sorted"
    query = (
        "query Orders($first: Int!, $after: String) { orders(first: $first, after: $after) "
        "{ pageInfo { hasNextPage endCursor } edges { node { id customer status total note lines { sku count } } } } }"
    )

    def argv(self):
        return ["node", NODE_SERVERS / "graphql_server.mjs"]

    def record(self, order):
        return {name: order[name] for name in ("id", "customer", "status", "total", "note", "lines")}

    def bridge(self):
        return f"""items = ".data.orders.edges[].node"
key = ".id"
[bridge.{BRIDGE}.source.graphql]
url = "{self.origin}/graphql"
query = "{self.query}"
variables = {{ first = {PAGE} }}
pages.cursor = {{ variable = "after", next = '.data.orders.pageInfo | if .hasNextPage then .endCursor // error("hasNextPage without endCursor") else null end' }}
"""

    def prove(self):
        self.shop.set_trouble(True)
        status, _, body = call("POST", self.origin, {"query": self.query, "variables": {"first": 50}}, {"accept": "application/json"})
        answer = json.loads(body)
        edges = answer.get("data", {}).get("orders", {}).get("edges", [])
        both = status == 200 and answer.get("errors") and len(edges) == len(self.shop.orders)
        check("graphql: asked by hand in trouble, the server says 200 with errors beside all of data", both, (status, body))
        self.shop.set_trouble(False)
        self.request_log.unlink()

    def witness(self):
        asked = self.requests()
        pages = -(-len(self.shop.orders) // PAGE)
        last = [request for request in asked if not request["trouble"]][-2 * pages :]
        walked = [request["after"] is None for request in last].count(True) >= 2 and len({request["after"] for request in last}) == pages
        check(f"graphql: a walk has {pages} pages of {PAGE}, each from the cursor before it", walked, last)
        check("graphql: at least two walks met errors", sum(request["trouble"] for request in asked) >= 2, asked[-3:])


# ---------------------------------------------------------------- gRPC

class Grpc(Source):
    script = "grpc_server.py"
    trouble = "the shop is closed for stock-taking"

    def prepare(self):
        made = self.directory / "compiled"
        made.mkdir()
        argv = [sys.executable, "-m", "grpc_tools.protoc", "-I", SERVERS, f"--python_out={made}", f"--grpc_python_out={made}", SERVERS / "shop.proto"]
        compiled = subprocess.run(argv, capture_output=True, text=True, timeout=CALL_LIMIT_S)
        if compiled.returncode:
            raise GaveUp(f"protoc ended with {compiled.returncode}: {compiled.stderr}")
        self.compiled = made
        # One process can load a message type once: both rows make the same one, and the first is as good.
        sys.path[:0] = [str(made), str(SERVERS)]
        self.canonical_json = import_module("shop_messages").canonical_json

    def env(self):
        return os.environ | {"PYTHONPATH": f"{self.compiled}:{os.environ['PYTHONPATH']}"}

    def record(self, order):
        return self.canonical_json(order)

    def bridge(self):
        return f"""items = "{self.items}"
key = ".id"
[bridge.{BRIDGE}.source.grpc]
target = "{self.origin}"
method = "shop.Orders/{self.method}"
request = {{ region = "eu", pageSize = 50 }}
metadata = {{ x-api-key = {{ file = "{write_secret(self.directory, "api-key", "test-key")}" }} }}
reflection = true
"""

    def prove(self):
        """With grpcio's own client."""
        grpc, stubs = import_module("grpc"), import_module("shop_pb2_grpc")
        request = import_module("shop_pb2").ListRequest()
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = stubs.OrdersStub(channel)

            def ask(key):
                metadata = [("x-api-key", key)]
                try:
                    if self.method == "List":
                        return len(stub.List(request, metadata=metadata, timeout=CALL_LIMIT_S).orders)
                    return sum(1 for _ in stub.Stream(request, metadata=metadata, timeout=CALL_LIMIT_S))
                except grpc.RpcError as error:
                    return error.code().name

            seen = [ask("test-key"), ask("wrong")]
        check(f"{self.name}: grpcio's client gets 12 orders, and with a wrong key UNAUTHENTICATED", seen == [12, "UNAUTHENTICATED"], seen)
        self.request_log.unlink()

    def witness(self):
        asked = self.requests()
        odd = [r for r in asked if (r["method"], r["region"], r["page_size"], r["key"]) != (self.method, "eu", 50, True)]
        check(f"{self.name}: every call had the request's fields and the metadata", asked and not odd, odd[:3])
        check(f"{self.name}: at least two calls failed", sum(request["trouble"] for request in asked) >= 2, asked[-3:])


class GrpcUnary(Grpc):
    name, method, items = "grpc-unary", "List", ".orders[]"
    title = "gRPC, PyPI's grpcio with reflection and gzip, a unary call that returns a list"


class GrpcStream(Grpc):
    name, method, items = "grpc-stream", "Stream", ".[]"
    title = "gRPC, PyPI's grpcio with reflection and gzip, a bounded stream; trouble is its end half-way"


# ---------------------------------------------------------------- WebSocket

class WebSocket(Source):
    name = "websocket"
    title = "WebSocket, npm's ws; trouble is a restart of the server"
    needs = ("npm",)
    trouble = "Connection refused"
    deletes = False

    def argv(self):
        return ["node", NODE_SERVERS / "websocket_server.mjs"]

    def record(self, order):
        return order

    def bridge(self):
        return f"""items = 'if .type == "order" then .order else empty end'
key = ".id"
[bridge.{BRIDGE}.source.websocket]
url = "ws://127.0.0.1:{self.port}/stream"
headers = {{ authorization = {{ file = "{write_secret(self.directory, "api-key", "Bearer test-key")}" }} }}
send = [{{ op = "subscribe", topic = "orders", id = 1 }}]
ping = "500ms"
"""

    def begin_trouble(self):
        stop(self.server)
        self.wait_until_failing()

    def end_trouble(self):
        self.start_server(str(self.port))

    def witness(self):
        seen = self.requests()
        events = [line["event"] for line in seen]
        check("websocket: connected twice, with the key", [r["allowed"] for r in seen if r["event"] == "connected"] == [True, True], seen)
        wanted = [{"op": "subscribe", "topic": "orders", "id": 1}] * 2
        check("websocket: subscribed once for each connection", [r["message"] for r in seen if r["event"] == "message"] == wanted, seen)
        check("websocket: bellpull sent pings", events.count("ping") >= 2, events.count("ping"))
        check("websocket: and answered those of the server", events.count("pong") >= 2, events.count("pong"))


class Conversation(WebSocket):
    """A protocol over WebSockets in which the server has to be heard first."""

    script = None

    def argv(self):
        return ["node", NODE_SERVERS / self.script]

    def witness(self):
        seen = self.requests()
        check(f"{self.name}: connected twice, with the key", [r["allowed"] for r in seen if r["event"] == "connected"] == [True, True], seen)


class GraphQLWs(Conversation):
    name, script = "graphql-ws", "graphql_ws_server.mjs"
    title = "graphql-transport-ws, npm's graphql-ws, whose acknowledgement comes late; trouble is a restart of the server"
    subscription = "subscription Orders($region: String!) { order(region: $region) { id customer status total note lines { sku count } } }"

    def record(self, order):
        return {name: order[name] for name in ("id", "customer", "status", "total", "note", "lines")}

    def bridge(self):
        key = write_secret(self.directory, "key", "test-key")
        return f"""items = 'select(.type == "next") | .payload.data.order'
key = ".id"
[bridge.{BRIDGE}.source.websocket]
url = "ws://127.0.0.1:{self.port}/graphql"
subprotocols = ["graphql-transport-ws"]
send = [
    {{ type = "connection_init", payload = {{ key = {{ file = "{key}" }} }} }},
    {{ message = {{ id = "1", type = "subscribe", payload = {{ query = "{self.subscription}", variables = {{ region = "eu" }} }} }},
      after = '.type == "connection_ack"' }},
]
answer = [{{ when = '.type == "ping"', send = {{ type = "pong" }} }}]
"""

    def witness(self):
        super().witness()
        seen = self.requests()
        subscribed = [(r["id"], r["variables"]) for r in seen if r["event"] == "subscribed"]
        check("graphql-ws: subscribed once for each connection", subscribed == [("1", {"region": "eu"})] * 2, seen)
        codes = [r["code"] for r in seen if r["event"] == "closed"]
        check("graphql-ws: never closed for a breach of the protocol", not any(4400 <= code < 4500 for code in codes), codes)


class SocketIo(Conversation):
    name, script = "socket-io", "socket_io_server.mjs"
    title = "Socket.IO 4, npm's socket.io, which wants a sign of life 3 times a second; trouble is a restart of the server"

    def bridge(self):
        login = write_secret(self.directory, "login", '40{"key":"test-key"}')
        return f"""items = 'select(startswith("42")) | .[2:] | fromjson | select(.[0] == "order") | .[1]'
key = ".id"
[bridge.{BRIDGE}.source.websocket]
url = "ws://127.0.0.1:{self.port}/socket.io/?EIO=4&transport=websocket"
send = [{{ message = {{ file = "{login}" }}, after = 'startswith("0")' }}]
answer = [{{ when = '. == "2"', send = "3" }}]
decode.text = {{}}
"""

    def witness(self):
        super().witness()
        seen = self.requests()
        reasons = [r["reason"] for r in seen if r["event"] == "disconnected"]
        check("socket-io: signs of life were given", sum(r["event"] == "pong" for r in seen) >= 3, seen[-5:])
        check("socket-io: the server never missed one", "ping timeout" not in reasons, reasons)


# ---------------------------------------------------------------- documents over HTTP

class Document(Source):
    script = "documents_server.py"
    options = items = decode = None

    def bridge(self):
        return f"""items = "{self.items}"
key = ".id"
{self.options or ""}
[bridge.{BRIDGE}.source.http]
url = "{self.origin}/orders.{self.name}"
{self.decode or ""}
"""

    def prove(self):
        status, headers, body = call("GET", f"{self.origin}/orders.{self.name}")
        shown = [order["id"].encode() in body for order in self.shop.orders.values()]
        check(f"{self.name}: asked by hand, the server shows {self.known} orders", status == 200 and sum(shown) == self.known, (status, body))
        print(f"  it is {headers.get('content-type')}", flush=True)
        self.request_log.unlink()

    def witness(self):
        asked = self.requests()
        check(f"{self.name}: at least two requests met the trouble", sum(request["trouble"] for request in asked) >= 2, asked[-3:])


class Feed(Document):
    items, options = ".entries[]", "window = true"
    deletes, known = False, 8
    trouble = "the answer is not a feed"

    def key(self, order):
        return f"urn:order:{order['id']}"

    def record(self, order):
        return {
            "id": self.key(order),
            "title": f"{order['customer']}: {order['status']}",
            "link": f"https://shop.example/orders/{order['id']}",
            "summary": f"<p>{order['total']} {order['currency']}</p>",
            "content": ", ".join(line["sku"] for line in order["lines"]) or "nothing",
            "published": order["placed"],
            "updated": order["placed"],
            # RSS has it as `sales@shop.example (Sales)`, Atom as elements of their own.
            "authors": ["Sales"],
            "categories": [order["status"]],
        }


class Rss(Feed):
    name = "rss"
    title = "RSS 2.0, PyPI's feedgen, the newest 8 entries; trouble is a cut document"


class Atom(Feed):
    name = "atom"
    title = "Atom, PyPI's feedgen, the newest 8 entries; trouble is a cut document"


class Xml(Document):
    name, items = "xml", ".orders.order[]"
    title = "XML in ISO 8859-1, PyPI's lxml, two namespaces; trouble is a cut document"
    decode = 'decode.xml = { lists = ["order", "line"] }'
    trouble = "the answer is not XML"

    def bridge(self):
        return super().bridge().replace('key = ".id"', "key = '.\"@id\"'")

    def record(self, order):
        record = {"@id": order["id"], "@currency": order["currency"]} | {name: order[name] for name in ("customer", "status", "total")}
        if order["note"] is not None:
            record["note"] = order["note"]
        if order["lines"]:
            record["line"] = [{"@sku": line["sku"], "#text": str(line["count"])} for line in order["lines"]]
        return record


class Csv(Document):
    name, items = "csv", ".[]"
    title = "CSV with semicolons, Python's csv; trouble is a row that is too short"
    decode = 'decode.csv = { delimiter = ";" }'
    trouble = "the header has 5 fields"

    def record(self, order):
        return {name: order[name] or "" for name in ("id", "customer", "status", "total", "note")}


class Html(Document):
    name, items = "html", ".[]"
    title = "HTML, PyPI's lxml; trouble is a 503 with a page that looks like one"
    decode = (
        'decode.html = { select = "#orders tr", fields = { id = "td a", link = "td a@href", customer = "td.customer", status = "td.status" } }'
    )
    trouble = "503"

    def record(self, order):
        return {"id": order["id"], "link": f"/orders/{order['id']}", "customer": order["customer"], "status": order["status"]}


# ---------------------------------------------------------------- Prometheus and Alertmanager

RULES = """groups:
- name: orders
  rules:
  - alert: OrderOverdue
    expr: order_overdue_days > 0
    annotations:
      summary: 'order {{ $labels.order }} is overdue by {{ $value }} days'
"""
# Prometheus sends each alert again and again, and every time these are others.
VOLATILE = ("updatedAt", "endsAt")


class Overdue:
    """Days by order, as the exporter shows them: more than 0 is an alert."""

    def __init__(self, directory):
        self.file = directory / "overdue.json"
        self.days = {str(number): number for number in range(1, 13)}
        self.save()

    def save(self):
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"overdue": self.days}))
        os.replace(new, self.file)


class Alerts(Source):
    name = "alerts"
    title = "Alertmanager's alerts, from a Prometheus that evaluates a rule (Debian packages); trouble is Alertmanager's restart, with nothing known"
    needs = ("PyPI", "Debian")
    script = "exporter.py"
    trouble = "failed to connect"

    def bridge(self):
        return f"""items = ".[]"
key = ".fingerprint"
ignore = [{", ".join(f'".{name}"' for name in VOLATILE)}]
deletes.after = 2
[bridge.{BRIDGE}.source.http]
url = "{self.alerts_url}"
"""

    def same(self, record):
        return {name: value for name, value in record.items() if name not in VOLATILE}

    def alerts(self):
        status, _, body = call("GET", self.alerts_url)
        return {alert["fingerprint"]: alert for alert in json.loads(body)} if status == 200 else {}

    def when_alertmanager_says(self, what, overdue):
        """Its alerts, once they are those of `overdue`."""
        wanted = {f"order {order} is overdue by {days} days" for order, days in overdue.items() if days}

        def says():
            alerts = self.alerts()
            return alerts if {alert["annotations"]["summary"] for alert in alerts.values()} == wanted else None

        return wait_for(what, says)

    def start_alertmanager(self):
        argv = [PACKAGES / "debian/usr/bin/prometheus-alertmanager", f"--config.file={self.directory}/alertmanager.yml"]
        argv += [f"--storage.path={self.directory}/alertmanager", f"--web.listen-address=127.0.0.1:{self.alertmanager_port}"]
        self.alertmanager = start("alerts-alertmanager", [*argv, "--cluster.listen-address="], cwd=self.directory)
        wait_for("Alertmanager is ready", lambda: self.answers(self.alertmanager, self.alertmanager_port), START_LIMIT_S)

    def start_prometheus(self):
        port = free_port()
        (self.directory / "rules.yml").write_text(RULES)
        (self.directory / "prometheus.yml").write_text(
            "global: { scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms }\n"
            "rule_files: [rules.yml]\n"
            f'alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ["127.0.0.1:{self.alertmanager_port}"] }}] }}] }}\n'
            f'scrape_configs: [{{ job_name: orders, static_configs: [{{ targets: ["127.0.0.1:{self.port}"] }}] }}]\n'
        )
        argv = [PACKAGES / "debian/usr/bin/prometheus", f"--config.file={self.directory}/prometheus.yml"]
        argv += [f"--storage.tsdb.path={self.directory}/prometheus", f"--web.listen-address=127.0.0.1:{port}", "--rules.alert.resend-delay=500ms"]
        self.prometheus = start("alerts-prometheus", argv, cwd=self.directory)
        wait_for("Prometheus is ready", lambda: self.answers(self.prometheus, port), START_LIMIT_S)

    def answers(self, child, port):
        if child.poll() is not None:
            raise GaveUp(f"{child.name} ended with {child.returncode}:\n{tail(child.name)}")
        return call("GET", f"http://127.0.0.1:{port}/-/ready")[0] == 200

    def set(self, **days):
        """Changes overdue days, and gives the events that must follow: {(fingerprint, type): (before, after)}."""
        before = self.alerts()
        self.shop.days |= {order.removeprefix("order_"): value for order, value in days.items()}
        self.shop.save()
        after = self.when_alertmanager_says("Alertmanager has the changes", self.shop.days)
        events = {}
        for fingerprint in before.keys() | after.keys():
            pair = before.get(fingerprint), after.get(fingerprint)
            if pair[0] is None or pair[1] is None or self.same(pair[0]) != self.same(pair[1]):
                kind = "created" if pair[0] is None else "deleted" if pair[1] is None else "updated"
                events[fingerprint, kind] = pair
        return events

    def run(self, directory):
        self.directory, self.shop = directory, Overdue(directory)
        self.port_file, self.request_log = directory / "server.port", directory / "requests.jsonl"
        self.alertmanager_port = free_port()
        self.alerts_url = f"http://127.0.0.1:{self.alertmanager_port}/api/v2/alerts"
        for template in (PACKAGES / "debian/usr/share/prometheus/alertmanager").glob("*.tmpl"):
            shutil.copy(template, directory)
        (directory / "alertmanager.yml").write_text("route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n")
        self.start_server()
        self.start_alertmanager()
        self.start_prometheus()
        first = self.when_alertmanager_says("Alertmanager has the first 12 alerts", self.shop.days)
        self.start_bellpull()

        print("  changing: 2 alerts more, 3 changed, 2 resolved", flush=True)
        expected = self.set(order_13=1, order_14=2, order_3=33, order_4=44, order_5=55, order_1=0, order_2=0)
        kinds = sorted(kind for _, kind in expected)
        check("alerts: Alertmanager shows 2 created, 3 changed, 2 gone", kinds == ["created"] * 2 + ["deleted"] * 2 + ["updated"] * 3, kinds)
        self.wait_for_events(len(expected))

        print("  trouble: Alertmanager ends, comes back with no alerts, and gets them again", flush=True)
        # Held back, so that the empty Alertmanager is seen.
        self.prometheus.send_signal(signal.SIGSTOP)
        told = self.arrived()
        stop(self.alertmanager)
        self.wait_until_failing()
        self.start_alertmanager()
        check("alerts: after its restart it knows none", self.alerts() == {}, len(self.alerts()))
        bellpull(self.config, "poll", BRIDGE)
        held = self.status()
        check("alerts: bellpull holds that answer", held.get("state") == "held" and held.get("records") == 12, held)
        self.prometheus.send_signal(signal.SIGCONT)
        self.when_alertmanager_says("Alertmanager has the alerts again", self.shop.days)
        self.wait_for_polls(1)
        check("alerts: no event came of the trouble", self.arrived() == told, (told, self.arrived()))

        print("  changing: 1 more, 1 changed, 1 resolved", flush=True)
        expected |= self.set(order_15=1, order_6=66, order_7=0)
        self.wait_for_events(len(expected))
        self.wait_for_polls(POLLS_MORE)
        kept = [alert for fingerprint, alert in self.alerts().items() if first.get(fingerprint, alert)["updatedAt"] != alert["updatedAt"]]
        check("alerts: Prometheus sent those that stayed again, with another updatedAt", len(kept) >= 8, len(kept))
        check_events(self.name, BRIDGE, self.receivers, expected, self.same)
        self.check_notices(["failing", "held", "recovered"])
        check_stop(self.daemon, self.config, BRIDGE)


# ---------------------------------------------------------------- the table

SOURCES = [Soap11(), Soap12(), GraphQL(), GrpcUnary(), GrpcStream(), WebSocket(), GraphQLWs(), SocketIo(), Rss(), Atom(), Xml(), Csv(), Html(), Alerts()]


def versions():
    """{what: version} of what the servers were made with, as far as it is installed."""
    rows = {}
    for name in ("spyne", "grpcio", "grpcio-reflection", "feedgen", "lxml", "prometheus-client"):
        try:
            rows[f"{name} (PyPI)"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name in ("graphql", "graphql-http", "graphql-relay", "graphql-ws", "socket.io", "ws"):
        file = NODE_SERVERS / "node_modules" / name / "package.json"
        if file.exists():
            rows[f"{name} (npm)"] = json.loads(file.read_text())["version"]
    for line in Path(PACKAGES / "debian/versions").read_text().splitlines() if (PACKAGES / "debian/versions").exists() else []:
        name, version = line.split(" ")
        rows[f"{name.removeprefix('prometheus-')} (Debian)"] = version
    return rows
