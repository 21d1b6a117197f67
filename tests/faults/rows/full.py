"""A full disk: a tmpfs of 64 MB for the state directory, filled while the daemon runs and changes come, or before it opens. With room again it goes
on by itself: nobody starts it after exit 78."""

import errno
import subprocess
import time

from books import Book, Books
from daemon import Config

TMPFS_MB, RECORDS, SIZE, LIFE = 64, 3000, 800, 10


def mount(run, place):
    """A tmpfs in the place of the state directory; why not, where it cannot be."""
    place.state.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m,mode=0700", "tmpfs", str(place.state)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip()


def unmount(place):
    subprocess.run(["umount", str(place.state)], timeout=20, check=False)


def fill(place, leave=0):
    """Takes all the room but `leave` bytes, or what has become free since."""
    with open(place.state / "filler", "ab", buffering=0) as file:
        block = 1 << 20
        while block >= 512:
            try:
                file.write(b"\x5a" * block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block //= 2
        file.truncate(max(0, file.tell() - leave))


def free(place):
    (place.state / "filler").unlink()


def running(random, place, daemon, change):
    """The disk fills while changes come; sometimes it is killed or stopped while it is full."""
    fill(place, random.choice((0, 0, random.randrange(200_000), random.randrange(2_000_000))))
    for _ in range(random.randint(1, 3)):
        change()
        pause(place, daemon, random.uniform(0.2, 1), random.random() < 0.5)
        if random.random() < 0.3:
            daemon.kill() if random.random() < 0.5 else daemon.stop()
            daemon.start()


def opening(random, place, daemon, change):
    """Killed, and no room while it opens."""
    daemon.kill()
    fill(place, random.choice((0, 0, random.randrange(200_000), random.randrange(2_000_000))))
    change()
    daemon.start()
    pause(place, daemon, random.uniform(0.5, 2.5), random.random() < 0.5)


def pause(place, daemon, seconds, again):
    """Time goes by, in which it is started as often as it ends. `again`: what it gives up, such as its ballast, is taken by another as well."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        daemon.tend()
        if again:
            fill(place)
        time.sleep(0.02)


def main(run):
    cycle = 0
    while not run.over():
        place = run.place()
        why_not = mount(run, place)
        if why_not:
            run.skip(f"no tmpfs can be mounted: {why_not}")
            return
        daemon = run.daemon(place)
        daemon.in_a_row_max = 1000
        try:
            books = Books(Book("orders", RECORDS, SIZE, emit=False))
            run.server.use(books)
            place.write(Config(run.server, books))
            daemon.start()
            daemon.settle(books)
            for _ in range(LIFE):
                cycle += 1
                if run.points >= run.count or not one(run, run.random(cycle), cycle, place, daemon, books):
                    break
        finally:
            daemon.kill()
            unmount(place)
            run.end(daemon)


def one(run, random, cycle, place, daemon, books):
    failed = run.failed
    way = random.choice((running, opening))

    def change():
        books.change(random, books.books["orders"], 60, only_updates=True)

    with run.point(f"{cycle}: {way.__name__}") as faults:
        way(random, place, daemon, change)
        free(place)
        # It is tried again after a minute at most.
        daemon.settle(books, 75)
        change()
        daemon.settle(books)
        run.agree(books, daemon, faults)
    return run.failed == failed
