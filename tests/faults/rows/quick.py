"""Some points of each row that needs no size, two rows at a time: what the ordinary suite runs, in under a minute with a debug build."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from books import Fault

ROWS = (("errors", 10, 0.15), ("kill", 30, 0.3), ("power", 30, 1), ("failed-sync", 6, 0.5), ("conf", 12, 1))
LIMIT_S = 120
DRIVE = Path(__file__).resolve().parent.parent / "drive.py"


def main(run):
    def start(part):
        row, count, scale = part
        work = run.work / row
        work.mkdir()
        for library in ("shim.so", "clock.so"):
            (work / library).symlink_to(run.work / library)
        options = ["--binary", run.binary, "--work", str(work), "--count", str(count), "--seed", str(run.seed), "--scale", str(scale)]
        options += ["--old", str(run.options.old)] if run.options.old else []
        began = time.monotonic()
        try:
            done = subprocess.run([sys.executable, str(DRIVE), row, *options], capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            return row, (error.stdout or b"").decode() + f"\nnot within {LIMIT_S} s", 1, time.monotonic() - began
        return row, done.stdout + done.stderr, done.returncode, time.monotonic() - began

    with ThreadPoolExecutor(2) as pool:
        for row, text, code, took in pool.map(start, ROWS):
            print(text, end="", flush=True)
            with run.point(f"{row}, {took:.0f} s") as faults:
                if code != 0:
                    faults.append(Fault("wrong", text.strip().splitlines()[-1]))
