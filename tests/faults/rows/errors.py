"""EIO and ENOSPC at the n-th call of a kind, during commits and while opening: no half commit, nothing lost, and `export` works.

A life begins with the store of 6,000 records of 800 bytes and suffers up to LIFE errors, one after the other, until the books do not agree.
Half of the lives have a cache of 1 MiB, so that commits read pages; the others are started anew before each error, so that their cache is empty.
"""

import time

import shim
from books import Book, Books
from daemon import Config
from run import Missed

RECORDS, SIZE, CHANGES, LIFE = 6000, 800, 120, 10
IN_COMMITS = (shim.READ, shim.READ, shim.READ, shim.WRITE, shim.SYNC)
WHILE_OPENING = (shim.READ, shim.WRITE, shim.SYNC, shim.TRUNCATE, shim.OPEN, shim.CREATE, shim.RENAME, shim.UNLINK, shim.MKDIR)


def template(run, records):
    """A store with its baseline, stopped, and the books that belong to it."""
    books = Books(Book("orders", records, SIZE, emit=False), Book("recent", 100, SIZE, window=True, emit=False))
    run.server.use(books)
    place = run.place()
    place.write(Config(run.server, books))
    daemon = run.daemon(place)
    daemon.start()
    daemon.ready()
    daemon.settle(books, 120)
    daemon.stop()
    return place, books


class Life:
    """A daemon with the shim on a copy of the template."""

    def __init__(self, run, base, cache, log=False):
        made, books = base
        self.run, self.books = run, books.copy()
        self.place = run.place()
        self.place.put(made.state)
        run.server.use(self.books)
        config = Config(run.server, self.books)
        config.cache = cache
        self.place.write(config)
        self.shim = run.shim(self.place, self.place.root / "disk.log" if log else None)
        self.daemon = run.daemon(self.place, self.shim)
        self.daemon.start()
        self.daemon.ready()
        self.daemon.settle(self.books)

    def change(self, random, count=CHANGES):
        self.books.change(random, self.books.books["orders"], count, only_updates=True)
        self.books.change(random, self.books.books["recent"], 5, only_updates=True)

    def measure(self, random):
        """Calls of each kind in one commit and what follows it."""
        before = list(self.shim.control.calls)
        self.change(random)
        self.daemon.settle(self.books)
        return [after - start for after, start in zip(self.shim.control.calls, before)]

    def end(self):
        self.run.end(self.daemon)


class Error:
    """One choice: which call fails, how, and when."""

    def __init__(self, random, opening, calls, only=None):
        self.opening = opening
        self.kind = random.choice(WHILE_OPENING if opening else IN_COMMITS)
        self.error = shim.EIO if self.kind == shim.READ or random.random() < 0.5 else shim.ENOSPC
        if only:
            self.kind, self.error, _ = only
        self.action = shim.SHORT if self.kind == shim.WRITE and random.random() < 0.4 else shim.FAIL
        self.lasting = not opening and self.error == shim.ENOSPC and random.random() < 0.5
        self.thread = shim.WRITER if not opening and random.random() < 0.7 else ""
        # While opening there are few calls of most kinds, and the first ones differ most.
        self.nth = 1 + int(random.random() ** 3 * 40) if opening else random.randint(1, max(1, calls[self.kind]))

    def __str__(self):
        error = "EIO" if self.error == shim.EIO else "ENOSPC"
        when = "while opening" if self.opening else "in a commit"
        more = f"{' short' if self.action == shim.SHORT else ''}{' from then on' if self.lasting else ''}"
        return f"{error} at {shim.NAMES[self.kind]} {self.nth} {when}{more}, thread {self.thread or 'any'}"


def suffer(life, random, error):
    """Makes the error happen; whether it did."""
    armed = dict(error=error.error, thread=error.thread, lasting=error.lasting)
    for _ in range(3):
        if error.opening:
            life.daemon.kill()
            life.change(random)
            life.shim.arm((error.kind,), error.nth, error.action, **armed)
            life.daemon.start()
        else:
            life.shim.arm((error.kind,), error.nth, error.action, **armed)
            life.change(random)
        if error.lasting:
            end = time.monotonic() + 3
            while not life.shim.fired and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(random.uniform(0.2, 1.0))
            life.shim.disarm()
        life.daemon.settle(life.books)
        fired, counted = life.shim.fired, life.shim.counted
        life.shim.disarm()
        if fired:
            return True
        error.nth = random.randint(1, counted) if counted else error.nth
        if not counted:
            return False
    return False


def main(run, only=None):
    """`only`: (kind, error, cache) of every error."""
    base = template(run, run.sized(RECORDS))
    point = lives = 0
    while not run.over():
        lives += 1
        random = run.random(lives)
        cache = only[2] if only else "1MiB" if lives % 2 else None
        life = Life(run, base, cache)
        try:
            calls = life.measure(random)
            for _ in range(LIFE):
                point += 1
                error = Error(random, not only and random.random() < 0.25, calls, only)
                if not one(run, life, random, error, f"{point} (life {lives}, cache {cache or 'default'})"):
                    break
                if run.over():
                    break
        finally:
            life.end()


def one(run, life, random, error, name):
    """One error; whether all was well."""
    failed = run.failed
    if life.shim.control.calls[shim.READ] and not error.opening and random.random() < 0.5:
        # An empty cache, so that the commit reads.
        life.daemon.kill()
        life.daemon.start()
        life.daemon.ready()
    told = lambda: f"{name}: {error}, at {life.shim.where}; ended {life.daemon.exits[-3:]}"  # noqa: E731
    with run.point(told) as faults:
        if not suffer(life, random, error):
            raise Missed
        life.change(random, 3)
        life.daemon.settle(life.books)
        if run.agree(life.books, life.daemon, faults) and random.random() < 0.3:
            life.daemon.kill()
            life.change(random, 3)
            life.daemon.start()
            life.daemon.settle(life.books)
            run.agree(life.books, life.daemon, faults)
    return run.failed == failed
