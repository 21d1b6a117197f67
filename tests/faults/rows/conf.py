"""sled's `conf` short, torn, of zeros, absent or overwritten beside a whole database; and a kill at each call that makes it: in a first start, an
import and a compaction."""

import shim
from daemon import Config, Unsettled
from rows.power import books_of_all_kinds, change_some
from run import Missed

CONF = "sled/conf"


def spoiled(random, whole):
    """Another content, and what was done to it; None: no file."""
    at = random.randrange(len(whole))
    return random.choice(
        (
            (f"cut to {at}", whole[:at]),
            ("cut to 58", whole[:58]),
            (f"zeros from {at} on", whole[:at] + bytes(len(whole) - at)),
            (f"zeros up to {at}", bytes(at) + whole[at:]),
            (f"{at} zeros", bytes(at)),
            (f"one byte at {at}", whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]),
            ("random bytes", random.randbytes(len(whole))),
            ("longer", whole + whole),
            ("absent", None),
        )
    )


def main(run):
    books = books_of_all_kinds()
    run.server.use(books)
    made = run.place()
    made.write(Config(run.server, books))
    daemon = run.daemon(made)
    daemon.start()
    daemon.settle(books)
    daemon.stop()
    export = made.root / "export.jsonl"
    code, text = daemon.command("export", str(export))
    if code:
        raise AssertionError(f"export ended with {code}: {text}")
    point = 0
    while not run.over():
        point += 1
        random = run.random(point)
        way = random.choice((spoil, spoil, spoil, first_start, importing, compacting))
        one(run, random, way, made, export, books, point)


def one(run, random, way, made, export, base, point):
    """Spoils it, or kills while it is made, and starts."""
    books = base.copy() if way is not first_start else books_of_all_kinds()
    run.server.use(books)
    place = run.place()
    place.write(Config(run.server, books))
    at = run.shim(place)
    daemon = run.daemon(place)
    done = [way.__name__]
    with run.point(lambda: f"{point}: {done[0]}") as faults:
        way(random, place, daemon, at, made, export, books, done)
        daemon.start()
        daemon.settle(books)
        change_some(random, books)
        daemon.settle(books)
        run.agree(books, daemon, faults)
    run.end(daemon)


def spoil(random, place, daemon, at, made, export, books, done):
    place.put(made.state)
    done[0], content = spoiled(random, (place.state / CONF).read_bytes())
    (place.state / CONF).unlink()
    if content is not None:
        (place.state / CONF).write_bytes(content)


def arm(random, at):
    """A kill at a call on a file with `conf` in its name."""
    at.arm(shim.CHANGES, random.randint(1, 6), random.choice(shim.KILLS), part="conf")


def killed(at, done):
    if not at.fired:
        raise Missed
    done[0] += f", killed at {at.where}, call {at.control.nth}, action {at.control.action}"


def first_start(random, place, daemon, at, made, export, books, done):
    arm(random, at)
    daemon.shims = (at,)
    daemon.start()
    daemon.until(lambda: at.fired or daemon.status(), 20, "the first start")
    killed(at, done)
    daemon.kill()
    daemon.shims = ()


def importing(random, place, daemon, at, made, export, books, done):
    arm(random, at)
    daemon.command("import", str(export), shims=(at,))
    killed(at, done)
    again(daemon, export, books)


def again(daemon, export, books):
    """An import that was killed works the next time, or had been done."""
    code, text = daemon.command("import", str(export))
    if code != 0 and "has a store already" not in text:
        raise Unsettled(f"the import again ended with {code}: {text}")
    books.streams += 1


def compacting(random, place, daemon, at, made, export, books, done):
    place.put(made.state)
    arm(random, at)
    daemon.command("compact", shims=(at,))
    killed(at, done)
