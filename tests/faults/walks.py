"""Walks over pages through a layer that misbehaves: `run.sh BINARY walks`.

Each bridge polls a list of its own. The list is served in one pagination; a layer between daemon and list spoils answers. What the layer does, and
how the list changes, is drawn from the seed, request by request: a list changes only where a walk begins (or, as a fault, within it), so that a walk
is of one moment. A receiver builds the list anew from the events, by key and sequence.

A round is some polls with faults, then clean ones. At its end the receiver has what the list has. No `deleted` came for a record that was there all
the time, no `created` for one that was known. The layer makes a list seem shorter in one poll, and then lets a whole walk through before it does so
again: `deletes.after` is 2 for pages. A list without pages is never shortened, and one whose `total` is told is shortened at any time.
"""

import base64
import hashlib
import hmac
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlparse

from books import Fault
from server import KEY, SECRET, serve

TIMEOUT_S, DEADLINE_S = 3, 20  # Of the source.
FAULT_SHARE = 0.16  # Of the requests of a round.
POLLS = (5, 18)  # Of a round, with faults.
CLEAN = 2  # Walks without a fault behind which both sides agree.
ARRIVES_S, STUCK_S = 30, 15
TRACE, TOLD = 12, 2  # Polls that a failure shows; failures that are shown, of each kind of list.
HARMLESS = ("cut", "delay", "reset", "busy", "validator", "shuffle")
# A walk that seems whole and is not.
SHORT = ("shed", "shed", "empty", "repeat")

# Row, its lists: (pagination, where `total` is). Each comes with each kind of validator.
LISTS = {
    "plain": ["plain"],
    "link": ["link", "link"],
    "page": ["page"],
    "page, capped": ["page-capped", "page-capped"],
    "page, capped at 4": ["page-capped4"],
    "page, no size": ["page-bare"],
    "offset": ["offset"],
    "offset, capped": ["offset-capped"],
    "cursor": ["cursor"],
    "next-url": ["next-url"],
    "total": ["link+total", "page+total", "page-capped+total", "offset+total", "offset-capped+total", "cursor+total"],
}
# Of the body; of the body and its link; of the list as a whole, a number that each change makes higher.
ETAGS = ("none", "body", "answer", "version")


class Fake:
    """One list, its pagination, and the layer in front of it. `lock` is held wherever it is looked at."""

    def __init__(self, name, row, pagination, etag, seed):
        self.name, self.row, self.etag = name, row, etag
        self.kind, _, total = pagination.partition("+")
        self.total = bool(total)
        self.random = random.Random(f"{seed}/{name}")
        choose = self.random.choice
        self.capped = "-capped" in self.kind
        self.base = self.kind.partition("-")[0] if self.kind != "next-url" else self.kind
        # A capped server gives at most a number that a server has for its most, whatever it is asked for.
        self.size = 4 if self.kind.endswith("4") else choose((5, 8, 10)) if self.capped else choose((3, 4, 5, 7, 10))
        self.asked = choose((20, 100)) if self.capped else self.size
        self.behind = choose(("empty", "same", 404, 410, 416)) if self.capped else "empty"
        self.guard = choose((None, "1.0"))
        # Whether a layer that shortens an answer passes the list's validator on; otherwise it drops it.
        self.keeps = choose((True, False))
        # A list that is about as long as one page changes between one page and two again and again.
        self.most = choose((1.4, 3.6)) * self.size
        self.newest_first = self.base != "cursor" and self.random.random() < 0.3
        self.lock = threading.RLock()
        self.records, self.next_id, self.version = {}, 1, 0
        self.absent = set()  # Keys that were not there for a while, until a `deleted` told so.
        self.clean, self.polls, self.whole = False, 0, 0
        self.may_shorten, self.faulty, self.at_end, self.short = True, False, False, False
        self.trace = deque(maxlen=TRACE)
        self.faults = Counter()
        self.change(self.random.randint(1, int(self.most)))

    # ---------------------------------------------------------------- the list

    def change(self, adds=None):
        """Some records come, go and change; sometimes pages are full to the last afterwards."""
        draw, told = self.random, []
        self.version += 1
        if adds is None:
            for key in draw.sample(sorted(self.records), min(draw.choice((0, 0, 1, 1, 2)), len(self.records) // 4)):
                del self.records[key]
                self.absent.add(key)
                told.append(f"-{key}")
            for key in draw.sample(sorted(self.records), min(draw.choice((0, 0, 1, 2)), len(self.records))):
                self.records[key] = self.version
                told.append(f"~{key}")
            adds = draw.choice((0, 0, 1, 1, 2, 3)) if len(self.records) < self.most else 0
            if draw.random() < 0.3:
                adds = -len(self.records) % self.size
        for _ in range(adds):
            self.records[self.next_id] = self.version
            told.append(f"+{self.next_id}")
            self.next_id += 1
        return " ".join(told)

    def stir(self):
        """All of it is new: what a broken bridge is brought back with."""
        self.version += 1
        self.records = {key: self.version for key in self.records}
        self.change(self.size + 1)

    def rows(self):
        return [{"id": key, "v": self.records[key]} for key in sorted(self.records, reverse=self.newest_first)]

    # ---------------------------------------------------------------- one answer as it should be

    def page(self, query):
        """Status, document, headers; and whether it holds the last record."""
        rows, size = self.rows(), self.size
        one = lambda name, default: int(query.get(name, [default])[0])
        if self.base in ("link", "page"):
            number = one("page", 1)
            begin = (number - 1) * size
        elif self.base == "offset":
            begin = one("offset", 0)
        elif self.base == "cursor":
            after = one("after", 0)
            begin = sum(1 for row in rows if row["id"] <= after)
        else:
            begin = one("from", 0)
        if self.base == "plain":
            begin, size = 0, len(rows)
        there = rows[begin : begin + size]
        if begin >= len(rows) and begin > 0 and self.base in ("page", "offset"):
            if self.behind == "same" and self.base == "page":
                there = rows[(len(rows) - 1) // size * size :]
            elif isinstance(self.behind, int):
                return self.behind, {"error": "no such page"}, {}, True
        last = begin + size >= len(rows)
        document, headers = {"items": there}, {}
        if self.base == "link" and not last:
            headers["link"] = f'</api/{self.name}?page={number + 1}>; rel="next", </api/{self.name}?page=99>; rel="last"'
        if self.base == "cursor":
            document["next"] = None if last else there[-1]["id"]
        if self.base == "next-url":
            document["next"] = None if last else f"/api/{self.name}?from={begin + size}"
        if self.total:
            document["total"] = len(rows)
            headers["x-total-count"] = str(len(rows))
        return 200, document, headers, last

    def etag_of(self, document, headers):
        if self.etag == "none":
            return None
        text = {"body": [document], "answer": [document, headers.get("link")], "version": [self.version]}[self.etag]
        return f'"{hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]}"'

    # ---------------------------------------------------------------- the layer

    def begin(self):
        """A poll begins: what the one before it was is known now."""
        if self.polls and not self.faulty and self.at_end:
            self.may_shorten = True
            self.whole += 1
        elif self.short:
            self.may_shorten = False
        self.faulty = self.at_end = self.short = False
        self.polls += 1
        told = "" if self.clean or self.random.random() < 0.5 else self.change()
        self.fold()
        self.trace.append([f"poll {self.polls}{' clean' if self.clean else ''}", f"({len(self.records)} records{', ' + told if told else ''}):"])

    def fold(self):
        """Polls in a row that were the same are shown once."""
        if len(self.trace) > 1 and self.trace[-1][1:] == self.trace[-2][1:]:
            last = self.trace.pop()
            self.trace[-1][0] = self.trace[-1][0].partition("-")[0] + "-" + last[0].removeprefix("poll ")

    def choose(self, first):
        """The fault of a request, if it has one."""
        draw = self.random
        if self.clean or draw.random() >= FAULT_SHARE:
            return None
        faults = list(HARMLESS)
        if self.base == "link":
            faults += ["bad-link"]
        if self.base != "plain" and (self.may_shorten or self.total):
            faults += SHORT
            faults += {"link": ["no-link"] * 2, "cursor": ["no-next"], "next-url": ["no-next"]}.get(self.base, [])
        if not first and self.may_shorten:
            faults += ["drift", "shift"]
        return draw.choice(faults)

    def answer(self, query, known):
        """Status, body, headers and what the connection does, of one request."""
        names = {"link": "page", "page": "page", "offset": "offset", "cursor": "after", "next-url": "from"}
        place = query.get(names.get(self.base, ""), [None])[0]
        first = place in (None, "1" if self.base == "page" else "0")
        if first:
            self.begin()
        if not self.trace:
            self.trace.append([f"poll {self.polls}", ":"])
        fault, draw = self.choose(first), self.random
        if fault:
            self.faults[fault] += 1
            self.faulty = True
        if fault in SHORT or fault in ("no-link", "no-next", "drift", "shift"):
            self.short = True  # What comes of it may be taken for whole.
        drift = self.change() if fault == "drift" else ""
        status, document, headers, last = self.page(query)
        etag = self.etag_of(document, headers)
        upstream, note, how = etag, fault or "", {}
        if fault in ("shed", "empty") and status == 200:
            items = document["items"]
            left = 0 if fault == "empty" or not items else draw.randint(0, len(items) - 1)
            note = f"{fault} {len(items)}->{left}"
            document = document | {"items": items[:left]}
        elif fault == "repeat" and status == 200:
            document = self.before if not first else document | {"items": document["items"][:1]}
        elif fault == "shuffle" and status == 200:
            document = document | {"items": draw.sample(document["items"], len(document["items"]))}
        elif fault == "shift" and status == 200:
            # The last record of the page before stands on this one too, as where a list grows at its head.
            document = document | {"items": self.before["items"][-1:] + document["items"]}
        elif fault == "no-link":
            headers.pop("link", None)
        elif fault == "no-next":
            document = document | {"next": None}
        elif fault == "bad-link":
            headers["link"] = draw.choice(("garbage", f"</api/{self.name}?page=2", 'x>; rel="next"'))
        elif fault == "drift":
            note = f"drift {drift}"
        elif fault == "busy":
            status, document = draw.choice((429, 429, 502, 503)), {"error": "later"}
            headers = {"retry-after": draw.choice(("0", "0.1", "1"))} if draw.random() < 0.8 else {}
            note, etag = f"{status}", None
        elif fault in ("cut", "reset"):
            how[fault] = draw.random()
        elif fault == "delay":
            how["delay"] = TIMEOUT_S + 0.5 if draw.random() < 0.05 else draw.uniform(0.02, 0.3)
        elif fault == "validator" and etag:
            other = self.page({name: [str(int(place or 1) + 1)] for name in names.values()})
            etag = self.etag_of(other[1], other[2] | {"link": "another"}) if self.etag != "version" else f'"{draw.random()}"'
        if status == 200 and fault != "repeat":
            self.before = document
        shortens = fault in SHORT or fault in ("no-link", "no-next")
        if shortens and not self.keeps:
            etag = None
        if status == 200 and etag and known == upstream and not shortens and fault != "validator":
            status, document, note = 304, None, note or "unchanged"
        # A 304 ends a walk: only the first page is asked for with a validator.
        if status == 304 or last and status in (200, 404, 410, 416):
            self.at_end = True
        if etag and status in (200, 304):
            headers["etag"] = etag
        shown = document.get("items") if isinstance(document, dict) else None
        count = f" {len(shown)}" if shown is not None else ""
        link = " link" if "link" in headers else " more" if isinstance(document, dict) and document.get("next") else ""
        asked = f" known {known[:5]}" if known else ""
        tag = f" etag {headers['etag'][:5]}" if "etag" in headers else ""
        self.trace[-1].append(f"{place or 'first'}{asked} -> {status}{count}{link}{tag}{f' [{note}]' if note else ''};")
        body = b"" if document is None else json.dumps(document).encode()
        return status, body, headers, how

    def told(self):
        return "\n".join("    " + " ".join(poll) for poll in self.trace)

    def describe(self):
        total = ", total" if self.total else ""
        behind = f", behind the end {self.behind}" if self.base in ("page", "offset") else ""
        return (f"{self.name}: {self.kind}{total}, pages of {self.size}, {self.asked} asked for{behind}, ETag of {self.etag}, "
                f"{'newest first' if self.newest_first else 'oldest first'}, guard.deletes {self.guard or 'default'}, "
                f"a short answer {'keeps' if self.keeps else 'loses'} its validator")

    # ---------------------------------------------------------------- its bridge

    def bridge(self, origin):
        pages = {
            "plain": "",
            "link": "pages.link = {",
            "page": f'pages.page = {{ param = "page", size-param = "per_page", size = {self.asked}',
            "offset": f'pages.offset = {{ param = "offset", limit-param = "limit", limit = {self.asked}',
            "cursor": 'pages.cursor = { param = "after", next = ".next"',
            "next-url": 'pages.next-url = { next = ".next"',
        }[self.base]
        if self.kind == "page-bare":
            pages = 'pages.page = { param = "page"'
        if pages:
            total = """total = '$headers["x-total-count"]'""" if self.base == "link" else 'total = ".total"'
            comma = "" if pages.endswith("{") else ", "
            pages += (comma + total if self.total else "") + " }\n"
        guard = f"guard.deletes = {self.guard}\n" if self.guard else ""
        return (f'[bridge.{self.name}]\nevery = "200ms"\nitems = ".items[]"\nkey = ".id"\nto = ["app"]\nfirst-poll = "emit"\n{guard}'
                f'alert.after = 1000000\nalert.stale-after = "1000d"\n[bridge.{self.name}.source.http]\nurl = "{origin}/api/{self.name}"\n'
                f'timeout = "{TIMEOUT_S}s"\ndeadline = "{DEADLINE_S}s"\n{pages}')


class Received:
    """What a receiver has built of one bridge."""

    def __init__(self):
        self.records, self.sequences, self.numbers = {}, {}, set()
        self.false_deleted, self.false_created = [], []
        self.trace = None  # The polls that led to the first of them in a round.


class World:
    """All lists and the receiver, on one port that the system chooses."""

    def __init__(self, seed):
        self.fakes, self.received, self.foreign = {}, defaultdict(Received), 0
        number = 0
        for row, lists in LISTS.items():
            for place, pagination in enumerate(lists):
                for etag in ETAGS if row != "total" else (ETAGS[1 + place % 3],):
                    number += 1
                    name = f"b{number}"
                    self.fakes[name] = Fake(name, row, pagination, etag, seed)
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                world.get(self)

            def do_POST(self):
                world.post(self)

            def log_message(self, *_):
                pass

        self.http, self.origin = serve(Handler)

    def get(self, request):
        url = urlparse(request.path)
        fake = self.fakes[url.path.rpartition("/")[2]]
        with fake.lock:
            status, body, headers, how = fake.answer(parse_qs(url.query), request.headers.get("if-none-match"))
        if "delay" in how:
            time.sleep(how["delay"])
        if "reset" in how:
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close_connection = True
            request.connection.close()
            return
        request.send_response_only(status)
        request.send_header("content-type", "application/json")
        request.send_header("date", request.date_time_string())
        for name, value in headers.items():
            request.send_header(name, value)
        written = body
        if "cut" in how:
            written = body[: int(len(body) * how["cut"])]
            request.close_connection = True
        # Half of the cut bodies claim to be whole.
        length = len(written) if "cut" in how and how["cut"] < 0.5 else len(body)
        if status != 304:
            request.send_header("content-length", str(length))
        request.end_headers()
        request.wfile.write(written)

    def post(self, request):
        body = request.rfile.read(int(request.headers["content-length"]))
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(wanted, request.headers["webhook-signature"] or ""):
            self.foreign += 1
        event = json.loads(body)
        change, data = event["type"].rpartition(".")[2], event["data"]
        if change in ("created", "updated", "deleted") and data.get("bridge") in self.fakes:
            self.apply(self.fakes[data["bridge"]], change, data)
        request.send_response_only(204)
        request.end_headers()

    def apply(self, fake, change, data):
        with fake.lock:
            received, key, sequence = self.received[fake.name], int(data["key"]), data["sequence"]
            received.numbers.add(sequence)
            if sequence <= received.sequences.get(key, 0):
                return
            received.sequences[key] = sequence
            if change == "created" and key in received.records:
                received.false_created.append((key, fake.polls))
                received.trace = received.trace or fake.told()
            if change == "deleted":
                if key in fake.records and key not in fake.absent:
                    received.false_deleted.append((key, fake.polls))
                    received.trace = received.trace or fake.told()
                received.records.pop(key, None)
            else:
                received.records[key] = data["after"]["v"]

    def text(self, place):
        text = f'[daemon]\nlisten = "off"\nstate-dir = "{place.state}"\nsocket = "{place.socket}"\nshutdown-grace = "5s"\n'
        text += '[network]\nallow = ["127.0.0.0/8"]\nper-host = 128\n[log]\nlevel = "warn"\n'
        text += f'[endpoint.app]\nurl = "{self.origin}/hook"\nin-flight = 16\nretry.schedule = ["50ms", "50ms", "1s"]\n'
        text += f'sign.standard.secrets = [{{ value = "{SECRET}" }}]\n'
        return text + "".join(fake.bridge(self.origin) for fake in self.fakes.values())


class Walker:
    """Polls one bridge, round after round, as fast as it answers: after a failed poll the daemon by itself would wait for seconds."""

    def __init__(self, run, world, fake, place, over):
        self.run, self.world, self.fake, self.place, self.over = run, world, fake, place, over
        self.rounds, self.equal, self.failed, self.held = 0, 0, [], 0
        self.retired, self.last = False, ""

    def ask(self, method, path):
        connection = http.client.HTTPConnection("localhost", timeout=DEADLINE_S + 20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(DEADLINE_S + 20)
        try:
            connection.sock.connect(str(self.place.socket))
            connection.request(method, f"/api/bridges/{self.fake.name}{path}")
            answer = connection.getresponse()
            return json.loads(answer.read() or b"null")
        except (OSError, ValueError, http.client.HTTPException) as error:
            time.sleep(0.2)
            return {"error": str(error)}
        finally:
            connection.close()

    def status(self):
        return self.ask("GET", "").get("bridges", {}).get(self.fake.name, {})

    def poll(self):
        self.last = json.dumps(self.ask("POST", "/poll"))

    def main(self):
        while not self.over() and not self.retired:
            self.round()

    def round(self):
        fake, received = self.fake, self.world.received[self.fake.name]
        with fake.lock:
            fake.clean = False
            until = fake.polls + fake.random.randint(*POLLS)
        while fake.polls < until and not self.over():
            self.poll()
        with fake.lock:
            if fake.random.random() < 0.5:
                # Nothing but the end changes, which may begin a page.
                fake.change(1)
        agree = self.settle()
        self.rounds += 1
        new = self.new_faults()
        if agree and not new:
            self.equal += 1
            return
        with fake.lock:
            missing = sorted(set(fake.records) - set(received.records))
            over = sorted(set(received.records) - set(fake.records))
            old = sorted(key for key, v in received.records.items() if fake.records.get(key, v) != v)
            trace = received.trace or fake.told()
            received.trace = None
        text = "; ".join(new + ([] if agree else [f"not equal: without {missing}, with gone {over}, old {old}"]))
        healed = agree or self.settle()
        if not healed:
            text += "; nor after more clean polls"
            with fake.lock:
                fake.stir()
            if not self.settle():
                text += "; nor after all records changed: the bridge is left"
                self.retired = True
        text += f"; the last poll: {self.last}"
        self.failed.append((text, trace, agree))
        self.new_faults()

    def new_faults(self):
        """What came since that should not have."""
        received, new = self.world.received[self.fake.name], []
        for name in ("false_deleted", "false_created"):
            count = len(getattr(received, name))
            seen = self.__dict__.get("seen_" + name, 0)
            if count > seen:
                new.append(f"{name.replace('_', ' ')} {getattr(received, name)[seen:]}")
            self.__dict__["seen_" + name] = count
        return new

    def settle(self):
        """Clean polls, until so many walks were whole; whether the receiver then has what the list has."""
        fake, end = self.fake, time.monotonic() + STUCK_S
        with fake.lock:
            fake.clean = True
            begun = fake.polls
        # The poll that runs may have begun before: it does not count.
        while fake.polls <= begun and time.monotonic() < end:
            self.poll()
        with fake.lock:
            whole = fake.whole
        wanted = whole + CLEAN + (1 if fake.polls > begun + 1 else 0)
        while fake.whole < wanted and time.monotonic() < end:
            self.poll()
        self.poll()
        if self.status().get("state") == "held":
            # Many records left at once, which is true here.
            self.held += 1
            self.ask("POST", "/accept")
        last = self.status().get("sequence", 0)
        end = time.monotonic() + ARRIVES_S
        while len(self.world.received[fake.name].numbers) < last and time.monotonic() < end:
            time.sleep(0.02)
        return self.agrees()

    def agrees(self):
        with self.fake.lock:
            return self.fake.records == self.world.received[self.fake.name].records


def main(run):
    world = World(run.seed)
    place = run.place()
    place.write(world)
    daemon = run.daemon(place)
    code, text = daemon.command("check", str(place.file))
    if code != 0:
        with run.point("check") as faults:
            faults.append(Fault("not started", text))
        return
    daemon.start()
    daemon.ready()
    done = lambda: sum(fake.polls for fake in world.fakes.values())
    over = lambda: done() >= run.count or run.left_s() <= 0
    walkers = [Walker(run, world, fake, place, over) for fake in world.fakes.values()]
    threads = [threading.Thread(target=walker.main, daemon=True) for walker in walkers]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(1)
            daemon.tend()
    tell(run, world, walkers)
    run.end(daemon)


def tell(run, world, walkers):
    """One line for each pagination, and what failed, with the polls that led there."""
    shown = Counter()
    for walker in walkers:
        for text, trace, agree in walker.failed:
            run.failed += 1
            run.kinds["lost"] += not agree
            run.kinds["wrong"] += agree
            group = walker.fake.row, walker.fake.etag, walker.fake.keeps
            shown[group] += 1
            if shown[group] <= TOLD:
                print(f"FAILED walks, seed {run.seed}, {walker.fake.describe()}\n  {text}\n{trace}")
        run.passed += walker.equal
    for row in LISTS:
        these = [walker for walker in walkers if walker.fake.row == row]
        line(row, world, these)
        for etag in ETAGS:
            some = [walker for walker in these if walker.fake.etag == etag]
            for keeps in (True, False):
                few = [walker for walker in some if walker.fake.keeps == keeps]
                if any(walker.failed for walker in few):
                    line(f"  of which ETag of {etag}, {'kept' if keeps else 'lost'} by a short answer", world, few)
    faults = sum((walker.fake.faults for walker in walkers), Counter())
    print("faults: " + ", ".join(f"{name} {count}" for name, count in faults.most_common()))
    if world.foreign:
        print(f"{world.foreign} requests had a wrong signature")


def line(name, world, walkers):
    received = [world.received[walker.fake.name] for walker in walkers]
    print(f"{name + ':':16} walks {sum(w.fake.polls for w in walkers)}, faults {sum(w.fake.faults.total() for w in walkers)}, "
          f"false deleted {sum(len(r.false_deleted) for r in received)}, false created {sum(len(r.false_created) for r in received)}, "
          f"equal at the end {sum(w.equal + sum(agree for _, _, agree in w.failed) for w in walkers)} of {sum(w.rounds for w in walkers)} rounds"
          + (f", held {sum(w.held for w in walkers)}" if any(w.held for w in walkers) else ""), flush=True)
