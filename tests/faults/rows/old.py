"""A store of the program before: made by it, or taken from a directory, killed while this program opens it for the first time."""

import shutil

import shim
from books import Books
from daemon import Config, Daemon
from rows.power import books_of_all_kinds, change_some
from run import Missed

WAITING = 60

made = {}


def store(run):
    """(state directory, books): of a program, with what it has sent and what waits; a directory has both in it."""
    if not made:
        old = run.options.old
        if old.is_dir():
            made["it"] = old / "state", Books.load(old / "books.json")
        else:
            made["it"] = make(run, old)
    return made["it"]


def make(run, binary):
    random, books, place = run.random("old"), books_of_all_kinds(), run.place()
    run.server.use(books)
    place.write(Config(run.server, books))
    daemon = Daemon(binary, place)
    run.life = daemon
    daemon.start()
    daemon.ready()
    for _ in range(8):
        change_some(random, books)
        daemon.settle(books)
    run.server.down.add("app")
    while daemon.status()["endpoints"]["app"]["waiting"] < WAITING:
        change_some(random, books)
        daemon.until(lambda: all(book.served and book.served[-1][1] == book.version for book in books.books.values()), 10, "polls")
    daemon.stop()
    run.server.down.discard("app")
    return place.state, books


def converting(run, random, faults):
    state, base = store(run)
    books, place = base.copy(), run.place()
    place.put(state)
    run.server.use(books)
    place.write(Config(run.server, books))
    at = run.shim(place)
    daemon = run.daemon(place, at)
    try:
        for _ in range(random.randint(1, 3)):
            at.arm(shim.CHANGES, random.randint(1, random.choice((20, 100, 400))), random.choice(shim.KILLS))
            daemon.start()
            daemon.until(lambda: at.fired or daemon.status(), 20, "it opens")
            at.disarm()
            daemon.kill()
        if not at.fired:
            raise Missed
        change_some(random, books)
        daemon.start()
        daemon.settle(books)
        run.agree(books, daemon, faults)
    finally:
        run.end(daemon)


def main(run):
    """The row `old`: makes such a directory, with the program that is given."""
    target = run.options.to
    state, books = make(run, run.binary)
    target.mkdir(parents=True)
    shutil.move(state, target / "state")
    books.save(target / "books.json")
    with run.point(f"a store and its books are in {target}"):
        print(f"{len(books.arrivals)} arrived, {WAITING} or more wait")
