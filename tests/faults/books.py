"""The books: what the API had and served, what arrived at the receiver, and every way in which they do not agree.

Nothing here talks to anything; server.py writes in it. A change gives a record a number that no other change has (`rev`), so that each state of
each record is one of a kind: a transition that arrives under two ids was made twice, and one that never arrives was lost.
"""

import bisect
import hashlib
import json
import threading
from collections import defaultdict, namedtuple

# The server's threads and a row write in the books one at a time: an answer is of one version, body and validator.
LOCK = threading.RLock()

# What came: `at` is when, on the clock of the shim's log; `before` and `after` are revs, None where the record is absent; `taken` is whether it
# was answered with 2xx.
Arrival = namedtuple("Arrival", "at id stream bridge key sequence before after digest taken")
# `kind` is lost, doubled or wrong.
Fault = namedtuple("Fault", "kind text")

PAGE = 12


class Book:
    """One bridge's records. A version is a state of all of them; the log of each record says since when it is what it is."""

    def __init__(self, name, records, size=40, window=False, paged=False, emit=True):
        self.name, self.size, self.window, self.paged, self.emit = name, size, window, paged, emit
        self.names = {name}  # A bridge that is renamed goes on in the same book.
        self.version = 0
        self.log = {key: [(0, 0)] for key in range(1, records + 1)}
        self.now = {key: 0 for key in self.log}
        self.texts = {}
        self.body = None
        self.served = []  # (at, version): a whole answer was handed over.
        self.accepted = []  # (at, version): the daemon asked with the validator of this version, which it keeps with what it committed.

    def put(self, changes):
        """{key: rev or None}, all at once: a poll sees them all or none."""
        with LOCK:
            self.version += 1
            for key, rev in changes.items():
                self.log.setdefault(key, []).append((self.version, rev))
                if rev is None:
                    self.now.pop(key, None)
                else:
                    self.now[key] = rev
                self.texts.pop(key, None)
            self.body = None

    def until(self, time):
        other = Book(self.name, 0, self.size, self.window, self.paged, self.emit)
        other.names, other.version, other.texts, other.body = set(self.names), self.version, dict(self.texts), self.body
        other.log, other.now = {key: list(log) for key, log in self.log.items()}, dict(self.now)
        other.served = [entry for entry in self.served if entry[0] < time]
        other.accepted = [entry for entry in self.accepted if entry[0] < time]
        return other

    def at(self, version, key):
        """The record's rev in a version; None where it is not there."""
        log = self.log.get(key, ())
        place = bisect.bisect_right(log, version, key=lambda entry: entry[0])
        return log[place - 1][1] if place else None

    def texts_now(self):
        for key, rev in self.now.items():
            if key not in self.texts:
                self.texts[key] = text_of(key, rev, self.size)
        return [self.texts[key] for key in sorted(self.now)]

    def body_now(self):
        if self.body is None:
            self.body = b"[" + b",".join(self.texts_now()) + b"]"
        return self.body

    def etag(self, version):
        return f'"{self.name}-{version}"'


def text_of(key, rev, size):
    """A record whose bytes do not compress to nothing."""
    pad = hashlib.shake_128(f"{key}.{rev}".encode()).hexdigest(size // 2)
    return b'{"id":%d,"rev":%d,"pad":"%s"}' % (key, rev, pad.encode())


class Books:
    def __init__(self, *books):
        self.books = {book.name: book for book in books}
        self.arrivals = []
        self.foreign = []  # What did not verify, or is not an event of these books.
        self.rev = 0
        self.streams = 1  # How many there may be: an import makes one more.

    def of(self, bridge):
        return next((book for book in self.books.values() if bridge in book.names), None)

    def numbers(self):
        """How many numbers of each book were taken."""
        taken = {name: set() for name in self.books}
        for arrival in list(self.arrivals):
            if arrival.taken:
                taken[self.of(arrival.bridge).name].add(arrival.sequence)
        return {name: len(numbers) for name, numbers in taken.items()}

    def change(self, random, book, count, only_updates=False):
        """Some records of a book become others: updates mostly, and where it may be, records come and go."""
        changes = {}
        keys = sorted(book.now)
        for key in random.sample(keys, min(count, len(keys))):
            self.rev += 1
            gone = not only_updates and not book.window and len(book.now) > 15 and random.random() < 0.15
            changes[key] = None if gone else self.rev
        if not only_updates and random.random() < 0.5:
            # Keys come again: a record may be deleted and created under the same one.
            free = [key for key in range(1, max(book.log) + 2) if key not in book.now and key not in changes]
            if free:
                self.rev += 1
                changes[random.choice(free)] = self.rev
        book.put(changes)

    def until(self, time):
        """These books as they were when the power was cut: the API goes on, the receiver knows what had arrived."""
        copy = Books()
        with LOCK:
            copy.rev, copy.streams = self.rev, self.streams
            copy.arrivals = [arrival for arrival in self.arrivals if arrival.at < time]
            for book in self.books.values():
                copy.books[book.name] = book.until(time)
        return copy

    def copy(self):
        return self.until(float("inf"))

    def save(self, path):
        books = [vars(book) | {"names": sorted(book.names), "texts": None, "body": None, "now": None, "log": sorted(book.log.items())}
                 for book in self.books.values()]
        arrivals = [arrival._replace(at=0, digest=arrival.digest.hex()) for arrival in self.arrivals]
        path.write_text(json.dumps({"rev": self.rev, "arrivals": arrivals, "books": books}))

    @classmethod
    def load(cls, path):
        """What was served and accepted before counts as of long ago."""
        saved, books = json.loads(path.read_text()), cls()
        books.rev = saved["rev"]
        books.arrivals = [Arrival(*fields)._replace(digest=bytes.fromhex(fields[8])) for fields in saved["arrivals"]]
        for fields in saved["books"]:
            book = Book(fields["name"], 0, fields["size"], fields["window"], fields["paged"], fields["emit"])
            book.names, book.version = set(fields["names"]), fields["version"]
            book.log = {key: [tuple(entry) for entry in log] for key, log in fields["log"]}
            book.now = {key: log[-1][1] for key, log in book.log.items() if log[-1][1] is not None}
            for kind in ("served", "accepted"):
                setattr(book, kind, [(0, version) for _, version in fields[kind]])
            books.books[book.name] = book
        return books

    # ---------------------------------------------------------------- do they agree?

    def check(self):
        """Every way in which the books do not agree, once all is quiet."""
        faults = [Fault("wrong", text) for text in self.foreign[:5]]
        by_id, came, events, changes = {}, {}, defaultdict(dict), {}
        streams, highest = [], {}
        for arrival in self.arrivals:
            if arrival.stream not in streams:
                streams.append(arrival.stream)
            book = self.of(arrival.bridge)
            name, place = book.name, (streams.index(arrival.stream), arrival.sequence)
            known = by_id.setdefault(arrival.id, arrival)
            if known.digest != arrival.digest:
                faults.append(Fault("wrong", f"{arrival.id} came with two bodies"))
            first = came.setdefault((name, place), arrival)
            if first.id != arrival.id:
                faults.append(Fault("doubled", f"{name} #{arrival.sequence} came under two ids: {first.id}, {arrival.id}"))
            elif first is arrival:
                if highest.get((name, arrival.key), place) > place:
                    faults.append(Fault("wrong", f"{name} #{arrival.sequence} of record {arrival.key} came after a later one"))
                highest[name, arrival.key] = place
            if arrival.taken:
                events[name].setdefault(place, arrival)
            change = (name, arrival.key, arrival.before, arrival.after)
            if changes.setdefault(change, arrival.id) != arrival.id:
                text = f"{name}: record {arrival.key} from {arrival.before} to {arrival.after} came under two ids: "
                faults.append(Fault("doubled", text + f"{changes[change]}, {arrival.id}"))
        if len(streams) > self.streams:
            faults.append(Fault("wrong", f"{len(streams)} streams, not {self.streams}: {streams}"))
        for book in self.books.values():
            ordered = [events[book.name][place] for place in sorted(events[book.name])]
            numbers = [event.sequence for event in ordered]
            for before, after in zip([0] + numbers, numbers):
                if after != before + 1:
                    faults.append(Fault("lost", f"{book.name}: after #{before} comes #{after}"))
                    break
            faults += records_of(book, ordered)
        return faults


def records_of(book, events):
    """What the receiver saw of each record, one after the other, beside what the API had."""
    faults, by_key = [], defaultdict(list)
    for event in events:
        by_key[event.key].append(event)
    accepted = sorted({version for _, version in book.accepted})
    served = {version for _, version in book.served}
    missing, skipped = [], []
    for key in sorted(set(by_key) | set(book.log)):
        log = book.log.get(key, [])
        seen = [book.at(0, key) if not book.emit else None]
        for event in by_key[key]:
            if event.before != seen[-1]:
                text = f"{book.name} #{event.sequence}: record {key} was {seen[-1]}, not {event.before}"
                faults.append(Fault("lost", text))
            if event.before == event.after:
                faults.append(Fault("wrong", f"{book.name} #{event.sequence}: record {key} did not change"))
            if event.after is not None and event.after not in [rev for _, rev in log]:
                faults.append(Fault("wrong", f"{book.name} #{event.sequence}: record {key} never was {event.after}"))
            seen.append(event.after)
        # What was accepted must have arrived, in this order; what no poll was ever given may be skipped.
        rest, last = iter(seen), seen[0]
        for version in accepted if len(log) > 1 or book.emit else ():
            state = book.at(version, key)
            if state != last and state not in rest:
                skipped.append((key, state, seen[-2:]))
                break
            last = state
        if seen[-1] != book.now.get(key) and served:
            missing.append((key, seen[-1], book.now.get(key)))
    if skipped:
        text = f"{book.name}: {len(skipped)} records were accepted as what never arrived, such as (key, accepted, arrived) {skipped[:3]}"
        faults.append(Fault("lost", text))
    if missing:
        text = f"{book.name}: {len(missing)} records are not what arrived, such as (key, arrived, is) {missing[:3]}"
        faults.append(Fault("lost", text))
    return faults


def event_of(at, identity, body, taken):
    """An arrival from a request that verified, or None where it is an operational event."""
    event = json.loads(body)
    if event["type"].startswith("bellpull."):
        return None
    data = event["data"]
    rev = lambda record: None if record is None else record["rev"]  # noqa: E731
    return Arrival(at, identity, data["stream"], data["bridge"], int(data["key"]), data["sequence"], rev(data.get("before")),
                   rev(data.get("after")), hashlib.sha256(body).digest()[:8], taken)
