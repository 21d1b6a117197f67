"""Part node-red: more than a thousand events to a flow of Node-RED, which is killed and started again in the middle.

The flow appends each request to a file and answers 200 some time after that, so the file is what Node-RED has: an event that is in it twice is
one whose answer was lost.
"""

import json
import os
import shutil
from collections import Counter

from harness import (
    HERE,
    PACKAGES,
    START_LIMIT_S,
    GaveUp,
    Upstream,
    bellpull,
    call,
    check,
    check_stop,
    free_port,
    lines_of,
    new_secret,
    start,
    start_daemon,
    status_of,
    stop,
    tail,
    wait_for,
    write_secret,
)

INSTALLED = PACKAGES / "node-red"
FLOW = HERE / "node-red"
RECORDS = 100
ROUNDS = 9  # in each of them every record changes
DELETED = 40  # at the end, and created again
EVENTS = RECORDS * (1 + ROUNDS) + 2 * DELETED
KILLED_IN_ROUND = 5
DELIVER_LIMIT_S = 120


class NodeRed:
    """One Node-RED on one port, as often as it is started."""

    def __init__(self, directory):
        self.name = f"{directory.name}-server"
        self.home = directory / "home"
        self.home.mkdir()
        for file in ("flows.json", "settings.js"):
            shutil.copy(FLOW / file, self.home)
        self.ledger = directory / "ledger.jsonl"
        self.port = free_port()
        self.process = None

    def start(self):
        env = {**os.environ, "PORT": str(self.port), "LEDGER": str(self.ledger)}
        argv = ["node", INSTALLED / "node_modules/node-red/red.js", "--userDir", self.home, "--settings", self.home / "settings.js"]
        self.process = start(self.name, argv, cwd=self.home, env=env)

        def ready():
            if self.process.poll() is not None:
                raise GaveUp(f"Node-RED ended with {self.process.returncode}:\n{tail(self.name)}")
            return call("GET", f"http://127.0.0.1:{self.port}/ready")[0] == 200

        wait_for("Node-RED answers", ready, 2 * START_LIMIT_S)

    def kill(self):
        """As a crash would end it: what it is about to answer is not answered."""
        self.process.kill()
        stop(self.process)


def run(directory):
    server = NodeRed(directory)
    server.start()
    held = {number: {"id": number, "round": 0, "note": f"Nº {number} ✓"} for number in range(1, RECORDS + 1)}
    upstream = Upstream(list(held.values()))
    secret = write_secret(directory, "node-red.secret", new_secret())
    config = directory / "bridges.toml"
    config.write_text(
        f'[daemon]\nstate-dir = "{directory}/state"\n\n[network]\nallow = ["127.0.0.0/8"]\n\n'
        '[bridge.records]\nevery = "100ms"\nitems = ".[]"\nkey = ".id"\nfirst-poll = "emit"\nto = ["node-red"]\n'
        f'guard = {{ deletes = 1.0, changes = 1.0 }}\nsource.http.url = "{upstream.url}"\n\n'
        f'[endpoint.node-red]\nurl = "http://127.0.0.1:{server.port}/hook"\nsign.standard.secrets = [{{ file = "{secret}" }}]\n'
        'retry.schedule = ["300ms", "300ms", "500ms", "1s"]\n'
    )
    daemon = start_daemon(directory, config)

    def seen_by_a_poll():
        """A poll that began after the last `put` is over when the next but one is answered."""
        asked = upstream.asked
        wait_for("the next polls", lambda: upstream.asked >= asked + 3)

    def put():
        upstream.put(list(held.values()))
        seen_by_a_poll()

    seen_by_a_poll()
    for turn in range(1, ROUNDS + 1):
        for number, record in held.items():
            held[number] = record | {"round": turn, "total": number * turn}
        if turn == KILLED_IN_ROUND:
            before = len(lines_of(server.ledger))
            upstream.put(list(held.values()))
            wait_for("the round arrives", lambda: len(lines_of(server.ledger)) > before + RECORDS // 4)
            server.kill()
            print(f"  killed Node-RED after {len(lines_of(server.ledger))} requests", flush=True)
            seen_by_a_poll()
        else:
            put()
        if turn == KILLED_IN_ROUND + 1:
            # The daemon has polled on, and two rounds wait.
            waiting = json.loads(bellpull(config, "status", "--json").stdout)["endpoints"]["node-red"]
            check("node-red: events wait while it is away", waiting["waiting"] > RECORDS, waiting)
            server.start()
            print("  started Node-RED again", flush=True)
    gone = {number: held.pop(number) for number in range(1, DELETED + 1)}
    put()
    held |= gone
    put()

    def ids():
        return {line["id"] for line in lines_of(server.ledger)}

    try:
        wait_for(f"{EVENTS} events arrived", lambda: len(ids()) >= EVENTS, DELIVER_LIMIT_S)
    except GaveUp as reason:
        print(f"  {reason}; comparing what is there", flush=True)
    wait_for("nothing waits", lambda: json.loads(bellpull(config, "status", "--json").stdout)["endpoints"]["node-red"]["waiting"] == 0)
    check("node-red: the bridge holds what the server shows", status_of(config, "records").get("records") == RECORDS)
    check_ledger(lines_of(server.ledger), held, config)
    check_stop(daemon, config, "records")
    upstream.close()
    stop(server.process)


def check_ledger(lines, held, config):
    first = {}  # id: its first line
    for line in lines:
        first.setdefault(line["id"], line)
    events = [line["event"]["data"] | {"type": line["event"]["type"]} for line in first.values()]
    print(f"  {len(lines)} requests, {len(first)} ids, {len(lines) - len(first)} of them came again", flush=True)
    sequences = sorted(event["sequence"] for event in events)
    check(f"node-red: none of the {EVENTS} events is lost, and there is no other", sequences == list(range(1, EVENTS + 1)), len(sequences))
    kinds = Counter(event["type"].rpartition(".")[2] for event in events)
    wanted = {"created": RECORDS + DELETED, "updated": RECORDS * ROUNDS, "deleted": DELETED}
    check(f"node-red: they are {wanted}", kinds == wanted, dict(kinds))

    twice = {line_id for line_id, count in Counter(line["id"] for line in lines).items() if count > 1}
    answer = bellpull(config, "--json", "deliveries", "--endpoint", "node-red", "--limit", str(4 * EVENTS))
    unanswered = {attempt["event"] for attempt in json.loads(answer.stdout) if attempt.get("status") is None}
    check(f"node-red: what came twice ({len(twice)} ids) is what had no answer ({len(unanswered)} ids)", twice <= unanswered, twice - unanswered)
    same = all(line["event"] == first[line["id"]]["event"] for line in lines)
    check("node-red: what came twice came with the same body", same)
    check("node-red: attempts did meet a Node-RED that was away", unanswered, len(lines))

    last, wrong = {}, []
    for line in lines:
        data = line["event"]["data"]
        number, line_id = last.get(data["key"], (0, None))
        if data["sequence"] < number or (data["sequence"] == number and line["id"] != line_id):
            wrong.append((data["key"], number, data["sequence"]))
        last[data["key"]] = (data["sequence"], line["id"])
    check(f"node-red: the events of each of the {len(last)} records came in their order", not wrong and len(last) == RECORDS, wrong[:5])
    rebuilt = {}
    for line in lines:  # as they arrived: whoever applies them so ends with the list
        data = line["event"]["data"]
        if "after" in data:
            rebuilt[int(data["key"])] = data["after"]
        else:
            rebuilt.pop(int(data["key"]), None)
    check("node-red: applied as they came they give the server's list", rebuilt == held, len(rebuilt))


def versions():
    """{what: version}, as far as it is installed."""
    package = INSTALLED / "node_modules/node-red/package.json"
    return {"node-red (npm)": json.loads(package.read_text())["version"]} if package.exists() else {}
