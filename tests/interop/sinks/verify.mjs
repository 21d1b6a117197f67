// Verifies what capture.mjs kept, with libraries that none of us wrote, and lets each of them refuse what it must.
//
// Usage: node verify.mjs LEDGER KEYS
// KEYS and what is printed are those of verify.py. The libraries' clock is moved by Node's own mock of Date.

import { createPublicKey, verify as verifyWithKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { mock } from "node:test";

import "@shopify/shopify-api/adapters/node";
import { Webhooks } from "@octokit/webhooks";
import { ApiVersion, shopifyApi } from "@shopify/shopify-api";
import { HTTP } from "cloudevents";
import * as standardwebhooks from "standardwebhooks";
import Stripe from "stripe";
import * as svix from "svix";

const farMs = 360_000;
const nearMs = 180_000; // every library that looks at the time allows 300 s

/** The library said no in its own way. Anything else that it throws is a fault of this test. */
class Refused extends Error {}

// ---------------------------------------------------------------- the libraries: each returns, or throws Refused

const standard = (library, options) => (request, key) => {
  try {
    new library.Webhook(key, options).verify(request.body, request.headers);
  } catch (reason) {
    if (reason instanceof library.WebhookVerificationError) throw new Refused(reason.message);
    throw reason;
  }
};

/** sign.hmac told to sign as Standard Webhooks does, in a header of another name. */
function hmacAsStandard(request, key) {
  const headers = { ...request.headers, "webhook-signature": request.headers["x-own-signature"] };
  standard(standardwebhooks, { format: "raw" })({ headers, body: request.body }, key);
}

const github = (header) => async (request, key) => {
  if (!(await new Webhooks({ secret: key }).verify(request.body.toString(), request.headers[header]))) {
    throw new Refused("verify says false");
  }
};

function stripe(request, key) {
  try {
    Stripe.webhooks.constructEvent(request.body, request.headers["stripe-signature"], key);
  } catch (reason) {
    if (reason instanceof Stripe.errors.StripeSignatureVerificationError) throw new Refused(reason.message.split("\n")[0]);
    throw reason;
  }
}

async function shopify(request, key) {
  const shop = shopifyApi({
    apiKey: "key",
    apiSecretKey: key,
    apiVersion: ApiVersion.July25,
    hostName: "receiver.example",
    isEmbeddedApp: false,
    logger: { log: () => {} },
  });
  const rawRequest = { method: "POST", url: request.path, headers: request.headers };
  const result = await shop.webhooks.validate({ rawBody: request.body.toString(), rawRequest, rawResponse: {} });
  if (!result.valid && result.reason === "invalid_hmac") throw new Refused(result.reason);
  if (!result.valid) throw new Error(JSON.stringify(result));
}

/** No library of Standard Webhooks verifies v1a: the primitive is Node's, the lines around it are ours. */
function ed25519(request, key) {
  const raw = Buffer.from(key.replace(/^whpk_/, ""), "base64");
  const publicKey = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: raw.toString("base64url") }, format: "jwk" });
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": header } = request.headers;
  const content = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), request.body]);
  const signatures = header.split(" ").filter((token) => token.startsWith("v1a,"));
  if (!signatures.some((token) => verifyWithKey(null, content, publicKey, Buffer.from(token.slice(4), "base64")))) {
    throw new Refused("no v1a signature matches");
  }
}

const ofStandard = ["standardwebhooks", standard(standardwebhooks), "both"];
const ofSvix = ["svix", standard(svix), "both"];
const ofEd25519 = ["node:crypto", ed25519, "none"];
// kind: [library, how, which clocks it refuses: late, early, both or none]
const verifiers = {
  standard: [ofStandard, ofSvix],
  rotation: [ofStandard, ofSvix],
  ed25519: [ofEd25519],
  "standard-and-ed25519": [ofStandard, ofSvix, ofEd25519],
  cloudevents: [ofStandard, ofSvix],
  "cloudevents-binary": [ofStandard, ofSvix],
  github: [["@octokit/webhooks", github("x-hub-signature-256"), "none"]],
  stripe: [["stripe", stripe, "late"]],
  shopify: [["@shopify/shopify-api", shopify, "none"]],
  "hmac-hex": [["@octokit/webhooks", github("x-own-signature"), "none"]],
  "hmac-base64": [["standardwebhooks", hmacAsStandard, "both"]],
};

// ---------------------------------------------------------------- what is said of them

const say = (name, holds, seen) => console.log(JSON.stringify({ name, holds: Boolean(holds), seen }));
const note = (text) => console.log(JSON.stringify({ note: text }));

/** "accepted", "refused: why", or "broke: what", with the library's clock moved. */
async function outcome(verify, request, key, clockMs = 0) {
  if (clockMs) mock.timers.enable({ apis: ["Date"], now: Date.now() + clockMs });
  try {
    await verify(request, key);
    return "accepted";
  } catch (reason) {
    return reason instanceof Refused ? `refused: ${reason.message}` : `broke: ${reason}`;
  } finally {
    if (clockMs) mock.timers.reset();
  }
}

async function outcomes(verify, requests, key, clockMs) {
  const all = [];
  for (const request of requests) all.push(await outcome(verify, request, key, clockMs));
  return all;
}

function expect(name, wanted, all) {
  const odd = all.filter((seen) => !seen.startsWith(wanted));
  say(name, all.length > 0 && odd.length === 0, odd.length > 0 ? odd.slice(0, 3) : "no request");
}

/** Still JSON: a letter or digit, so that only the signature can tell. */
function oneByteChanged(request, index) {
  const places = [...request.body.keys()].filter((place) => /[0-9A-Za-z]/.test(String.fromCharCode(request.body[place])));
  const place = places[Math.floor(((index + 1) * places.length) / 7) % places.length];
  const body = Buffer.from(request.body);
  body[place] = body[place] === 0x37 ? 0x38 : 0x37;
  return { ...request, body };
}

async function judge(kind, [library, verify, clock], requests, keys) {
  const who = `${kind}: ${library}`;
  for (const [index, key] of keys.keys.entries()) {
    const which = keys.keys.length > 1 ? ` with key ${index + 1}` : "";
    expect(`${who} accepts all ${requests.length}${which}`, "accepted", await outcomes(verify, requests, key));
  }
  const key = keys.keys[0];
  expect(`${who} refuses another key`, "refused", await outcomes(verify, requests, keys.wrong));
  expect(`${who} refuses one changed byte`, "refused", await outcomes(verify, requests.map(oneByteChanged), key));
  if (clock === "none") note(`${who} does not look at the time`);
  for (const [name, sign] of [["late", 1], ["early", -1]]) {
    const far = await outcomes(verify, requests, key, sign * farMs);
    if (clock === name || clock === "both") {
      expect(`${who} refuses what comes six minutes ${name}, by its clock`, "refused", far);
      expect(`${who} accepts what comes three minutes ${name}`, "accepted", await outcomes(verify, requests, key, sign * nearMs));
    } else if (clock !== "none") {
      note(`${who} does not look whether a request is ${name}: six minutes are ${[...new Set(far)].join(", ")}`);
    }
  }
}

/** `standards`: the same events in the standard format, by webhook-id. */
function judgeCloudevents(kind, requests, standards) {
  const wrong = [];
  for (const { headers, body } of requests) {
    const event = HTTP.toEvent({ headers, body: body.toString() });
    event.validate();
    const told = standards.get(event.id) ?? { data: {} };
    // The npm library leaves the header's percent-encoding to its caller; in the structured form there is none.
    const subject = kind === "cloudevents-binary" ? decodeURIComponent(event.subject) : event.subject;
    const seen = [event.id, event.specversion, event.type, event.source, subject, new Date(event.time).toISOString(), event.datacontenttype];
    const wanted = [headers["webhook-id"], "1.0", told.type, "/bridges/orders", told.data.key, told.timestamp, "application/json"];
    const same = JSON.stringify([...seen, event.data]) === JSON.stringify([...wanted, told.data]);
    if (!same) wrong.push(JSON.stringify([...seen, event.data, "instead of", ...wanted, told.data]));
  }
  say(`${kind}: cloudevents reads ${requests.length} events, which are those of the standard format`, requests.length > 0 && wrong.length === 0, wrong.slice(0, 2));
}

const [ledger, keysFile] = process.argv.slice(2);
const keys = JSON.parse(readFileSync(keysFile, "utf8"));
const captured = new Map();
for (const line of readFileSync(ledger, "utf8").split("\n").filter(Boolean)) {
  const { method, path, headers, body } = JSON.parse(line);
  const kind = path.slice(path.lastIndexOf("/") + 1);
  if (method === "POST") captured.set(kind, [...(captured.get(kind) ?? []), { path, headers, body: Buffer.from(body, "base64") }]);
}
for (const [kind, all] of Object.entries(verifiers)) {
  for (const verifier of all) {
    const ring = verifier === ofEd25519 ? "ed25519" : kind;
    await judge(kind, verifier, captured.get(kind) ?? [], keys[ring]);
  }
}
const standards = new Map((captured.get("standard") ?? []).map(({ headers, body }) => [headers["webhook-id"], JSON.parse(body)]));
for (const kind of ["cloudevents", "cloudevents-binary"]) judgeCloudevents(kind, captured.get(kind) ?? [], standards);
