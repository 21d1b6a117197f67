"""`was` on a bridge of 1,000,000 records and on an endpoint with 1,000,000 waiting events: under the new name within a second of the reload; and
killed anywhere, taken back or not, with nothing lost or doubled afterwards."""

import time

import shim
from big import POLL_S, Big
from books import Books, Fault
from daemon import Config
from rows.moves import stored
from run import Missed

RECORDS, WITHIN_S, KILL_POINTS = 1_000_000, 1.0, 10
CHANGED, LOTS = 40, 5


class Names:
    """What the bridge and the endpoint are called, and were."""

    def __init__(self, bridge="big", endpoint="sink", bridge_was=None, endpoint_was=None):
        self.bridge, self.endpoint, self.bridge_was, self.endpoint_was = bridge, endpoint, bridge_was, endpoint_was

    def write(self, big, config, place):
        toml = big.toml(self.bridge, more=f'was = "{self.bridge_was}"\n' if self.bridge_was else "")
        toml = toml.replace('"sink"', f'"{self.endpoint}"').replace("[endpoint.sink]", f"[endpoint.{self.endpoint}]")
        if self.endpoint_was:
            toml = toml.replace("enabled = false", f'enabled = false\nwas = "{self.endpoint_was}"')
        config.extra = toml
        place.write(config)


def main(run):
    books = Books()
    run.server.use(books)
    place = run.place()
    config = Config(run.server, books)
    big = Big(run.server, run.sized(RECORDS))
    Names().write(big, config, place)
    at = run.shim(place)
    daemon = run.daemon(place, at)

    def work():
        daemon.start()
        daemon.until(big.is_known(daemon), POLL_S, "the baseline")
        for first in range(LOTS):
            # Not all at once: that is for the rows about memory and time.
            big.change(range(first + 1, big.count + 1, LOTS))
            daemon.until(big.is_known(daemon), POLL_S, "a change of a part")
        timed(run, big, config, daemon, "bridge", Names("big2", "sink", "big"), lambda s: s["bridges"].get("big2", {}).get("records") == big.count)
        timed(run, big, config, daemon, "endpoint", Names("big2", "sink2", None, "sink"), lambda s: s["endpoints"].get("sink2", {}).get("waiting") == big.count)
        Names("big", "sink", "big2", "sink2").write(big, config, place)
        daemon.reload()
        as_before(big, daemon)
        daemon.stop(120)
        point = 0
        while run.left_s() > 0 and point < 3 * KILL_POINTS and run.points < KILL_POINTS + 2:
            point += 1
            random = run.random(point)
            back, which = random.random() < 0.5, random.choice(("bridge", "endpoint"))
            with run.point(f"{point}: killed while the {which} moves, {'taken back' if back else 'the file kept'}") as faults:
                killed(run, random, big, config, daemon, at, which, back, faults)

    try:
        run.whole("a million under another name", work)
    finally:
        run.end(daemon)


def as_before(big, daemon):
    """Waits until both have the names that they began with."""

    def both():
        waiting = (daemon.status() or {"endpoints": {}})["endpoints"].get("sink", {}).get("waiting")
        return waiting == big.sequence and big.is_known(daemon)()

    daemon.until(both, POLL_S, "both have their old names")


def timed(run, big, config, daemon, what, names, moved):
    names.write(big, config, daemon.place)
    began = time.monotonic()
    daemon.reload()
    daemon.until(lambda: moved(daemon.status() or {"bridges": {}, "endpoints": {}}), POLL_S, f"the {what} has its new name")
    took = time.monotonic() - began
    run.check(f"{what} of {big.count:,}: under its new name within {WITHIN_S:.0f} s of the reload", took <= WITHIN_S, f"{took:.2f} s")


def killed(run, random, big, config, daemon, at, which, back, faults):
    names = Names("other", "sink", "big") if which == "bridge" else Names("big", "other", None, "sink")
    by_reload = random.random() < 0.7
    if by_reload:
        daemon.start()
        daemon.ready(POLL_S)
    names.write(big, config, daemon.place)
    # A program that moves rows has many calls, one that moves a name few.
    at.arm(shim.CHANGES, random.randint(1, random.choice((8, 60, 400))), random.choice(shim.KILLS))
    daemon.reload() if by_reload else daemon.start()
    end = time.monotonic() + 60
    while daemon.alive() and time.monotonic() < end:
        time.sleep(0.01)
    fired = not daemon.alive()
    at.disarm()
    daemon.kill()
    where = "other" if which == "bridge" else "big"
    if back:
        Names().write(big, config, daemon.place)
        status = stored(daemon)
        if which == "bridge" and not status["bridges"].get("big", {}).get("records"):
            Names(bridge_was="other").write(big, config, daemon.place)
        if which == "endpoint" and not status["endpoints"].get("sink", {}).get("waiting"):
            Names(endpoint_was="other").write(big, config, daemon.place)
        where = "big"
    # All are known: what changes now is updated, and nothing is created.
    before = big.sequence
    big.change(random.sample(range(1, big.count + 1), CHANGED))
    daemon.start()
    try:
        daemon.until(lambda: daemon.get(f"/api/bridges/{where}"), POLL_S, "it starts")
        daemon.until(big.is_known(daemon, where), 120, lambda: f"{CHANGED} changes after #{before}: {(daemon.status() or {}).get('bridges')}")
        queue = names.endpoint if which == "endpoint" and not back else "sink"
        waiting = daemon.status()["endpoints"].get(queue, {}).get("waiting")
        if waiting != big.sequence:
            faults.append(Fault("lost", f"{waiting} events wait for {queue}, not {big.sequence}"))
    finally:
        # Back to the names that the next point begins with.
        if not back:
            (Names(bridge_was="other") if which == "bridge" else Names(endpoint_was="other")).write(big, config, daemon.place)
            daemon.reload()
            as_before(big, daemon)
        daemon.stop(120)
    if not fired:
        raise Missed
