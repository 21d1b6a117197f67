"""Power cuts, rebuilt from the log of all writes of a few lives: the whole daemon with its receiver, models A, B and C of disk.py.

A life begins with nothing, sees changes, stops, kills and a compaction, and is logged from its first call on. At each point the disk is rebuilt,
the books are taken back to what the receiver had then, and the daemon goes on from there.
"""

import time

import disk
import shim
from books import Book, Books, Fault
from daemon import Config, Unsettled
from run import Missed

POINTS = 100  # Of one life and one model.
MODELS = "ABC"


def books_of_all_kinds():
    return Books(Book("orders", 40), Book("paged", 30, paged=True), Book("recent", 30, window=True))


def change_some(random, books):
    for book in books.books.values():
        if random.random() < 0.7:
            books.change(random, book, random.randint(1, 6))


def resume(run, disk_now, random, books, torn, faults):
    """Starts the daemon on what the disk has after a cut, and asks the oracle once all is quiet."""
    place = run.place()
    disk_now.cut(place.state, random, torn)
    run.server.use(books)
    place.write(Config(run.server, books))
    daemon = run.daemon(place)
    try:
        daemon.start()
        daemon.settle(books)
        change_some(random, books)
        daemon.settle(books)
        run.agree(books, daemon, faults)
    finally:
        run.end(daemon)


def record(run, random, life):
    """A life with its log: its entries and its books, or None where something was seen that the shim did not log."""
    books = books_of_all_kinds()
    run.server.use(books)
    run.server.refuse = lambda: random.random() < 0.02
    place = run.place()
    place.write(Config(run.server, books))
    at = shim.Shim(run.work / "shim.so", place.root, place.root / "disk.log")
    # A sync of a real disk takes long enough for a delivery that does not wait for it.
    at.control.slow_ms = random.choice((0, 5, 20))
    daemon = run.daemon(place, at)
    daemon.start()
    daemon.ready()
    for step in range(24):
        change_some(random, books)
        if step % 6 == 5:
            end(random, daemon, at, books)
            if step == 11 and life % 2:
                code, text = daemon.command("compact", shims=(at,))
                if code != 0:
                    raise Unsettled(f"compact ended with {code}: {text}")
            daemon.start()
        if random.random() < 0.6:
            daemon.settle(books)
    daemon.settle(books)
    daemon.stop()
    run.server.refuse = lambda: False
    entries = disk.read_log(at.log)
    whole = disk.Disk("A")
    for entry in entries:
        whole.apply(entry)
    unseen = disk.differences(whole, place.state)
    run.end(daemon)
    return entries, books, unseen


def end(random, daemon, at, books):
    """The daemon ends: asked to, or by a kill at one of its own calls, so that the log has all that it did."""
    if random.random() < 0.5:
        daemon.stop()
        return
    at.arm(shim.CHANGES, random.randint(1, 12), random.choice(shim.KILLS))
    change_some(random, books)
    books.change(random, books.books["orders"], 4)
    until = time.monotonic() + 10
    while daemon.alive() and time.monotonic() < until:
        time.sleep(0.01)
    at.disarm()
    daemon.stop()


def main(run):
    # All models of a life, and as many lives as that takes; a few points are shared out among the models of one.
    points = min(POINTS, -(-run.count // len(MODELS)))
    life = 0
    while not run.over():
        life += 1
        random = run.random(life)
        recorded = None
        with run.point(f"life {life}, recorded") as faults:
            recorded = entries, books, unseen = record(run, random, life)
            if not unseen:
                raise Missed  # The points are the cuts.
            faults.append(Fault("wrong", f"the shim did not see what was done to {unseen[:4]}"))
        if not recorded or unseen:
            continue
        for model in MODELS:
            cut_all(run, entries, books, model, sorted(random.sample(range(1, len(entries)), points)), f"life {life}")


def cut_all(run, entries, books, model, places, life, base=None):
    """Cuts at these places of a log, in order."""
    now, at = disk.Disk(model, base), 0
    for place in places:
        while at < place:
            now.apply(entries[at])
            at += 1
        if run.over():
            return
        # The cut is just before the end of the next call, which does nothing yet: what the receiver had by then it knows.
        following = entries[place] if place < len(entries) else None
        past = books.until(following.ended if following else float("inf"))
        with run.point(f"{life}, model {model}, entry {place} of {len(entries)}") as faults:
            resume(run, now, run.random(f"{life}/{model}/{place}"), past, following, faults)
