"""Starts the servers, the receivers and bellpull, changes the data, and compares what arrived with what was changed.

Usage: python3 drive.py BELLPULL PACKAGES WORK_DIR      (run.sh calls it; PYTHONPATH holds PACKAGES/python)

Every expectation is one named, counted check; the last line reads `N passed, F failed, S skipped`, and the exit code is 1 unless F is 0.
Nothing here sleeps for a fixed time and hopes: each wait polls a condition and gives up after its own limit.
"""

import copy
import hashlib
import hmac
import base64
import http.client
import json
import os
import platform
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections import Counter
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import jsonpatch
from standardwebhooks.webhooks import Webhook

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

def start(name, argv, cwd=None):
    """A child in this process group; its output goes to WORK/name.log."""
    log = open(WORK / f"{name}.log", "wb")
    child = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
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


# ---------------------------------------------------------------- receivers

def new_secret():
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def write_secret(directory, name, secret):
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(secret + "\n")
    return path


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
        if not self.ledger.exists():
            return []
        text = self.ledger.read_text()
        # Not splitlines(): it also splits at U+2028, which JSON lets stand inside a string. The last piece is empty or half written.
        return [json.loads(line) for line in text.split("\n")[:-1]]

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


def check_events(part, bridge, receivers, expected):
    """`expected`: {(key, type): (before or None, after or None)}. Returns the events of the first receiver by (key, type)."""
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
            if data["bridge"] != bridge or data.get("before") != before or data.get("after") != after:
                wrong.append(line["body"][:300])
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


# ---------------------------------------------------------------- part A

def part_a(directory):
    """A list that changes: json-server, three pages through Link headers."""
    server_log = f"{directory.name}-json-server"
    base = [
        {"id": number, "customer": f"c{number % 7}", "status": "open", "total": number * 3, "lines": [{"sku": f"s{number}", "count": 1}]}
        for number in range(1, 26)
    ]
    (directory / "db.json").write_text(json.dumps({"orders": base}))
    port = free_port()
    argv = [PACKAGES / "node_modules/.bin/json-server", "--host", "127.0.0.1", "--port", str(port), "--no-gzip", directory / "db.json"]
    server = start(server_log, argv, cwd=directory)
    orders = f"http://127.0.0.1:{port}/orders"

    def serves():
        if server.poll() is not None:
            raise GaveUp(f"json-server ended with {server.returncode}:\n{tail(server_log)}")
        return call("GET", orders)[0] == 200

    wait_for("json-server answers", serves, START_LIMIT_S)
    receivers = start_receivers(directory)

    def walks_begun():
        text = re.sub(r"\x1b\[[0-9;]*m", "", (WORK / f"{server_log}.log").read_text())
        return len(re.findall(r"^GET /orders\?_page=1&_limit=10 200", text, re.MULTILINE))

    bridge = f"""[bridge.orders]
every = "300ms"
items = ".[]"
key = ".id"
to = @TO@
[bridge.orders.source.http]
url = "{orders}?_page=1&_limit=10"
pages.link = {{}}
"""
    config = write_config(directory, bridge, receivers)
    daemon = start_daemon(directory, config)
    # A walk never overlaps the one before it: when the second begins, the first has been accepted.
    wait_for("the baseline is taken", lambda: walks_begun() >= 2)
    text = re.sub(r"\x1b\[[0-9;]*m", "", (WORK / f"{server_log}.log").read_text())
    pages = [f"GET /orders?_page={page}&_limit=10 200" in text for page in (1, 2, 3)]
    check("A: the walk followed the Link headers to all three pages", all(pages), pages)
    check("A: the baseline was silent", not any(receiver.lines() for receiver in receivers))

    print("  changing: 5 created, 5 patched, 4 deleted", flush=True)
    held = {record["id"]: record for record in base}
    expected = {}
    for number in range(26, 31):
        record = {"id": number, "customer": "new", "status": "open", "total": number, "lines": [], "note": "Grüße, 你好 ✓ \u2028"}
        status, _, body = call("POST", orders, record)
        if status != 201 or json.loads(body) != record:
            raise GaveUp(f"json-server did not create {number}: {status}")
        expected[str(number), "created"] = (None, record)
    patches = {
        2: {"status": "paid"},
        9: {"total": 0.5, "lines": []},
        13: {"lines": [{"sku": "s13", "count": 2}, {"sku": "extra/slash~tilde", "count": 1}]},
        20: {"customer": None},
        25: {"added": {"deep": [1, {"er": True}]}},
    }
    for number, patch in patches.items():
        status, _, body = call("PATCH", f"{orders}/{number}", patch)
        if status != 200:
            raise GaveUp(f"json-server did not patch {number}: {status}")
        expected[str(number), "updated"] = (held[number], json.loads(body))
    for number in (1, 10, 11, 24):
        status = call("DELETE", f"{orders}/{number}")[0]
        if status != 200:
            raise GaveUp(f"json-server did not delete {number}: {status}")
        expected[str(number), "deleted"] = (held[number], None)

    try:
        wait_for("all changes arrived", lambda: all(len(receiver.lines()) >= len(expected) for receiver in receivers))
    except GaveUp as reason:
        print(f"  {reason}; comparing what is there", flush=True)
    # Three more walks, so that anything sent twice has had its chance.
    seen = walks_begun()
    wait_for("three more walks", lambda: walks_begun() >= seen + 3)

    now = {record["id"]: record for record in json.loads(call("GET", orders)[2])}
    believed = dict(held)
    for (key, kind), (_, after) in expected.items():
        if kind == "deleted":
            del believed[int(key)]
        else:
            believed[int(key)] = after
    check("A: json-server holds what this script changed it to", now == believed, sorted(now))
    check_events("A", "orders", receivers, expected)
    # The whole ledger replayed over the old list is the new list.
    for receiver in receivers:
        rebuilt = dict(held)
        lines = [json.loads(line["body"]) for line in receiver.lines() if line["verified"]]
        for event in sorted(lines, key=lambda event: event["data"]["sequence"]):
            if "after" in event["data"]:
                rebuilt[int(event["data"]["key"])] = event["data"]["after"]
            else:
                rebuilt.pop(int(event["data"]["key"]), None)
        check(f"A, {receiver.name}: the events applied to the old list give json-server's list", rebuilt == now, sorted(rebuilt))
    check_stop(daemon, config, "orders")
    for process in [server, *(receiver.process for receiver in receivers)]:
        stop(process)


# ---------------------------------------------------------------- part B

RECORDED = "node_modules/@octokit/fixtures/scenarios/api.github.com/paginate-issues/normalized-fixture.json"
RECORDED_TOKEN = "0000000000000000000000000000000000000001"
RECORDED_ACCEPT = "application/vnd.github.v3+json"


def part_b(directory):
    """Recorded GitHub answers: five pages, exact paths, order and headers insisted on."""
    port_file, request_log = directory / "server.port", directory / "requests.jsonl"
    server = start(f"{directory.name}-fixtures-server", ["node", PACKAGES / "fixtures-server.mjs", port_file, request_log])
    origin = f"http://127.0.0.1:{port_from(server, port_file)}"

    def requests(session_url):
        """(path, status) of what was asked of one session, in order."""
        prefix = "/" + session_url.split("/", 3)[3]
        lines = [json.loads(line) for line in request_log.read_text().splitlines()] if request_log.exists() else []
        return [(line["url"].removeprefix(prefix), line["status"]) for line in lines if line["url"].startswith(f"{prefix}/")]

    github = {"accept": RECORDED_ACCEPT, "authorization": f"token {RECORDED_TOKEN}"}

    def session():
        status, _, body = call("POST", f"{origin}/fixtures", {"scenario": "paginate-issues"})
        if status != 201:
            raise GaveUp(f"the fixtures server has no session for us: {status} {body[:200]}")
        return json.loads(body)["url"]

    # A session of its own is spent on this question; each answer is served once.
    _, headers, _ = call("GET", f"{session()}/repos/octokit-fixture-org/paginate-issues/issues?per_page=3", headers=github)
    links = re.findall(r"<([^>]*)>", headers.get("link", ""))
    check("B: the server's Link headers stay on its own origin", links and all(link.startswith(origin + "/") for link in links), links)
    status = call("GET", f"{session()}/repos/octokit-fixture-org/paginate-issues/issues?per_page=3", headers={"accept": "*/*"})[0]
    check("B: the server refuses a request without the recorded headers", status == 404, status)

    url = session()
    fixture_id = url.rpartition("/")[2]
    recorded_dirs = sorted(PACKAGES.glob(f"**/{RECORDED}"), key=lambda path: len(path.parts))
    # The server's own copy of the fixtures, should npm have installed two.
    recorded_file = next((path for path in recorded_dirs if "fixtures-server" in str(path.relative_to(PACKAGES))), recorded_dirs[0])
    pages = json.loads(recorded_file.read_text())
    moved = re.sub(r"https?://([^/\"]+)/", rf"{origin}/\1/{fixture_id}/", json.dumps([page["response"] for page in pages]))
    issues = [issue for page in json.loads(moved) for issue in page]
    expected = {(str(issue["id"]), "created"): (None, issue) for issue in issues}
    check("B: 13 issues on 5 pages are recorded", (len(issues), len(pages)) == (13, 5), (len(issues), len(pages)))

    receivers = start_receivers(directory)
    token = write_secret(directory, "github-token", RECORDED_TOKEN)
    bridge = f"""[bridge.issues]
every = "1h"
items = ".[]"
key = ".id"
first-poll = "emit"
to = @TO@
[bridge.issues.source.http]
url = "{url}/repos/octokit-fixture-org/paginate-issues/issues?per_page=3"
headers = {{ accept = "{RECORDED_ACCEPT}" }}
auth.header = {{ name = "authorization", prefix = "token ", value = {{ file = "{token}" }} }}
pages.link = {{}}
"""
    config = write_config(directory, bridge, receivers)
    daemon = start_daemon(directory, config)
    try:
        wait_for("bellpull polls by itself", lambda: requests(url), 3)
        print("  the bridge was due at once", flush=True)
    except GaveUp:
        # The first poll of an interval of 1h is spread over that hour.
        print("  the bridge is due later; bellpull poll issues", flush=True)
        polled = bellpull(config, "poll", "issues")
        check("B: bellpull poll issues ends with 0", polled.returncode == 0, polled.stdout + polled.stderr)
    try:
        wait_for("all issues arrived", lambda: all(len(receiver.lines()) >= len(expected) for receiver in receivers))
    except GaveUp as reason:
        print(f"  {reason}; comparing what is there", flush=True)

    wanted = [page["path"] for page in pages]
    asked = requests(url)
    check("B: the five recorded requests, in their order, each answered with 200", asked == [(path, 200) for path in wanted], asked)
    # 404 with "not found": a session whose answers are all consumed is gone.
    status, _, body = call("GET", f"{url}/repos/octokit-fixture-org/paginate-issues/issues?per_page=3", headers=github)
    check("B: the server has nothing left to serve", status == 404 and b"not found" in body, (status, body[:200]))
    check_events("B", "issues", receivers, expected)
    check_stop(daemon, config, "issues")
    for process in [server, *(receiver.process for receiver in receivers)]:
        stop(process)


# ---------------------------------------------------------------- the run

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
    for name, version in rows.items():
        print(f"  {name:32}{version}")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Fails here, with one clear line, when the library that the receiver uses cannot read a secret of ours.
    Webhook(new_secret())
    try:
        for title, part in [
            ("A: json-server 0.17, a list of 25 on three pages that changes", part_a),
            ("B: @octokit/fixtures-server, recorded GitHub issues on five pages", part_b),
        ]:
            print(title, flush=True)
            directory = WORK / title[0].lower()
            directory.mkdir()
            try:
                part(directory)
            except Exception as reason:  # a missing field, an odd answer: a failed check, and the next part still runs
                check(f"{title[0]}: runs to its end", False, f"{type(reason).__name__}: {reason}")
                if not isinstance(reason, GaveUp):
                    traceback.print_exc(file=sys.stdout)
                if (WORK / f"{directory.name}-bellpull.log").exists():
                    print("  bellpull's last lines:\n" + tail(f"{directory.name}-bellpull"))
            while processes:
                stop(processes[-1])
    finally:
        while processes:
            stop(processes[-1])
    versions()
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
