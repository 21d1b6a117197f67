"""What every row uses: its options, its random numbers, its points and what came of them."""

import contextlib
import itertools
import random
import time
from collections import Counter
from pathlib import Path

from audit import audit
from books import Fault
from daemon import Daemon, NotStarted, Place, Unsettled
from server import Server
from shim import Clock, Shim

TOLD = 12  # Failures that are shown whole.
PLACES = itertools.count(1)


class Missed(Exception):
    """What a point was to do did not come about, such as a call that there was not: it does not count."""


class Run:
    """One row. `planted` is a failpoint that is on in every daemon, or "" for the control of one; then nothing is printed, and `caught` is what
    was found first."""

    def __init__(self, row, options, planted=None):
        self.row, self.options, self.planted, self.caught = row, options, planted, None
        self.binary, self.work = options.binary, Path(options.work)
        self.count, self.seed = options.count, options.seed
        self.server = Server()
        self.passed = self.failed = self.skipped = 0
        self.kinds, self.exits, self.began = Counter(), Counter(), time.monotonic()
        self.life = None  # The daemon of the point that runs.

    def random(self, point):
        """The choices of one point: they depend on the seed and on nothing that came before it."""
        return random.Random(f"{self.seed}/{self.row}/{point}")

    def left_s(self):
        return self.options.limit - (time.monotonic() - self.began)

    def over(self):
        """Whether there are points enough, or no time is left. Where a fault may be planted, the first failure is enough."""
        return self.points >= self.count or self.left_s() <= 0 or (self.planted is not None and self.failed > 0)

    # ---------------------------------------------------------------- daemons

    def place(self):
        place = Place(self.work, f"{self.row}-{next(PLACES)}")
        if self.planted:
            (place.points / self.planted).touch()
        return place

    def daemon(self, place, *shims):
        self.life = Daemon(self.binary, place, *shims)
        return self.life

    def shim(self, place, log=None):
        return Shim(self.work / "shim.so", place.root, log)

    def clock(self, place):
        return Clock(self.work / "clock.so", place.root)

    def end(self, daemon):
        """After a point: nothing of it is left."""
        daemon.kill()
        self.exits.update(daemon.exits)
        daemon.place.remove()

    # ---------------------------------------------------------------- points

    @contextlib.contextmanager
    def point(self, what):
        """One point; what is wrong goes into the list that it gives. `what` may be a function, called at the end."""
        faults = []
        try:
            yield faults
        except NotStarted as error:
            faults.append(Fault("not started", str(error)))
        except Unsettled as error:
            faults.append(Fault("lost", str(error)))
        except Missed:
            return
        self.kinds.update({fault.kind for fault in faults})
        if not faults:
            self.passed += 1
            return
        self.failed += 1
        self.caught = self.caught or f"{faults[0].kind}: {(faults[0].text.strip().splitlines() or [''])[-1].strip(' |')}"
        if self.failed <= TOLD and self.planted is None:
            print(f"FAILED {self.row} {what() if callable(what) else what}")
            for fault in faults[:6]:
                print(f"  {fault.kind}: {fault.text}")
            print("", end="", flush=True)

    def check(self, name, holds, seen):
        """A point that is one figure."""
        with self.point(f"{name}: {seen}") as faults:
            print(f"  {'ok    ' if holds else 'FAILED'} {name}: {seen}", flush=True)
            if not holds:
                faults.append(Fault("wrong", str(seen)))

    def whole(self, name, work):
        """What has points of its own; where it does not come to its end, that is one that failed."""
        ended = []
        with self.point(name):
            work()
            ended.append(True)
            raise Missed
        if not ended:
            print(f"  FAILED {name} did not come to its end", flush=True)

    @property
    def points(self):
        return self.passed + self.failed

    def sized(self, count):
        """A size of a row; `--scale` makes it smaller for a try, and its figures then are not the row's."""
        return max(1, int(count * self.options.scale))

    def skip(self, reason):
        self.skipped += 1
        print(f"skipped {self.row}: {reason}", flush=True)

    def agree(self, books, daemon, faults, names=None):
        """Adds what the oracle says once all is quiet; whether that is nothing."""
        found = books.check() + self.exported(books, daemon, names)
        faults += found
        return not found

    def exported(self, books, daemon, names=None):
        status, body = daemon.export()
        if status != 200:
            return [Fault("lost", f"export was answered with {status}: {body[:600].decode(errors='replace')}")]
        return audit(books, body.split(b"\n"), names)

    def tell(self):
        """The sums, the last line alone."""
        kinds, took = self.kinds, time.monotonic() - self.began
        ended = ", ".join(f"{'SIGABRT' if code == -6 else 'SIGKILL' if code == -9 else code} x{n}" for code, n in sorted(self.exits.items()))
        print(f"{self.row}: lost {kinds['lost']}, doubled {kinds['doubled']}, not started {kinds['not started']}, wrong {kinds['wrong']}; "
              f"seed {self.seed}, {took:.0f} s; ended by itself: {ended or 'never'}")
        print(f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else ""), flush=True)
        return self.failed == 0 and self.passed + self.skipped > 0
