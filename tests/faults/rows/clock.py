"""A clock that is an hour, a month or a year early or late after a restart, and is set right after 3 s or never; with an interval or with cron.

Before the stop an endpoint is down and events wait for it. The first poll must come within the interval and 2 s, and the first delivery within the
step of the endpoint's schedule and 2 s from when the receiver is there: from the start, or from when the clock is right.
"""

import itertools
import time

from books import Book, Books, Fault
from daemon import Config

HOURS = {"an hour": 1, "a month": 30 * 24, "a year": 365 * 24}
GRACE_S, RIGHT_AFTER_S = 2, 3
EVERY_S = {"every": 0.5, "cron": 1}
STEP_S = 2
STEP_RANDOM = 1.2  # Up to a fifth is added at random.


def main(run):
    cases = list(itertools.product(HOURS, ("earlier", "later"), ("not set right", "set right"), EVERY_S))
    for point, case in enumerate(cases[: run.count]):
        with run.point(", ".join(case)) as faults:
            one(run, point, *case, faults)


def one(run, point, span, direction, right, kind, faults):
    random = run.random(point)
    books = Books(Book("orders", 30))
    run.server.use(books)
    place = run.place()
    config = Config(run.server, books)
    config.schedule = [f"{STEP_S}s"] * 9
    config.timing = 'every = "500ms"' if kind == "every" else 'cron = "* * * * * *"'
    place.write(config)
    clock = run.clock(place)
    daemon = run.daemon(place, clock)
    try:
        daemon.start()
        daemon.settle(books)
        run.server.down.add("app")
        books.change(random, books.books["orders"], 8)
        daemon.until(lambda: daemon.status()["endpoints"]["app"]["state"] == "down", 20, "the endpoint is down")
        time.sleep(random.uniform(0, 1.5))
        daemon.kill() if random.random() < 0.5 else daemon.stop()
        clock.offsets.wall_ms = HOURS[span] * 3_600_000 * (1 if direction == "later" else -1)
        arrived = len(books.arrivals)
        began = time.monotonic_ns()
        run.server.hits.clear()
        daemon.start()
        if right == "set right":
            time.sleep(RIGHT_AFTER_S)
            clock.offsets.wall_ms = 0
        run.server.down.discard("app")
        there = time.monotonic_ns()
        limit_s = STEP_S * STEP_RANDOM + GRACE_S
        first(faults, "delivery", lambda: [a.at for a in books.arrivals[arrived:]], there, limit_s)
        first(faults, "poll", lambda: polls(run), began, EVERY_S[kind] + GRACE_S)
        # And so it goes on, whatever the clock does.
        first(faults, "poll from there on", lambda: polls(run), time.monotonic_ns(), EVERY_S[kind] + GRACE_S)
        if not faults:
            books.change(random, books.books["orders"], 5)
            daemon.settle(books)
            run.agree(books, daemon, faults)
    finally:
        run.server.down.discard("app")
        run.end(daemon)


def polls(run):
    return [at for at, path in list(run.server.hits) if path.startswith("/api/")]


def first(faults, what, times, since, limit_s):
    """Waits for the first of these after a time, and says how late it is."""
    end = since + int(limit_s * 1e9)
    while not any(since <= at <= end for at in times()):
        if time.monotonic_ns() > end:
            break
        time.sleep(0.01)
    else:
        return
    faults.append(Fault("lost", f"no {what} within {limit_s:.1f} s"))
