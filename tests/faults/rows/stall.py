"""A bridge that changes every 0.2 s beside one of a million records, while those are taken as a baseline and while all of them change: how long its
changes take to their receiver, and whether the watchdog of the unit would have been fed in time."""

import socket
import threading
import time

from big import POLL_S, Big
from books import Book, Books
from daemon import Config

RECORDS, EVERY_S = 1_000_000, 0.2
P99_S, LONGEST_S = 0.3, 1.0
WATCHDOG_S = 60  # As the unit has it.
ALONE_S = 5
AFTER_S = 30


class Feed:
    """systemd's end of the watchdog: when the daemon said that it is alive."""

    def __init__(self, place):
        self.path, self.times = place.root / "notify", []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        threading.Thread(target=self.listen, daemon=True).start()

    library = None

    def environment(self, _state):
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}

    def listen(self):
        while True:
            if b"WATCHDOG=1" in self.socket.recv(4096):
                self.times.append(time.monotonic())

    def longest(self, since):
        times = [since, *(at for at in self.times if at > since), time.monotonic()]
        return max(after - before for before, after in zip(times, times[1:]))


class Changes:
    """Changes one record after the other, and knows when each was made."""

    def __init__(self, run, books):
        self.run, self.books, self.made, self.on = run, books, {}, True
        self.thread = threading.Thread(target=self.go, daemon=True)
        self.thread.start()

    def go(self):
        random, book = self.run.random("fast"), self.books.books["fast"]
        while self.on:
            time.sleep(EVERY_S)
            self.books.change(random, book, 1, only_updates=True)
            self.made[self.books.rev] = time.monotonic_ns()

    def times(self, since):
        """Seconds from change to arrival, of what was made since then; what is not there yet counts as long as it is missing."""
        came = {}
        for arrival in list(self.books.arrivals):
            came.setdefault(arrival.after, arrival.at)
        now = time.monotonic_ns()
        # A change that was overtaken by the next one of its record before a poll saw it is told with that.
        later = sorted((rev, at) for rev, at in came.items() if rev)
        times = []
        for rev, made in self.made.items():
            if made >= since:
                at = came.get(rev) or next((at for other, at in later if other > rev), now)
                times.append((at - made) / 1e9)
        return sorted(times)


def main(run):
    books = Books(Book("fast", 5, emit=False))
    run.server.use(books)
    place = run.place()
    big = Big(run.server, run.sized(RECORDS))
    config = Config(run.server, books)
    place.write(config)
    feed = Feed(place)
    daemon = run.daemon(place, feed)
    changes = None

    def work():
        nonlocal changes
        daemon.start()
        daemon.settle(books)
        changes = Changes(run, books)
        measured(run, daemon, changes, feed, "alone", lambda: time.sleep(ALONE_S))
        config.extra = big.toml()
        place.write(config)

        def baseline():
            daemon.reload()
            daemon.until(big.is_known(daemon), POLL_S, "the baseline")

        measured(run, daemon, changes, feed, f"while {big.count:,} are taken as a baseline", baseline)
        # Made before the clock is looked at: this process has but one interpreter.
        big.change_all()

        def all_change():
            daemon.until(big.is_known(daemon), POLL_S, "a change of all")

        measured(run, daemon, changes, feed, f"while all {big.count:,} change", all_change)
        measured(run, daemon, changes, feed, "while what that left is cleared away", lambda: time.sleep(AFTER_S))
        changes.on = False
        changes.thread.join()

    try:
        run.whole("a fast bridge beside a large one", work)
    finally:
        if changes:
            changes.on = False
        run.end(daemon)


def measured(run, daemon, changes, feed, name, work):
    began, since = time.monotonic_ns(), time.monotonic()
    work()
    times = changes.times(began)
    took = time.monotonic() - since
    p99, longest = times[int(len(times) * 0.99)], times[-1]
    seen = f"{len(times)} changes in {took:.0f} s, p99 {p99 * 1000:.0f} ms, longest {longest * 1000:.0f} ms"
    run.check(f"{name}: p99 at most {P99_S * 1000:.0f} ms, longest at most {LONGEST_S:.0f} s", p99 <= P99_S and longest <= LONGEST_S, seen)
    fed = feed.longest(since)
    run.check(f"{name}: the watchdog is fed within {WATCHDOG_S} s", fed < WATCHDOG_S, f"at most {fed:.1f} s without")
