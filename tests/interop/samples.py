"""Part receivers: the samples of docs/receiving.md, as a developer would paste them, with real requests of the daemon.

Each runs as it stands in receivers/. bellpull delivers to it, once with its secret and once with another one; then requests that were captured
come again: as they were, with one byte changed, and with an old time under a right signature (made by PyPI's standardwebhooks).
"""

import base64
import copy
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

from standardwebhooks.webhooks import Webhook

from harness import (
    HERE,
    PACKAGES,
    START_LIMIT_S,
    WORK,
    GaveUp,
    Upstream,
    bellpull,
    call,
    check,
    check_stop,
    free_port,
    lines_of,
    new_secret,
    port_from,
    skipped,
    start,
    start_daemon,
    stop,
    wait_for,
    write_secret,
)

SAMPLES = HERE / "receivers"
PAGE = HERE.parent.parent / "docs/receiving.md"
BUILD_LIMIT_S = 240
OLD_S = 360  # the standard allows 300
# The languages of the page's blocks; what is a command there has another one.
FILES = {"python": "receive.py", "js": "receive.mjs", "bash": "receive.sh", "go": "receive.go", "rust": "receive.rs"}


class Skip(Exception):
    """Why a sample cannot be run here."""


# ---------------------------------------------------------------- how each one is run

def not_installed(name):
    file = PACKAGES / f"skipped-{name}"
    if file.exists():
        raise Skip(file.read_text().strip())


def build(argv, env):
    made = subprocess.run(argv, capture_output=True, text=True, timeout=BUILD_LIMIT_S, env={**os.environ, **env})
    check(f"receivers: {argv[0].rpartition('/')[2]} builds the sample", made.returncode == 0, made.stderr[-600:])


def python(_):
    return [sys.executable, SAMPLES / "receive.py"]


def node(_):
    return ["node", PACKAGES / "receive.mjs"]


def go(directory):
    unpacked = PACKAGES / "go/usr/lib/go"
    program = str(unpacked / "bin/go") if unpacked.exists() else shutil.which("go")
    if program is None:
        not_installed("Debian-go")
        raise Skip("go is absent")
    env = {"GOCACHE": str(PACKAGES / "go-cache"), "GOPATH": str(PACKAGES / "go-path"), "GO111MODULE": "off", "CGO_ENABLED": "0"}
    build([program, "build", "-o", str(directory / "receive-go"), str(SAMPLES / "receive.go")], env)
    return [directory / "receive-go"]


def rust(_):
    not_installed("crates.io")
    target = PACKAGES / "receive-rs"
    build(["cargo", "build", "--quiet", "--locked", "--offline", "--manifest-path", str(SAMPLES / "Cargo.toml")], {"CARGO_TARGET_DIR": str(target)})
    return [target / "debug/receive"]


def shell(directory):
    for program in ("openssl", "jq"):
        if shutil.which(program) is None:
            raise Skip(f"{program} is absent")
    (directory / "state").mkdir()
    return [SAMPLES / "receive.sh"]


class Sample:
    """One of them on a port. What it prints is what it applied."""

    def __init__(self, name, argv, secret, directory):
        self.name = name
        self.log = WORK / f"{directory.name}-{name}.log"
        env = {**os.environ, "SECRET": secret, "STATE": str(directory / "state")}
        if name == "shell":
            self.process = None
            self.server = Inetd(argv, env, self.log)
            self.port = self.server.port
        else:
            self.port = free_port()
            self.process = start(f"{directory.name}-{name}", argv, env={**env, "PORT": str(self.port)})
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def listens(self):
        if self.process and self.process.poll() is not None:
            raise GaveUp(f"{self.name} ended with {self.process.returncode}: {self.log.read_text()[-600:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def applied(self):
        """What it printed, without what a library says of the requests."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [line for line in lines if re.fullmatch(r"[a-z]+\.[a-z]+ .* \d+", line)]

    def stop(self):
        if self.process:
            stop(self.process)
        else:
            self.server.close()


class Inetd:
    """As inetd or socat: one process for each connection, which is its standard input and output."""

    def __init__(self, argv, env, log):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

        def serve():
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:  # closed
                    return
                with connection, open(log, "ab") as file:
                    subprocess.run(argv, stdin=connection, stdout=connection, stderr=file, env=env, timeout=START_LIMIT_S, check=False)

        threading.Thread(target=serve, daemon=True).start()

    def close(self):
        self.listener.close()


# ---------------------------------------------------------------- requests by hand

def signed(secret, event, at):
    """(headers, body) as the daemon would send them, signed by PyPI's standardwebhooks."""
    body = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    webhook_id = f"evt_{event['data'].get('sequence', 0)}by{at}"
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(at, timezone.utc), body)
    return {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": signature}, body.encode()


def altered(event, **data):
    event = copy.deepcopy(event)
    event["data"] |= data
    return event


def try_by_hand(sample, secret, captured):
    """Whatever is refused would have had an effect, had it been believed: its key is a new one, or its sequence higher."""
    who = f"receivers, {sample.name}"

    def expect(name, headers, body, status, effect=()):
        before = sample.applied()
        seen = call("POST", sample.url, body, headers)[0]
        if effect:
            wait_for(f"{who}: {name}: its effect", lambda: len(sample.applied()) > len(before), START_LIMIT_S)
        new = sample.applied()[len(before):]
        right = seen is not None and (200 <= seen < 300 if status == 200 else seen == status)
        check(f"{who}: {name}: {seen}, {'applied' if effect else 'no effect'}", right and new == list(effect), (seen, new))

    now = int(time.time())
    for request in captured[:1] + captured[-1:]:
        expect("a captured request comes again", request["headers"], base64.b64decode(request["body"]), 200)
    body = base64.b64decode(captured[-1]["body"])
    event = json.loads(body)
    digit = str(event["data"]["sequence"]).encode()
    changed = body.replace(b'"sequence":' + digit, b'"sequence":9', 1)
    if changed == body or len(changed) != len(body):
        raise GaveUp(f"no digit to change in {body[:200]}")
    expect("one byte of it changed", captured[-1]["headers"], changed, 401)
    fresh = altered(event, sequence=100)
    expect("signed with another secret", *signed(new_secret(), fresh, now), 401)
    expect("six minutes old, rightly signed", *signed(secret, fresh, now - OLD_S), 401)
    expect("six minutes ahead, rightly signed", *signed(secret, fresh, now + OLD_S), 401)
    headers, body = signed(secret, fresh, now)
    expect("without webhook-signature", {name: value for name, value in headers.items() if name != "webhook-signature"}, body, 401)
    expect("a signature that is none", headers | {"webhook-signature": "v1"}, body, 401)
    key = event["data"]["key"]
    expect("the same with a true time", headers, body, 200, [f"{event['type']} {key} 100"])
    expect("a lower sequence of its key", *signed(secret, altered(event, sequence=99), now), 200)
    expect("a lower one of another key", *signed(secret, altered(event, sequence=98, key="new/1 ü"), now), 200, [f"{event['type']} new/1 ü 98"])
    expect("a new stream begins again", *signed(secret, altered(event, sequence=1, stream="s_other"), now), 200, [f"{event['type']} {key} 1"])
    own = {"type": "bellpull.test", "timestamp": event["timestamp"], "data": {"endpoint": "e"}}
    expect("an event that tells of bellpull itself", *signed(secret, own, now), 200)
    two = signed(new_secret(), altered(event, sequence=101), now)
    both = signed(secret, altered(event, sequence=101), now)
    joined = f"{two[0]['webhook-signature']} {both[0]['webhook-signature']} v1a,AAAA"
    expect("its signature is the second of three", both[0] | {"webhook-signature": joined}, both[1], 200, [f"{event['type']} {key} 101"])


def try_captured_file(directory, secret, request):
    """receive.sh with a request that was kept in a file, without a request line and a length."""
    headers = {name: request["headers"][name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    head = "".join(f"{name}: {value}\n" for name, value in headers.items())
    state = directory / "state-of-file"
    state.mkdir()
    for name, key, answer in (("its secret", secret, "204"), ("another secret", new_secret(), "401")):
        kept = f"{head}\n".encode() + base64.b64decode(request["body"])
        ran = subprocess.run([SAMPLES / "receive.sh"], input=kept, capture_output=True, env={**os.environ, "SECRET": key, "STATE": str(state)})
        status = ran.stdout.decode().split(" ")[1:2]
        check(f"receivers, shell: a request kept in a file, {name}: {answer}", status == [answer], ran.stdout + ran.stderr)


# ---------------------------------------------------------------- docs/receiving.md

def check_page():
    """Each block of docs/receiving.md is a sample that runs here, whole."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    programs = [(FILES[language], block) for language, block in blocks if language in FILES]
    check("receivers: docs/receiving.md shows each sample", sorted(file for file, _ in programs) == sorted(FILES.values()), [language for language, _ in blocks])
    for file, block in programs:
        check(f"receivers: the page's block is {file} as it stands", block == (SAMPLES / file).read_text(encoding="utf-8"), block[:300])
    for file in re.findall(r"\]\(\.\./(tests/interop/receivers/[^)]*)\)", text):
        check(f"receivers: {file}, which the page names, is there", (HERE.parent.parent / file).exists())


# ---------------------------------------------------------------- the part

def run(directory):
    check_page()
    secret = new_secret()
    samples = []
    for how in (python, node, go, rust, shell):
        try:
            samples.append(Sample(how.__name__, how(directory), secret, directory))
        except Skip as reason:
            skipped.append(f"receivers, {how.__name__}")
            print(f"  skipped: {how.__name__}: {reason}", flush=True)
    for sample in samples:
        wait_for(f"{sample.name} listens", sample.listens, START_LIMIT_S)
    ledger, port_file = directory / "captured.jsonl", directory / "capture.port"
    capture = start(f"{directory.name}-capture", [sys.executable, HERE / "sinks/capture.py", port_file, ledger])
    urls = {sample.name: sample.url for sample in samples} | {"capture": f"http://127.0.0.1:{port_from(capture, port_file)}/hook"}
    right, wrong = write_secret(directory, "right.secret", secret), write_secret(directory, "wrong.secret", new_secret())

    upstream = Upstream([{"id": "a 1", "n": 1}, {"id": "ü", "n": 1}, {"id": 3, "n": 1}])
    config = directory / "bridges.toml"
    names = [*urls, *(f"{name}-wrong" for name in urls if name != "capture")]
    config.write_text(
        f'[daemon]\nstate-dir = "{directory}/store"\n\n[network]\nallow = ["127.0.0.0/8"]\n\n'
        f'[bridge.orders]\nevery = "100ms"\nitems = ".[]"\nkey = ".id"\nfirst-poll = "emit"\nto = {json.dumps(names)}\n'
        f'source.http.url = "{upstream.url}"\n\n'
        + "".join(
            f'[endpoint.{name}]\nurl = "{urls[name.removesuffix("-wrong")]}"\n'
            f'sign.standard.secrets = [{{ file = "{wrong if name.endswith("-wrong") else right}" }}]\n\n'
            for name in names
        )
    )
    daemon = start_daemon(directory, config)
    wait_for("the records are captured", lambda: len(lines_of(ledger)) >= 3)
    upstream.put([{"id": "a 1", "n": 2}, {"id": "ü", "n": 1}])
    wait_for("their changes are captured", lambda: len(lines_of(ledger)) >= 5)
    captured = lines_of(ledger)
    events = [json.loads(base64.b64decode(request["body"])) for request in captured]
    expected = sorted(f"{event['type']} {event['data']['key']} {event['data']['sequence']}" for event in events)

    for sample in samples:
        who = f"receivers, {sample.name}"
        try:
            wait_for(f"{who}: its events", lambda: len(sample.applied()) >= len(expected))
        except GaveUp as reason:
            print(f"  {reason}", flush=True)
        check(f"{who}: applied the {len(expected)} events of the daemon, each once", sorted(sample.applied()) == expected, sample.applied())
        for endpoint, wanted in ((sample.name, range(200, 300)), (f"{sample.name}-wrong", range(401, 402))):
            def statuses():
                answer = bellpull(config, "--json", "deliveries", "--endpoint", endpoint)
                return {attempt["status"] or attempt["error"] for attempt in json.loads(answer.stdout)}

            seen = wait_for(f"{endpoint} has attempts", statuses)
            check(f"{who}: answered the daemon's requests to {endpoint} with {seen}", all(status in wanted for status in seen), seen)
        before = sample.applied()
        for endpoint, status in ((sample.name, 204), (f"{sample.name}-wrong", 401)):
            tested = bellpull(config, "--json", "endpoint", "test", endpoint)
            right = json.loads(tested.stdout or "{}").get("status") == status and sample.applied() == before
            check(f"{who}: bellpull endpoint test {endpoint}: {status}, no effect", right, tested.stdout + tested.stderr)
    check_stop(daemon, config, "orders")
    # After the daemon, so that nothing but what is sent here has an effect.
    for sample in samples:
        try_by_hand(sample, secret, captured)
    if any(sample.name == "shell" for sample in samples):
        try_captured_file(directory, secret, captured[0])
    upstream.close()
    for sample in samples:
        sample.stop()
    stop(capture)


def versions():
    """{what: version}, as far as it is installed."""
    rows = {}
    for program, argument in (("go", "version"), ("cargo", "--version"), ("openssl", "version"), ("jq", "--version")):
        unpacked = PACKAGES / "go/usr/lib/go/bin/go"
        path = str(unpacked) if program == "go" and unpacked.exists() else shutil.which(program)
        if path:
            said = subprocess.run([path, argument], capture_output=True, text=True, timeout=START_LIMIT_S).stdout
            number = re.search(r"\d+\.\d+[.\d]*", said)
            rows[program] = number.group() if number else said.strip()
    return rows
