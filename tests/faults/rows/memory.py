"""Peak memory of the daemon (VmHWM) with everything at its default: long lists, and short answers that become large.

200,000 records of 27 MB in a cgroup of 1 GiB, where one can be made: the baseline, a change of all, and a minute later; 1,000,000 records with
`size-max` raised; an array of 16 million numbers, a CSV of two rows with a million columns, XML with 500,000 attributes.
"""

import time

from big import POLL_S, Big, Cgroup
from books import Books
from daemon import Config

MANY, VERY_MANY, FEW = 200_000, 1_000_000, 40
MANY_MIB, VERY_MANY_MIB, HOSTILE_MIB = 250, 600, 700
CGROUP_MIB, RETAINED, LATER_S = 1024, 1.3, 60
HOSTILE_S = 300


def started(run, toml, cgroup=None):
    books = Books()
    run.server.use(books)
    place = run.place()
    config = Config(run.server, books)
    config.extra = toml
    place.write(config)
    daemon = run.daemon(place)
    daemon.wrap = cgroup.wrap() if cgroup else []
    # A daemon that is killed here was killed for its memory; another try would tell nothing.
    daemon.in_a_row_max = 0
    daemon.start()
    daemon.ready()
    return daemon


def many(run):
    cgroup = Cgroup(CGROUP_MIB)
    if cgroup.reason:
        run.skip(f"no cgroup of {CGROUP_MIB} MiB can be made, it runs without one: {cgroup.reason}")
        cgroup = None
    big = Big(run.server, run.sized(MANY))
    daemon = started(run, big.toml(), cgroup)
    try:
        daemon.until(big.is_known(daemon), POLL_S, "the baseline")
        peak(run, f"baseline of {big.count:,} records", daemon, MANY_MIB)
        big.change_all()
        daemon.until(big.is_known(daemon), POLL_S, "a change of all")
        peak(run, f"a change of all {big.count:,}", daemon, MANY_MIB)
        time.sleep(LATER_S)
        later = daemon.memory("VmRSS")
        daemon.stop(60)
        daemon.start()
        daemon.until(big.is_known(daemon), POLL_S, "it starts again")
        time.sleep(10)
        anew = daemon.memory("VmRSS")
        run.check(f"{LATER_S} s later at most {RETAINED} times that of a new process", later <= RETAINED * anew, f"{later:.0f} MiB, anew {anew:.0f}")
    finally:
        run.end(daemon)
        if cgroup:
            cgroup.remove()


def very_many(run):
    big = Big(run.server, run.sized(VERY_MANY))
    daemon = started(run, big.toml())
    try:
        daemon.until(big.is_known(daemon), POLL_S, "the baseline")
        peak(run, f"baseline of {big.count:,} records", daemon, VERY_MANY_MIB)
        big.change(range(1, FEW + 1))
        daemon.until(big.is_known(daemon), POLL_S, "a change of a few")
        peak(run, f"a change of {FEW} of {big.count:,}", daemon, VERY_MANY_MIB)
    finally:
        run.end(daemon)


def peak(run, name, daemon, limit_mib):
    mib = daemon.memory("VmHWM")
    run.check(f"{name}: peak at most {limit_mib} MiB", mib <= limit_mib, f"{mib:.0f} MiB")


def hostile(run, name, body, content_type):
    """Taken, or refused with an error that says why; the daemon goes on."""
    run.server.documents["hostile"] = (body, content_type, '"1"')
    toml = f'[bridge.hostile]\nevery = "1s"\nto = ["app"]\nalert.after = 1000000\nsource.http.url = "{run.server.origin}/api/hostile"\n'
    daemon = started(run, toml)
    try:
        bridge = daemon.until(lambda: decided(daemon), HOSTILE_S, "it is taken or refused")
        seen = "taken" if bridge["state"] == "ok" else bridge["last_error"]
        run.check(f"{name}, {len(body) / 1e6:.0f} MB: taken or refused", bool(seen), seen[:200])
        peak(run, name, daemon, HOSTILE_MIB)
    finally:
        run.end(daemon)


def decided(daemon):
    bridge = ((daemon.status() or {}).get("bridges") or {}).get("hostile", {})
    return bridge if bridge.get("state") in ("ok", "failing") and not bridge.get("polling") else None


def main(run):
    columns, attributes = run.sized(1_000_000), run.sized(500_000)
    ones = b"[" + b",".join([b"1"] * run.sized(16_000_000)) + b"]"
    header = b",".join(b"c%d" % n for n in range(columns))
    csv = header + b"\n" + b",".join([b"1"] * columns) + b"\n"
    xml = b"<root " + b" ".join(b'a%d="1"' % n for n in range(attributes)) + b"/>"
    for name, work in (
        ("200,000 records", lambda: many(run)),
        ("1,000,000 records", lambda: very_many(run)),
        ("numbers", lambda: hostile(run, "an array of numbers", ones, "application/json")),
        ("CSV", lambda: hostile(run, f"a CSV of 2 x {columns:,}", csv, "text/csv")),
        ("XML", lambda: hostile(run, f"XML with {attributes:,} attributes", xml, "application/xml")),
    ):
        run.whole(name, work)
