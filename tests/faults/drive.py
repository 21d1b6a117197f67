"""drive.py ROW: run.sh starts it, and says how."""

import argparse
import importlib
import resource
import sys
import time
from pathlib import Path

from run import Run

# Points where nothing is said, and the row's limit in seconds.
ROWS = {
    "errors": (1000, 7200),
    "failed-sync": (200, 3600),
    "power": (2000, 7200),
    "kill": (2000, 7200),
    "full": (50, 3600),
    "big-open": (20, 7200),
    "conf": (100, 1200),
    "clock": (24, 1200),
    "memory": (1, 7200),
    "stall": (1, 7200),
    "rename": (1, 7200),
    "planted": (1, 1200),
    "walks": (6000, 900),
    "quick": (1, 300),
    "old": (1, 60),
}
QUICK_SEED = 1


def main():
    parser = argparse.ArgumentParser(prog="run.sh")
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    count, options.limit = ROWS[options.row]
    options.count = options.count or count
    if options.seed is None:
        options.seed = QUICK_SEED if options.row == "quick" else time.time_ns() % 1_000_000
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run = Run(options.row, options)
    print(f"{options.row}: {f'{options.count} points, ' if options.count > 1 else ''}seed {options.seed}", flush=True)
    try:
        importlib.import_module(f"rows.{options.row.replace('-', '_')}").main(run)
    finally:
        if run.life:
            run.life.kill()
    return 0 if run.tell() else 1


if __name__ == "__main__":
    sys.exit(main())
