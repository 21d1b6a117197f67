"""Part signatures: every kind of `sign`, as the daemon sends it, verified by the vendors' libraries (sinks/verify.py, sinks/verify.mjs)."""

import base64
import json
import os
import secrets
import subprocess
import sys
from collections import Counter
from importlib import metadata

from harness import (
    BELLPULL,
    CALL_LIMIT_S,
    HERE,
    PACKAGES,
    GaveUp,
    Upstream,
    check,
    check_stop,
    lines_of,
    new_secret,
    port_from,
    start,
    start_daemon,
    stop,
    wait_for,
    write_secret,
)

SINKS = HERE / "sinks"
INSTALLED = PACKAGES / "sinks"
VERIFY_LIMIT_S = 120  # of one language, importing its libraries included
PAST = "2020-01-01T00:00:00Z"
# What Shopify's library asks for besides the signature; bellpull has no shops and topics to fill in.
SHOPIFY_HEADERS = 'x-shopify-topic = "orders/updated", x-shopify-shop-domain = "shop.example", x-shopify-api-version = "2025-07"'


# ---------------------------------------------------------------- the endpoints

class Key:
    """A secret in a file for bellpull, and what its receiver has: the same, or the public half."""

    def __init__(self, directory, name, secret, receivers=None):
        self.secret = secret
        self.file = write_secret(directory, f"{name}.secret", secret)
        self.receivers = receivers or secret

    def toml(self, until=None):
        return f'{{ file = "{self.file}"' + (f', until = "{until}" }}' if until else " }")


def ed25519_pair(directory, name):
    made = subprocess.run([BELLPULL, "secret", "--ed25519"], capture_output=True, text=True, timeout=CALL_LIMIT_S)
    lines = made.stdout.splitlines()
    if len(lines) != 2:
        raise GaveUp(f"bellpull secret --ed25519 printed {made.stdout!r} {made.stderr!r}")
    return Key(directory, name, *lines)


def endpoints(directory):
    """{kind: (lines of [endpoint.KIND], {"keys": each must verify, "wrong": must not})}"""
    first, second = Key(directory, "first", new_secret()), Key(directory, "second", new_secret())
    pair = ed25519_pair(directory, "pair")
    seed = base64.b64decode(pair.secret.removeprefix("whsk_"))[:32]
    seed_alone = Key(directory, "seed", "whsk_" + base64.b64encode(seed).decode())
    rows = {}

    def add(kind, keys, wrong, *lines):
        rows[kind] = ("\n".join(lines), {"keys": [key.receivers for key in keys], "wrong": wrong})

    def standard(kind, keys, *lines):
        listed = ", ".join(key.toml() for key in keys)
        add(kind, keys, new_secret(), f"sign.standard.secrets = [{listed}]", *lines)

    def vendor(kind, scheme, count=1, prefix="", more="", *lines):
        """The first secret has been over since 2020: what it would sign must not verify. Of the others `count` sign."""
        over, *valid = (Key(directory, f"{kind}-{n}", prefix + secrets.token_urlsafe(32)) for n in range(count + 1))
        listed = ", ".join([over.toml(PAST), *(key.toml() for key in valid)])
        add(kind, valid, over.receivers, f"sign.{scheme} = {{ secrets = [{listed}]{more} }}", *lines)

    standard("standard", [first])
    # Both sign, so that a receiver with either of them accepts.
    standard("rotation", [second, first])
    add("ed25519", [pair], ed25519_pair(directory, "another-pair").receivers, f"sign.ed25519.keys = [{pair.toml()}]")
    rows["ed25519"][1]["private"] = pair.secret
    # The same key, written as its seed alone.
    standard("standard-and-ed25519", [first], f"sign.ed25519.keys = [{seed_alone.toml()}]")
    vendor("github", "github")
    vendor("stripe", "stripe", 2, "whsec_")
    shop = f'headers = {{ {SHOPIFY_HEADERS}, x-shopify-webhook-id = {{ jq = ".data.sequence" }} }}'
    vendor("shopify", "shopify", 1, "", "", shop)
    vendor("slack", "slack")
    vendor("hmac-hex", "hmac", 1, "", ', header = "X-Own-Signature", prefix = "sha256="')
    over = 'encoding = "base64", over = "{id}.{timestamp}.{body}"'
    vendor("hmac-base64", "hmac", 1, "", f', header = "X-Own-Signature", prefix = "v1,", {over}')
    standard("cloudevents", [first], 'format = "cloudevents"')
    standard("cloudevents-binary", [first], 'format = "cloudevents-binary"')
    return rows


# ---------------------------------------------------------------- what the headers are

VENDORS = {
    "github": {"x-hub-signature-256", "x-github-event", "x-github-delivery"},
    "stripe": {"stripe-signature"},
    "shopify": {"x-shopify-hmac-sha256"},
    "slack": {"x-slack-signature", "x-slack-request-timestamp"},
    "hmac-hex": {"x-own-signature"},
    "hmac-base64": {"x-own-signature"},
}
# The versions in `webhook-signature`, in their order.
TOKENS = {
    "standard": ["v1"],
    "rotation": ["v1", "v1"],
    "ed25519": ["v1a"],
    "standard-and-ed25519": ["v1", "v1a"],
    "cloudevents": ["v1"],
    "cloudevents-binary": ["v1"],
}


def check_headers(who, posts):
    """Which headers of signatures a request has, and which it has not."""
    every = {"webhook-signature"}.union(*VENDORS.values())
    wrong = []
    for kind, requests in posts.items():
        wanted = VENDORS.get(kind, {"webhook-signature"})
        for headers in (request["headers"] for request in requests):
            tokens = [token.split(",")[0] for token in headers.get("webhook-signature", "").split(" ") if token]
            has = every & headers.keys()
            if has != wanted or tokens != TOKENS.get(kind, []) or not {"webhook-id", "webhook-timestamp"} <= headers.keys():
                wrong.append((kind, sorted(has), tokens))
    check(f"{who}: each kind's headers and no other's, and always webhook-id and webhook-timestamp", not wrong, wrong[:4])
    stripes = {request["headers"].get("stripe-signature", "").count("v1=") for request in posts["stripe"]}
    check(f"{who}: stripe: one v1 for each secret that counts", stripes == {2}, stripes)


def check_bodies(who, posts):
    """What is in the standard format has the same bytes at each endpoint, whatever signs it."""
    bodies = {}
    for kind, requests in posts.items():
        if not kind.startswith("cloudevents"):
            for request in requests:
                bodies.setdefault(request["headers"].get("webhook-id"), set()).add(request["body"])
    check(f"{who}: an event has the same bytes, whatever signs it", all(len(each) == 1 for each in bodies.values()), bodies.keys())


def check_handshake(who, options):
    """WebHook-Request-Origin, asked of the two endpoints of CloudEvents and of no other."""
    asked = Counter(line["path"].rpartition("/")[2] for line in options if line["headers"].get("webhook-request-origin"))
    check(f"{who}: the handshake of CloudEvents at its two endpoints", set(asked) == {"cloudevents", "cloudevents-binary"}, dict(asked))


# ---------------------------------------------------------------- the part

def verify(who, argv, ledger, keys, env):
    answer = subprocess.run([*argv, ledger, keys], capture_output=True, text=True, timeout=VERIFY_LIMIT_S, env=env)
    verdicts = [json.loads(line) for line in answer.stdout.split("\n") if line]
    for verdict in verdicts:
        if "note" in verdict:
            print(f"          {who}: {verdict['note']}", flush=True)
        else:
            check(f"{who}: {verdict['name']}", verdict["holds"], verdict["seen"])
    check(f"{who}: the verifiers ran to their end", answer.returncode == 0 and verdicts, answer.stderr[-600:])


def run(directory):
    kinds = endpoints(directory)
    (directory / "keys.json").write_text(json.dumps({kind: keys for kind, (_, keys) in kinds.items()}))
    captures = {}
    toml = []
    for who, argv in (("py", [sys.executable, SINKS / "capture.py"]), ("node", ["node", INSTALLED / "capture.mjs"])):
        port_file = directory / f"{who}.port"
        process = start(f"{directory.name}-capture-{who}", [*argv, port_file, directory / f"{who}.jsonl"])
        captures[who] = process
        origin = f"http://127.0.0.1:{port_from(process, port_file)}"
        toml += [f'[endpoint.{kind}-{who}]\nurl = "{origin}/{kind}"\n{lines}\n' for kind, (lines, _) in kinds.items()]

    order = {"id": "Grüße/1 ✓", "status": "open", "note": "你好 \u2028 \U0001f514", "total": 1.10}
    upstream = Upstream([order, {"id": 2, "status": "open"}])
    config = directory / "bridges.toml"
    names = ", ".join(f'"{kind}-{who}"' for who in captures for kind in kinds)
    config.write_text(
        f'[daemon]\nstate-dir = "{directory}/state"\n\n[network]\nallow = ["127.0.0.0/8"]\n\n'
        f'[bridge.orders]\nevery = "100ms"\nitems = ".[]"\nkey = ".id"\nfirst-poll = "emit"\nto = [{names}]\n'
        f'source.http.url = "{upstream.url}"\n\n' + "\n".join(toml)
    )
    daemon = start_daemon(directory, config)

    def posts(who):
        """{kind: its requests}"""
        found = {kind: [] for kind in kinds}
        for line in lines_of(directory / f"{who}.jsonl"):
            if line["method"] == "POST":
                found[line["path"].rpartition("/")[2]].append(line)
        return found

    def arrived(count):
        return all(len(requests) >= count for who in captures for requests in posts(who).values())

    wait_for("the first two records arrived everywhere", lambda: arrived(2))
    upstream.put([order | {"status": "paid"}, {"id": 2, "status": "open"}, {"id": 3, "status": "new"}])
    wait_for("a change and a new record arrived everywhere", lambda: arrived(4))
    upstream.put([order | {"status": "paid"}, {"id": 3, "status": "new"}])
    wait_for("a deletion arrived everywhere", lambda: arrived(5))
    seen = upstream.asked
    wait_for("three more polls", lambda: upstream.asked >= seen + 3)

    env = {**os.environ, "PYTHONPATH": str(INSTALLED / "python")}
    for who, argv in (("py", [sys.executable, SINKS / "verify.py"]), ("node", ["node", "--no-warnings", INSTALLED / "verify.mjs"])):
        found = posts(who)
        counts = {kind: len(requests) for kind, requests in found.items()}
        check(f"{who}: five events arrived once at each of the {len(kinds)} endpoints", set(counts.values()) == {5}, counts)
        check_headers(who, found)
        check_bodies(who, found)
        check_handshake(who, [line for line in lines_of(directory / f"{who}.jsonl") if line["method"] == "OPTIONS"])
        verify(who, argv, directory / f"{who}.jsonl", directory / "keys.json", env)
    check_stop(daemon, config, "orders")
    upstream.close()
    for process in captures.values():
        stop(process)


def versions():
    """{what: version} of what the requests were verified with, as far as it is installed."""
    wanted = {"cloudevents", "gidgethub", "pynacl", "slack_sdk", "stripe", "svix"}
    found = [each for each in metadata.distributions(path=[str(INSTALLED / "python")]) if each.name.lower() in wanted]
    rows = {f"{each.name} (PyPI)": each.version for each in sorted(found, key=lambda each: each.name.lower())}
    for name in ("@octokit/webhooks", "@shopify/shopify-api", "cloudevents", "stripe", "svix"):
        file = INSTALLED / "node_modules" / name / "package.json"
        if file.exists():
            rows[f"{name} (npm)"] = json.loads(file.read_text())["version"]
    return rows
