"""kill -9 while what has many rows moves or goes: a bridge or an endpoint under a new name (the file kept, or the edit taken back), and a bridge
that is forgotten and comes back.

2,000 records and 1,200 packs are moved in several slices by a program that moves rows, and in one write by one that moves a name.
"""

import json
import time

import shim
from books import Book, Books
from daemon import Config, Unsettled
from run import Missed

RECORDS, FEEDERS, ROUNDS = 2000, 24, 50
MONTH_MS, HOUR_MS, MINUTE_MS = 31 * 24 * 3600 * 1000, 3700 * 1000, 61 * 1000

made = {}  # Templates by name: (place, books), made once in a run.


def template(run, name, books, fill):
    """A stopped store that `fill` has brought to where it should be."""
    if name not in made:
        run.server.use(books)
        place = run.place()
        config = Config(run.server, books)
        place.write(config)
        daemon = run.daemon(place)
        daemon.start()
        daemon.ready()
        fill(daemon, books)
        daemon.stop()
        made[name] = place, books
    return made[name]


def copied(run, template):
    """A daemon, not yet started, on a copy of a template."""
    before, base = template
    books, place = base.copy(), run.place()
    place.put(before.state)
    run.server.use(books)
    config = Config(run.server, books)
    place.write(config)
    at, clock = run.shim(place), run.clock(place)
    return run.daemon(place, at, clock), books, config, at, clock


def records_store(run):
    books = Books(Book("orders", run.sized(RECORDS), emit=False), Book("recent", run.sized(RECORDS), window=True, emit=False))
    return template(run, "records", books, lambda daemon, books: daemon.settle(books, 60))


def go(daemon, config, by_reload):
    """Under the new names by a reload or at a start; the daemon is not waited for."""
    if by_reload:
        daemon.start()
        daemon.ready()
    daemon.place.write(config)


calls = {}  # How many there are in a move, by (what, whether by a reload).


def measured(run, what, store, edit, moved, by_reload):
    """Calls of the store from the reload or the start until it has moved: a program that moves rows has many, one that moves a name few."""
    if (what, by_reload) not in calls:
        daemon, _, config, at, _ = copied(run, store)
        edit(config)
        go(daemon, config, by_reload)
        at.count(shim.CHANGES)
        daemon.reload() if by_reload else daemon.start()
        daemon.until(lambda: moved(daemon.status() or {"bridges": {}, "endpoints": {}}), 20, "it moves")
        daemon.stop()
        calls[what, by_reload] = at.counted
        run.end(daemon)
    return calls[what, by_reload]


def killed_in_move(run, random, daemon, at, config, most, by_reload):
    """A kill at a call of the move, or after some ms."""
    by_call = random.random() < 0.8
    go(daemon, config, by_reload)
    if by_call:
        at.arm(shim.CHANGES, random.randint(1, most), random.choice(shim.KILLS))
    daemon.reload() if by_reload else daemon.start()
    end = time.monotonic() + (5 if by_call else random.random() * 0.25)
    while daemon.alive() and time.monotonic() < end:
        time.sleep(0.002)
    at.disarm()
    if by_call and daemon.alive():
        daemon.kill()
        raise Missed
    daemon.kill()


def stored(daemon):
    """What `status` says of a store that no daemon runs on."""
    code, text = daemon.command("status", "--json")
    if code != 0:
        raise Unsettled(f"status ended with {code}: {text[-500:]}")
    return json.loads(text[text.index("{") :])


# ---------------------------------------------------------------- a bridge's new name

def rename_bridge(kept):
    def way(run, random, faults):
        name, by_reload = random.choice(("orders", "recent")), random.random() < 0.6

        def edit(config):
            config.names, config.was = {name: "renamed"}, {"renamed": name}

        def moved(status):
            return status["bridges"].get("renamed", {}).get("records")

        most = measured(run, name, records_store(run), edit, moved, by_reload)
        daemon, books, config, at, _ = copied(run, records_store(run))
        edit(config)
        books.books[name].names.add("renamed")
        try:
            killed_in_move(run, random, daemon, at, config, most, by_reload)
            if not kept:
                # Who takes the edit back looks at `status`; where the name has moved as a whole, this is a rename as well.
                moved = stored(daemon)["bridges"].get(name, {}).get("records", 0) == 0
                config.names, config.was = {}, ({name: "renamed"} if moved else {})
            go_on(run, random, daemon, books, config, faults)
        finally:
            run.end(daemon)

    way.__name__ = f"renaming a bridge, {'the file kept' if kept else 'taken back'}"
    return way


def go_on(run, random, daemon, books, config, faults):
    """Starts it, changes many records, among them those that had moved, and asks the oracle."""
    daemon.place.write(config)
    daemon.start()
    daemon.ready()
    for book in books.books.values():
        books.change(random, book, 40, only_updates=True)
    daemon.settle(books, names=config.names)
    run.agree(books, daemon, faults, config.names)


# ---------------------------------------------------------------- an endpoint's new name

def queue_store(run):
    """An endpoint that is down with 1,200 packs waiting for it."""

    def fill(daemon, books):
        daemon.settle(books, 60)
        run.server.down.add("app")
        for round_ in range(run.sized(ROUNDS)):
            random = run.random(f"queue/{round_}")
            for book in books.books.values():
                books.change(random, book, 1, only_updates=True)
            began = time.monotonic_ns()
            daemon.until(lambda: all(book.served[-1] > (began, book.version - 1) for book in books.books.values()), 30, "a round of polls")
        run.server.down.discard("app")

    return template(run, "queue", Books(*(Book(f"b{n}", 5, emit=False) for n in range(FEEDERS))), fill)


def rename_endpoint(kept):
    def way(run, random, faults):
        by_reload, store = random.random() < 0.6, queue_store(run)

        def edit(config):
            config.endpoint, config.endpoint_was = "app2", "app"

        def moved(status):
            return status["endpoints"].get("app2", {}).get("waiting")

        run.server.down.add("app")
        daemon = None
        try:
            most = measured(run, "endpoint", store, edit, moved, by_reload)
            daemon, books, config, at, _ = copied(run, store)
            edit(config)
            killed_in_move(run, random, daemon, at, config, most, by_reload)
            if not kept:
                # Where all had moved, this is a rename as well.
                moved = not stored_waiting(daemon, config, "app")
                config.endpoint, config.endpoint_was = "app", "app2" if moved else None
            run.server.down.discard("app")
            go_on(run, random, daemon, books, config, faults)
        finally:
            run.server.down.discard("app")
            if daemon:
                run.end(daemon)

    way.__name__ = f"renaming an endpoint, {'the file kept' if kept else 'taken back'}"
    return way


def stored_waiting(daemon, config, name):
    """Events that wait for an endpoint under this name, by a file that has the name."""
    was = config.endpoint, config.endpoint_was
    config.endpoint, config.endpoint_was = name, None
    daemon.place.write(config)
    waiting = stored(daemon)["endpoints"].get(name, {}).get("waiting", 0)
    config.endpoint, config.endpoint_was = was
    return waiting


# ---------------------------------------------------------------- a bridge that goes

def forgetting(run, random, faults):
    """A bridge leaves the file; a month later it is forgotten, a kill falls into that, and it comes back."""
    daemon, books, config, at, clock = copied(run, records_store(run))
    gone = random.choice(("orders", "recent"))
    others = Books(*(book for book in books.books.values() if book.name != gone))
    try:
        config.left_out = {gone}
        daemon.place.write(config)
        daemon.start()
        daemon.settle(others)
        daemon.stop()
        clock.offsets.wall_ms = MONTH_MS
        daemon.start()
        daemon.settle(others)
        at.arm(shim.CHANGES, random.randint(1, 20), random.choice(shim.KILLS), thread=shim.WRITER)
        # What has gone is looked for once an hour, and then slice after slice.
        clock.offsets.monotonic_ms = HOUR_MS
        end = time.monotonic() + random.choice((0.5, 2))
        while daemon.alive() and time.monotonic() < end:
            clock.offsets.monotonic_ms += MINUTE_MS
            time.sleep(0.25)
        at.disarm()
        daemon.kill()
        config.left_out = set()
        clock.offsets.monotonic_ms = 0
        go_on_after_forgetting(run, random, daemon, books, config, faults)
    finally:
        run.end(daemon)


def go_on_after_forgetting(run, random, daemon, books, config, faults):
    """Known or taken as a new baseline, from now on each change must arrive, and none that is none."""
    daemon.place.write(config)
    daemon.start()
    daemon.settle(books)
    for book in books.books.values():
        books.change(random, book, 400, only_updates=True)
    daemon.settle(books)
    run.agree(books, daemon, faults)


RENAME = (rename_bridge(True), rename_bridge(False), rename_endpoint(True), rename_endpoint(False))
FORGET = (forgetting,)
