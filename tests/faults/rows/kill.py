"""kill -9 wherever it may hurt. After each kill the daemon goes on, and the books must agree.

Kills under load, while opening and around a reload fall in one life after the other on the same store; the others (moves.py too) have a store of
their own. Half of the kills come from outside, after a request or a moment; the other half fall on one call of the store's, before or after it or
within a write, by the shim.
"""

import time

import shim
from daemon import Config, Unsettled
from rows.moves import FORGET, RENAME
from rows.old import converting
from rows.power import books_of_all_kinds, change_some
from run import Missed

LIFE = 40  # Kills of one store.


class Load:
    """A daemon under load, and what its kills need."""

    def __init__(self, run):
        self.run, self.books = run, books_of_all_kinds()
        run.server.use(self.books)
        self.place = run.place()
        self.config = Config(run.server, self.books)
        self.place.write(self.config)
        self.shim = run.shim(self.place)
        self.daemon = run.daemon(self.place, self.shim)
        self.daemon.start()
        self.daemon.settle(self.books)

    def dies(self, limit_s=10):
        """Waits for the shim's kill; False where there was no such call."""
        end = time.monotonic() + limit_s
        while self.daemon.alive() and time.monotonic() < end:
            time.sleep(0.005)
        killed = not self.daemon.alive()
        self.shim.disarm()
        self.daemon.kill()
        return killed

    def arm(self, random, most, kinds=shim.CHANGES, thread=""):
        self.shim.arm(kinds, random.randint(1, most), random.choice(shim.KILLS), thread=thread)


# ---------------------------------------------------------------- under load

def at_request(stage):
    """A kill when a request comes to a stage, and some ms later."""

    def way(load, random):
        trap = load.run.server.set_trap(stage)
        change_some(random, load.books)
        load.books.change(random, load.books.books["recent"], 2)
        if not trap.sprung.wait(10):
            raise Missed
        time.sleep(random.random() * (0.003 if stage == "commit" else 0.008))
        load.daemon.kill()
        trap.released.set()

    way.__name__ = stage
    return way


def committing(load, random):
    """A kill at one of the calls of a commit or of what follows it."""
    load.arm(random, 14, thread=random.choice((shim.WRITER, "")))
    change_some(random, load.books)
    load.books.change(random, load.books.books["orders"], 3)
    if not load.dies():
        raise Missed


def any_moment(load, random):
    change_some(random, load.books)
    time.sleep(random.random() * 0.3)
    load.daemon.kill()


def opening(load, random):
    """Up to three kills in a row while it opens, by time or at a call."""
    change_some(random, load.books)
    load.daemon.kill() if random.random() < 0.7 else load.daemon.stop()
    change_some(random, load.books)
    for _ in range(random.randint(1, 3)):
        by_call = random.random() < 0.5
        if by_call:
            load.arm(random, 50)
        load.daemon.start()
        if by_call:
            load.dies(2)
        else:
            time.sleep(random.random() * 0.12)
            load.daemon.kill()


def reloading(load, random):
    """A kill some ms after SIGHUP: other intervals, another number of requests, a bridge that comes or goes."""
    load.config.timing = f'every = "{random.randint(100, 140)}ms"'
    load.config.in_flight = random.randint(1, 12)
    load.config.left_out ^= {random.choice(("orders", "paged", "recent"))} if random.random() < 0.5 else set()
    load.place.write(load.config)
    change_some(random, load.books)
    if random.random() < 0.4:
        load.arm(random, 10)
        load.daemon.reload()
        load.dies(0.5)
    else:
        load.daemon.reload()
        time.sleep(random.random() * 0.06)
        load.daemon.kill()
    load.config.left_out = set()
    load.place.write(load.config)


# ---------------------------------------------------------------- commands

def compacting(load, random):
    load.daemon.stop()
    if random.random() < 0.7:
        load.arm(random, 120)
    else:
        load.arm(random, 60, kinds=(shim.RENAME, shim.UNLINK, shim.MKDIR, shim.CREATE))
    load.daemon.command("compact", shims=(load.shim,))
    if not load.shim.fired:
        raise Missed
    load.shim.disarm()


def importing(load, random):
    """Into an empty state directory: an import that was killed works the next time."""
    load.daemon.settle(load.books)
    export = load.place.root / "export.jsonl"
    export.unlink(missing_ok=True)
    load.daemon.stop()
    code, text = load.daemon.command("export", str(export))
    if code != 0:
        raise Unsettled(f"export ended with {code}: {text}")
    load.place.state.rename(load.place.root / f"before-{time.monotonic_ns()}")
    load.arm(random, 120)
    load.daemon.command("import", str(export), shims=(load.shim,))
    fired = load.shim.fired
    load.shim.disarm()
    code, text = load.daemon.command("import", str(export))
    if code != 0 and "has a store already" not in text:
        raise Unsettled(f"the import again ended with {code}: {text}")
    load.books.streams += 1
    if not fired:
        load.daemon.start()
        raise Missed


LOAD = (
    (at_request("poll"), 12),
    (at_request("commit"), 10),
    (committing, 18),
    (at_request("delivery"), 8),
    (at_request("record"), 6),
    (any_moment, 4),
    (opening, 14),
    (reloading, 10),
    (compacting, 5),
    (importing, 5),
)
# Ways that have a store of their own: they take the run, their random numbers and the list of what is wrong.
ALONE = tuple((way, 2) for way in RENAME) + tuple((way, 1) for way in FORGET)


def main(run):
    ways = LOAD + ALONE + (((converting, 3),) if run.options.old else ())
    alone, load, left, point = [], None, 0, 0
    try:
        # First those under load: two daemons at once would ask for the same books.
        while not run.over() and run.points + len(alone) < run.count:
            point += 1
            random = run.random(point)
            way = random.choices([way for way, _ in ways], [weight for _, weight in ways])[0]
            if way not in dict(LOAD):
                alone.append((point, way))
                continue
            if not left:
                if load:
                    run.end(load.daemon)
                load, left = Load(run), LIFE
            left = left - 1 if one(run, load, random, way, point) else 0
    finally:
        if load:
            run.end(load.daemon)
    for point, way in alone:
        done = run.points
        for attempt in range(5):
            if run.left_s() > 0 and run.points == done:
                with run.point(f"{point}: {way.__name__}") as faults:
                    way(run, run.random(f"alone/{point}/{attempt}"), faults)
    if not run.options.old:
        run.skip("converting: --old names no program or store of the format before")


def one(run, load, random, way, point):
    """One kill under load; whether all was well."""
    failed = run.failed
    told = lambda: f"{point}: {way.__name__}, {load.shim.where if load.shim.fired else 'by time'}"  # noqa: E731
    load.shim.control.fired = 0
    with run.point(told) as faults:
        way(load, random)
        # Changes come while it starts.
        load.daemon.start()
        change_some(random, load.books)
        load.daemon.settle(load.books)
        run.agree(load.books, load.daemon, faults)
    if not load.daemon.alive():
        load.daemon.start()
    return run.failed == failed
