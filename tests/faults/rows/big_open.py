"""A store of 2 GiB, killed while it opens: the next start opens it. 200,000 records, and the file made longer by a hole, which sled takes for free
segments. Kills fall at any time of the opening, and in the middle of what sled writes then, its snapshot."""

import os
import subprocess
import time

import shim
from big import POLL_S, Big
from books import Books
from daemon import Config
from run import Missed

RECORDS, BYTES = 200_000, 2 << 30
OPEN_S = 300


def main(run):
    books = Books()
    run.server.use(books)
    place = run.place()
    config = Config(run.server, books)
    big = Big(run.server, run.sized(RECORDS))
    config.extra = big.toml()
    place.write(config)
    at = run.shim(place)
    daemon = run.daemon(place, at)

    def work():
        daemon.start()
        daemon.until(big.is_known(daemon), POLL_S, "the baseline")
        daemon.stop(120)
        os.truncate(place.state / "sled" / "db", BYTES)
        made = place.root / "made"
        subprocess.run(["cp", "-a", "--sparse=always", place.state, made], check=True, timeout=600)
        began = time.monotonic()
        daemon.start()
        daemon.ready(OPEN_S)
        took = time.monotonic() - began
        print(f"it opens in {took:.1f} s", flush=True)
        daemon.kill()
        point = 0
        while not run.over():
            point += 1
            told = [""]
            place.put(made)
            with run.point(lambda: f"{point}: {told[0]}"):
                one(run.random(point), big, place, daemon, at, took, told)

    try:
        run.whole("a store of 2 GiB", work)
    finally:
        run.end(daemon)


def one(random, big, place, daemon, at, took, told):
    snapshot = random.random() < 0.5
    if snapshot:
        at.arm((shim.WRITE, shim.SYNC, shim.RENAME), random.randint(1, 4), random.choice(shim.KILLS), part="snap.")
        daemon.start()
        end = time.monotonic() + OPEN_S
        while daemon.alive() and not daemon.status() and time.monotonic() < end:
            time.sleep(0.01)
        told[0] = f"killed at {at.where}"
    else:
        moment = random.random() * took
        told[0] = f"killed after {moment:.2f} s"
        daemon.start()
        time.sleep(moment)
    fired = at.fired
    at.disarm()
    daemon.kill()
    try:
        daemon.start()
        daemon.ready(OPEN_S)
        daemon.until(big.is_known(daemon), POLL_S, "all is known")
    finally:
        daemon.kill()
    if snapshot and not fired:
        raise Missed
