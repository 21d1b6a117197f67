"""Verifies what capture.py kept, with libraries that none of us wrote, and lets each of them refuse what it must.

Usage: python3 verify.py LEDGER KEYS
KEYS is JSON: for each kind (the last part of a request's path) its `keys` (every one of them must verify), and `wrong`, which is none of them.
"""

import base64
import json
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import gidgethub
import gidgethub.sansio
import nacl.exceptions
import nacl.signing
import slack_sdk.signature
import standardwebhooks.webhooks
import stripe
import svix.webhooks
import time_machine
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

FAR_S, NEAR_S = 360, 180  # every library that looks at the time allows 300


class Refused(Exception):
    """The library said no in its own way. Anything else that it raises is a fault of this test."""


# ---------------------------------------------------------------- the libraries: each returns, or raises Refused

def standard(library):
    def verify(request, key):
        try:
            library.Webhook(key).verify(request.body, request.headers)
        except library.WebhookVerificationError as reason:
            raise Refused(reason) from reason

    return verify


def hmac_as_standard(request, key):
    """sign.hmac told to sign as Standard Webhooks does, in a header of another name."""
    headers = request.headers | {"webhook-signature": request.headers["x-own-signature"]}
    standard_raw = SimpleNamespace(headers=headers, body=request.body)
    standard(standardwebhooks.webhooks)(standard_raw, key.encode())


def github(request, key):
    try:
        event = gidgethub.sansio.Event.from_http(request.headers, request.body, secret=key)
    except gidgethub.ValidationFailure as reason:
        raise Refused(reason) from reason
    told = json.loads(request.body)
    if (event.event, event.delivery_id, event.data) != (told["type"], request.headers["webhook-id"], told):
        raise ValueError(f"gidgethub read {event.event} {event.delivery_id} {event.data}")


def hmac_as_github(request, key):
    try:
        gidgethub.sansio.validate_event(request.body, signature=request.headers["x-own-signature"], secret=key)
    except gidgethub.ValidationFailure as reason:
        raise Refused(reason) from reason


def stripes(request, key):
    try:
        stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], key)
    except stripe.SignatureVerificationError as reason:
        raise Refused(reason) from reason


def slack(request, key):
    if not slack_sdk.signature.SignatureVerifier(key).is_valid_request(request.body, request.headers):
        raise Refused("is_valid_request says False")


def ed25519(request, key):
    """No library of Standard Webhooks verifies v1a: the primitive is PyNaCl's, the four lines around it are ours."""
    public = nacl.signing.VerifyKey(base64.b64decode(key.removeprefix("whpk_")))
    signatures = [token.split(",")[1] for token in request.headers["webhook-signature"].split(" ") if token.startswith("v1a,")]
    content = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    for signature in signatures:
        try:
            public.verify(content, base64.b64decode(signature))
            return
        except nacl.exceptions.BadSignatureError:
            pass
    raise Refused("no v1a signature matches")


STANDARD = ("standardwebhooks", standard(standardwebhooks.webhooks), "both")
SVIX = ("svix", standard(svix.webhooks), "both")
ED25519 = ("PyNaCl", ed25519, "none")
# kind: (library, how, which clocks it refuses: late, early, both or none)
VERIFIERS = {
    "standard": [STANDARD, SVIX],
    "rotation": [STANDARD, SVIX],
    "ed25519": [ED25519],
    "standard-and-ed25519": [STANDARD, SVIX, ED25519],
    "cloudevents": [STANDARD, SVIX],
    "cloudevents-binary": [STANDARD, SVIX],
    "github": [("gidgethub", github, "none")],
    "stripe": [("stripe", stripes, "late")],
    "slack": [("slack_sdk", slack, "both")],
    "hmac-hex": [("gidgethub", hmac_as_github, "none")],
    "hmac-base64": [("standardwebhooks", hmac_as_standard, "both")],
}


# ---------------------------------------------------------------- what is said of them

def say(name, holds, seen=None):
    print(json.dumps({"name": name, "holds": bool(holds), "seen": seen}), flush=True)


def note(text):
    print(json.dumps({"note": text}), flush=True)


def outcome(verify, request, key, clock_s=0):
    """"accepted", "refused: why", or "broke: what", with the library's clock moved."""
    with time_machine.travel(time.time() + clock_s) if clock_s else nullcontext():
        try:
            verify(request, key)
            return "accepted"
        except Refused as reason:
            return f"refused: {reason}"
        except Exception as reason:  # not its way to say no
            return f"broke: {type(reason).__name__}: {reason}"


def expect(name, wanted, outcomes):
    odd = [seen for seen in outcomes if not seen.startswith(wanted)]
    say(name, outcomes and not odd, odd[:3] or "no request")


def one_byte_changed(request, index):
    """Still JSON: a letter or digit within the last `data`, so that only the signature can tell."""
    places = [place for place in range(len(request.body)) if chr(request.body[place]).isalnum() and request.body[place] < 128]
    place = places[(index + 1) * len(places) // 7 % len(places)]
    changed = bytearray(request.body)
    changed[place] = ord("7") if changed[place] != ord("7") else ord("8")
    return SimpleNamespace(headers=request.headers, body=bytes(changed))


def judge(kind, library, verify, clock, requests, keys):
    who = f"{kind}: {library}"
    for number, key in enumerate(keys["keys"], 1):
        which = f" with key {number}" if len(keys["keys"]) > 1 else ""
        expect(f"{who} accepts all {len(requests)}{which}", "accepted", [outcome(verify, request, key) for request in requests])
    key = keys["keys"][0]
    expect(f"{who} refuses another key", "refused", [outcome(verify, request, keys["wrong"]) for request in requests])
    changed = [one_byte_changed(request, index) for index, request in enumerate(requests)]
    expect(f"{who} refuses one changed byte", "refused", [outcome(verify, request, key) for request in changed])
    if clock == "none":
        note(f"{who} does not look at the time")
    for name, sign in (("late", 1), ("early", -1)):
        far = [outcome(verify, request, key, sign * FAR_S) for request in requests]
        if clock in (name, "both"):
            near = [outcome(verify, request, key, sign * NEAR_S) for request in requests]
            expect(f"{who} refuses what comes six minutes {name}, by its clock", "refused", far)
            expect(f"{who} accepts what comes three minutes {name}", "accepted", near)
        elif clock != "none":
            note(f"{who} does not look whether a request is {name}: six minutes are {', '.join(sorted(set(far)))}")


def judge_cloudevents(kind, requests, of_standard):
    """`of_standard`: the same events in the standard format, by webhook-id."""
    wrong = []
    for request in requests:
        event = from_http_event(HTTPMessage(headers=request.headers, body=request.body))
        told = of_standard.get(event.get_id(), {"data": {}})
        seen = [event.get_id(), event.get_specversion(), event.get_type(), event.get_source(), event.get_subject(), event.get_data()]
        wanted = [request.headers["webhook-id"], "1.0", told.get("type"), "/bridges/orders", told["data"].get("key"), told["data"]]
        if seen != wanted or event.get_time().isoformat(timespec="milliseconds").replace("+00:00", "Z") != told["timestamp"]:
            wrong.append(f"{seen} {event.get_time()} instead of {wanted} {told.get('timestamp')}")
        if event.get_datacontenttype() != "application/json":
            wrong.append(event.get_datacontenttype())
    say(f"{kind}: cloudevents reads {len(requests)} events, which are those of the standard format", requests and not wrong, wrong[:2])


def main():
    ledger, keys_file = sys.argv[1:]
    with open(keys_file, encoding="utf-8") as file:
        keys = json.load(file)
    captured = {}
    with open(ledger, encoding="utf-8") as file:
        for line in file:
            line = json.loads(line)
            if line["method"] == "POST":
                request = SimpleNamespace(headers=line["headers"], body=base64.b64decode(line["body"]))
                captured.setdefault(line["path"].rpartition("/")[2], []).append(request)
    seed_and_public = base64.b64decode(keys["ed25519"]["private"].removeprefix("whsk_"))
    derived = bytes(nacl.signing.SigningKey(seed_and_public[:32]).verify_key)
    told = base64.b64decode(keys["ed25519"]["keys"][0].removeprefix("whpk_"))
    say("ed25519: the public half that bellpull printed is PyNaCl's of the same seed", derived == seed_and_public[32:] == told)
    for kind, verifiers in VERIFIERS.items():
        for library, verify, clock in verifiers:
            ring = "ed25519" if verify is ed25519 else kind
            judge(kind, library, verify, clock, captured.get(kind, []), keys[ring])
    of_standard = {request.headers["webhook-id"]: json.loads(request.body) for request in captured.get("standard", [])}
    for kind in ("cloudevents", "cloudevents-binary"):
        judge_cloudevents(kind, captured.get(kind, []), of_standard)


if __name__ == "__main__":
    main()
