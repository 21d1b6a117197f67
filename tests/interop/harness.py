"""What every part uses: checks, child processes, the two receivers, the daemon, and what every event must be.

drive.py BELLPULL PACKAGES WORK_DIR ... is the program; this module reads the same arguments.
Every expectation is one named, counted check. Nothing here sleeps for a fixed time and hopes: each wait polls a condition and gives up after
its own limit.
"""

import base64
import copy
import hashlib
import hmac
import http.client
import json
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonpatch

HERE = Path(__file__).resolve().parent
BELLPULL, PACKAGES, WORK = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

START_LIMIT_S = 15  # for a server or the daemon to come up
ARRIVE_LIMIT_S = 30  # for changes to be seen and delivered
STOP_LIMIT_S = 25  # daemon.shutdown-grace is 20 s
CALL_LIMIT_S = 10  # for one HTTP request or one bellpull command
LOOK_EVERY_S = 0.05

processes = []
passed, failed, skipped = [], [], []


class GaveUp(Exception):
    """A step that the following ones need did not happen."""


# ---------------------------------------------------------------- checks

def check(name, holds, seen=None):
    """Counts one expectation; `seen` is shown when it does not hold."""
    (passed if holds else failed).append(name)
    print(f"  {'ok    ' if holds else 'FAILED'}  {name}", flush=True)
    if not holds and seen is not None:
        print(f"          seen: {str(seen)[:600]}", flush=True)
    return holds


def wait_for(what, condition, limit_s=ARRIVE_LIMIT_S):
    """What `condition` returns once that is true-ish; GaveUp after `limit_s`."""
    until = time.monotonic() + limit_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > until:
            raise GaveUp(f"{what}: not within {limit_s} s")
        time.sleep(LOOK_EVERY_S)


# ---------------------------------------------------------------- processes

def start(name, argv, cwd=None, env=None):
    """A child in this process group; its output goes to WORK/name.log."""
    with open(WORK / f"{name}.log", "ab") as log:
        child = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    child.name = name
    processes.append(child)
    return child


def stop(child, limit_s=5):
    """The exit code after SIGTERM; None when it had to be killed."""
    if child in processes:
        processes.remove(child)
    if child.poll() is None:
        child.terminate()
    try:
        return child.wait(limit_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_from(child, file):
    def ready():
        if child.poll() is not None:
            raise GaveUp(f"{child.name} ended with {child.returncode}:\n{tail(child.name)}")
        return file.exists() and int(file.read_text())

    return wait_for(f"{child.name} listens", ready, START_LIMIT_S)


def tail(name, lines=25):
    return "\n".join((WORK / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])


def call(method, url, data=None, headers=None):
    """(status, headers, body) of one request, whatever the status; nothing is raised for 4xx and 5xx."""
    body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=CALL_LIMIT_S) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
    except (OSError, http.client.HTTPException):
        return None, {}, b""


def bellpull(config, *arguments):
    argv = [BELLPULL, "--config", str(config), *arguments]
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=CALL_LIMIT_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"no answer within {CALL_LIMIT_S} s")


# ---------------------------------------------------------------- a list to poll

class Upstream:
    """A list of records as JSON on a free port, from Python's http.server, in this process. `asked` counts the answers."""

    def __init__(self, records):
        self.put(records)
        self.asked = 0
        upstream = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = upstream.body
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                upstream.asked += 1

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/records"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, records):
        """Replaces the list whole, so that a poll sees all of a change or none."""
        self.body = json.dumps(records).encode()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


# ---------------------------------------------------------------- receivers

def new_secret():
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def write_secret(directory, name, secret):
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(secret + "\n")
    return path


def lines_of(ledger):
    """The JSON lines that a receiver wrote so far."""
    if not ledger.exists():
        return []
    # Not splitlines(): it also splits at U+2028, which JSON lets stand inside a string. The last piece is empty or half written.
    return [json.loads(line) for line in ledger.read_text(encoding="utf-8").split("\n")[:-1]]


class Receiver:
    """One of the two, with its own secret and ledger. `signing` lists the secret files for bellpull, in signing order."""

    def __init__(self, name, argv, directory, rotated):
        self.name = name
        self.secret = new_secret()
        self.ledger = directory / f"{name}.jsonl"
        secret_file = write_secret(directory, f"{name}.secret", self.secret)
        self.signing = [secret_file]
        if rotated:
            # The receiver still has the old secret: bellpull must send both signatures.
            self.signing.insert(0, write_secret(directory, f"{name}.new-secret", new_secret()))
        port_file = directory / f"{name}.port"
        self.process = start(f"{directory.name}-receiver-{name}", [*argv, port_file, self.ledger, secret_file])
        self.url = f"http://127.0.0.1:{port_from(self.process, port_file)}/hook"

    def lines(self):
        return lines_of(self.ledger)

    def toml(self):
        files = ", ".join(f'{{ file = "{path}" }}' for path in self.signing)
        return f'[endpoint.{self.name}]\nurl = "{self.url}"\nsign.standard.secrets = [{files}]\n'

    def prove_it_refuses(self):
        """Signed by hand: accepted. One byte flipped: refused. So a pass below means something."""
        body = b'{"type":"by.hand","timestamp":"2026-11-22T11:42:55.123Z","data":{}}'
        timestamp = str(int(time.time()))
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        digest = hmac.new(key, f"msg_by_hand.{timestamp}.".encode() + body, hashlib.sha256).digest()
        headers = {
            "webhook-id": "msg_by_hand",
            "webhook-timestamp": timestamp,
            "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        }
        good = call("POST", self.url, body, headers)[0]
        flipped = call("POST", self.url, body.replace(b"hand", b"hanc"), headers)[0]
        check(f"receiver {self.name}: a request signed by hand is accepted", good == 204, good)
        check(f"receiver {self.name}: the same request with one byte changed is refused", flipped == 400, flipped)
        ledger = [line["verified"] for line in self.lines()]
        check(f"receiver {self.name}: its ledger says so", ledger == [True, False], ledger)
        self.ledger.unlink(missing_ok=True)


def start_receivers(directory):
    receivers = [
        Receiver("py", [sys.executable, HERE / "receiver.py"], directory, rotated=True),
        Receiver("node", ["node", PACKAGES / "receiver.mjs"], directory, rotated=False),
    ]
    for receiver in receivers:
        receiver.prove_it_refuses()
    return receivers


# ---------------------------------------------------------------- the daemon

def write_config(directory, bridge, receivers):
    config = directory / "bridges.toml"
    names = ", ".join(f'"{receiver.name}"' for receiver in receivers)
    config.write_text(
        f'[daemon]\nstate-dir = "{directory}/state"\n\n'
        '[network]\n# Everything here is on loopback, which is refused unless it is allowed.\nallow = ["127.0.0.0/8", "::1/128"]\n\n'
        + bridge.replace("@TO@", f"[{names}]")
        + "\n"
        + "\n".join(receiver.toml() for receiver in receivers)
    )
    return config


def start_daemon(directory, config):
    checked = bellpull(config, "check")
    check("bellpull check accepts the file", checked.returncode == 0, checked.stdout + checked.stderr)
    daemon = start(f"{directory.name}-bellpull", [BELLPULL, "--config", str(config), "run"])

    def up():
        if daemon.poll() is not None:
            raise GaveUp(f"bellpull ended with {daemon.returncode}")
        return bellpull(config, "status", "--json").returncode == 0

    wait_for("bellpull answers status", up, START_LIMIT_S)
    return daemon


def status_of(config, bridge):
    """What `status --json` says of one bridge; {} when it says nothing."""
    answer = bellpull(config, "status", "--json")
    return json.loads(answer.stdout)["bridges"].get(bridge, {}) if answer.returncode == 0 else {}


def check_stop(daemon, config, bridge):
    status = bellpull(config, "status", "--json")
    try:
        json.loads(status.stdout)
        shown = bridge in status.stdout
    except ValueError:
        shown = False
    check("status --json is JSON and names the bridge", status.returncode == 0 and shown, status.stdout + status.stderr)
    code = stop(daemon, STOP_LIMIT_S)
    check("the daemon ends with 0 on SIGTERM", code == 0, code)


# ---------------------------------------------------------------- what every event must be

TYPES = ("created", "updated", "deleted")
WEBHOOK_ID = re.compile(r"evt_[0-9A-Za-z]{1,32}")


def number_of(line):
    return line["event"]["data"]["sequence"]


def check_events(part, bridge, receivers, expected, same=lambda record: record):
    """`expected`: {(key, type): (before or None, after or None)}. Records are compared as `same` gives them."""
    per_receiver = {}
    for receiver in receivers:
        who = f"{part}, {receiver.name}"
        lines = receiver.lines()
        for line in lines:
            try:
                line["event"] = json.loads(line["body"])
            except ValueError:
                line["event"] = {}
        refused = [line["error"] for line in lines if not line["verified"]]
        check(f"{who}: every request verified ({len(lines)} of them)", lines and not refused, refused[:3] or "nothing arrived")

        odd = [line["body"][:200] for line in lines if not isinstance(line["event"].get("data", {}).get("sequence"), int)]
        if not check(f"{who}: every body is an event with a sequence", not odd, odd[:3]):
            continue
        arrived = Counter((line["event"]["data"]["key"], line["event"]["type"]) for line in lines)
        wanted = Counter((key, f"{bridge}.{kind}") for key, kind in expected)
        check(
            f"{who}: each of the {len(expected)} changes arrived exactly once, and nothing else",
            arrived == wanted,
            f"missing or too few {dict(wanted - arrived)}, unexpected or too many {dict(arrived - wanted)}",
        )
        sequences = sorted(number_of(line) for line in lines)
        check(f"{who}: sequences are 1 to {len(expected)} without a gap", sequences == list(range(1, len(expected) + 1)), sequences)
        streams = {line["event"]["data"]["stream"] for line in lines}
        check(f"{who}: one stream", len(streams) == 1, streams)
        ids = [line["headers"].get("webhook-id", "") for line in lines]
        check(
            f"{who}: webhook-id is evt_ and base62, one per event",
            len(set(ids)) == len(ids) and all(WEBHOOK_ID.fullmatch(value) for value in ids),
            ids,
        )
        shape = [
            (line["method"], line["path"], line["headers"].get("content-type"), line["headers"].get("user-agent"))
            for line in lines
            if (line["method"], line["path"]) != ("POST", "/hook")
            or not line["headers"].get("content-type", "").startswith("application/json")
            or not line["headers"].get("user-agent", "").startswith("bellpull/")
            or line["headers"].get("bellpull-attempt") != "1"
        ]
        check(f"{who}: POST, application/json, user-agent bellpull/, first attempt", not shape, shape[:3])
        signatures = {len(line["headers"].get("webhook-signature", "").split(" ")) for line in lines}
        check(f"{who}: {len(receiver.signing)} signature(s) per request", signatures == {len(receiver.signing)}, signatures)

        wrong = []
        for line in lines:
            data = line["event"]["data"]
            kind = line["event"]["type"].rpartition(".")[2]
            before, after = expected.get((data["key"], kind), (None, None))
            told = [None if record is None else same(record) for record in (data.get("before"), data.get("after"), before, after)]
            if data["bridge"] != bridge or told[:2] != told[2:]:
                wrong.append(f"{line['body'][:700]} instead of {json.dumps([before, after])[:700]}")
            elif ("before" in data) != (before is not None) or ("after" in data) != (after is not None):
                wrong.append(line["body"][:300])
        check(f"{who}: before and after are what the server held then and holds now", not wrong, wrong[:2])

        wrong = []
        for line in lines:
            data = line["event"]["data"]
            if "before" in data and "after" in data:
                patch = data.get("patch") or []
                try:
                    result = jsonpatch.apply_patch(copy.deepcopy(data["before"]), patch)
                except (jsonpatch.JsonPatchException, ValueError, TypeError) as error:
                    result = f"{type(error).__name__}: {error}"
                if not patch or result != data["after"]:
                    wrong.append((data["key"], patch, result))
        updates = sum(1 for _, kind in expected if kind == "updated")
        if updates:
            check(f"{who}: patch applied to before gives after ({updates} updates, PyPI's jsonpatch)", not wrong, wrong[:2])

        wrong = [
            line["event"].get("timestamp")
            for line in lines
            if abs((datetime.now(timezone.utc) - datetime.fromisoformat(line["event"]["timestamp"])).total_seconds()) > 120
        ]
        check(f"{who}: timestamp is RFC 3339 and now", not wrong, wrong[:3])
        per_receiver[receiver.name] = {number_of(line): (line["headers"].get("webhook-id"), line["body"]) for line in lines}

    if len(per_receiver) == len(receivers):
        first, second = per_receiver.values()
        differing = [number for number in first.keys() | second.keys() if first.get(number) != second.get(number)]
        check(f"{part}: both receivers got the same id and the same bytes for each sequence", not differing, differing)
