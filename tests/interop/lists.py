"""Parts A and B: lists over HTTP, from json-server and from GitHub's recorded answers."""

import json
import re

from harness import (
    PACKAGES,
    START_LIMIT_S,
    WORK,
    GaveUp,
    bellpull,
    call,
    check,
    check_events,
    check_stop,
    free_port,
    port_from,
    start,
    start_daemon,
    start_receivers,
    stop,
    tail,
    wait_for,
    write_config,
    write_secret,
)

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
