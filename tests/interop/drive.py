"""Starts the servers, the receivers and bellpull, changes the data, and compares what arrived with what was changed.

Usage: python3 drive.py BELLPULL PACKAGES WORK_DIR PART...      (run.sh calls it, with the installed packages on PYTHONPATH)

PART is A or B (lists.py), the name of a row of the table in sources.py, signatures, node-red or receivers (samples.py). The last line reads `N passed, F failed, S skipped`, and the exit
code is 1 unless F is 0.
"""

import json
import platform
import signal
import subprocess
import sys
import traceback
from importlib import metadata

from standardwebhooks.webhooks import Webhook

import lists
import node_red
import samples
import signatures
import sources
from harness import (
    BELLPULL,
    CALL_LIMIT_S,
    PACKAGES,
    WORK,
    GaveUp,
    check,
    failed,
    new_secret,
    passed,
    processes,
    skipped,
    stop,
    tail,
)

# name: (title, what runs it, where its servers are from)
PARTS = {
    "A": ("A: json-server 0.17, a list of 25 on three pages that changes", lists.part_a, ()),
    "B": ("B: @octokit/fixtures-server, recorded GitHub issues on five pages", lists.part_b, ()),
} | {source.name: (f"{source.name}: {source.title}", source.run, source.needs) for source in sources.SOURCES} | {
    "signatures": ("signatures: every kind of sign, verified by its vendor's libraries", signatures.run, ("PyPI-sinks", "npm-sinks")),
    "node-red": ("node-red: a thousand events to a flow that is restarted", node_red.run, ("npm-node-red",)),
    "receivers": ("receivers: the samples of docs/receiving.md", samples.run, ()),
}


def versions():
    def of_npm(name):
        return json.loads((PACKAGES / "node_modules" / name / "package.json").read_text())["version"]

    def output(*argv):
        try:
            return subprocess.run(argv, capture_output=True, text=True, timeout=CALL_LIMIT_S).stdout.strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"? ({error})"

    rows = {
        "bellpull": output(BELLPULL, "--version").removeprefix("bellpull "),
        "node": output("node", "--version").removeprefix("v"),
        "npm": output("npm", "--version", "--loglevel=silent"),
        "python": platform.python_version(),
        "json-server (npm)": of_npm("json-server"),
        "@octokit/fixtures-server (npm)": of_npm("@octokit/fixtures-server"),
        "standardwebhooks (npm)": of_npm("standardwebhooks"),
        "standardwebhooks (PyPI)": metadata.version("standardwebhooks"),
        "jsonpatch (PyPI)": metadata.version("jsonpatch"),
    }
    print("versions")
    for name, version in (rows | sources.versions() | signatures.versions() | node_red.versions() | samples.versions()).items():
        print(f"  {name:32}{version}")


def why_not(needs):
    """Why run.sh could not install what a part needs; "" when it could."""
    files = [PACKAGES / f"skipped-{name}" for name in needs]
    return "; ".join(file.read_text().strip() for file in files if file.exists())


def run_part(name):
    title, part, needs = PARTS[name]
    print(title, flush=True)
    if reason := why_not(needs):
        skipped.append(name)
        print(f"  skipped: {reason}", flush=True)
        return
    directory = WORK / name.lower()
    directory.mkdir()
    try:
        part(directory)
    except Exception as reason:  # a missing field, an odd answer: a failed check, and the next part still runs
        check(f"{name}: runs to its end", False, f"{type(reason).__name__}: {reason}")
        if not isinstance(reason, GaveUp):
            traceback.print_exc(file=sys.stdout)
        if (WORK / f"{directory.name}-bellpull.log").exists():
            print("  bellpull's last lines:\n" + tail(f"{directory.name}-bellpull"))
    while processes:
        stop(processes[-1])


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Fails here, with one clear line, when the library that the receiver uses cannot read a secret of ours.
    Webhook(new_secret())
    summary = []
    try:
        for name in sys.argv[4:]:
            before = len(passed), len(failed)
            run_part(name)
            summary.append((name, len(passed) - before[0], len(failed) - before[1]))
    finally:
        while processes:
            stop(processes[-1])
    versions()
    if len(summary) > 2:
        print("by part")
        for name, good, bad in summary:
            print(f"  {name:32}{'skipped' if name in skipped else f'{good} passed, {bad} failed'}")
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped", flush=True)
    return 1 if failed or not (passed or skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
