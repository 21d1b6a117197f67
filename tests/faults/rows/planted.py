"""Each part catches the fault that is planted for it: a failpoint, which only debug builds have. A part passes here when it finds nothing without
the failpoint and something with it."""

import shim
from books import Fault
from rows import errors, power
from run import Run

CONTROL, POINTS = 24, 90


def writes(run):
    errors.main(run, (shim.WRITE, shim.ENOSPC, None))


def reads(run):
    errors.main(run, (shim.READ, shim.EIO, "1MiB"))


# Events go out before the sync; there is no sync; a write of a group that failed counts as done; after a transaction that failed the engine is
# dropped and opened again.
PARTS = {"deliver-before-sync": power.main, "skip-sync": power.main, "swallow-enospc": writes, "drop-engine": reads}


def part_of(run, main, count, planted):
    """A row with other options, and without a word."""
    options = type(run.options)(**vars(run.options))
    options.count, options.scale = count, 0.25
    inner = Run(main.__module__.rpartition(".")[2], options, planted)
    try:
        main(inner)
    finally:
        if inner.life:
            inner.life.kill()
    return inner


def main(run):
    controls = {}
    for planted, main_of in PARTS.items():
        with run.point(planted) as faults:
            if main_of not in controls:
                controls[main_of] = part_of(run, main_of, CONTROL, "")
            control, inner = controls[main_of], part_of(run, main_of, POINTS, planted)
            if control.failed:
                faults.append(Fault("wrong", f"without it there was, after {control.points} points: {control.caught}"))
            elif not inner.failed:
                faults.append(Fault("wrong", f"{inner.points} points did not notice it"))
            else:
                print(f"  ok     {planted}: nothing in {control.points} points without it, with it after {inner.points}: {inner.caught[:300]}", flush=True)
