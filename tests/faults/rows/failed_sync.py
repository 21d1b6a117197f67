"""A sync fails, and the power is cut later: what was dirty at that sync is not on the disk, though every later sync said that it is.

In each life one sync fails in a commit of 150 changes, up to three commits follow, and the disk is rebuilt at some points after it by model C,
from which the pages of the failed sync are gone.
"""

import disk
import shim
from rows.errors import Life, template
from rows.power import cut_all
from run import Missed

RECORDS, CHANGES, POINTS = 1000, 150, 5


def main(run):
    base = template(run, run.sized(RECORDS))
    lives = 0
    while not run.over():
        lives += 1
        random = run.random(lives)
        life = Life(run, base, None, log=True)
        failed = None
        with run.point(f"life {lives}") as faults:
            calls = life.measure(random)
            life.shim.arm((shim.SYNC,), random.randint(1, max(1, calls[shim.SYNC] // 2)), shim.FAIL)
            life.change(random, CHANGES)
            life.daemon.settle(life.books)
            for _ in range(random.randint(0, 3)):
                life.change(random, 5)
                life.daemon.settle(life.books)
            life.daemon.kill()
            entries = disk.read_log(life.shim.log)
            failed = next((n for n, entry in enumerate(entries) if entry.kind in (disk.SYNC, disk.RANGE) and entry.error), None)
            if not faults:
                raise Missed  # The points are the cuts.
        if failed is not None:
            count = min(POINTS, run.count - run.points)
            places = sorted({len(entries), *random.sample(range(failed + 1, len(entries)), min(count - 1, len(entries) - failed - 1))})
            cut_all(run, entries, life.books, "C", places, f"life {lives}, sync {failed} failed", base[0].state)
        life.end()
