// The dashboard: asks the daemon's own API, and shows what it says. It decides nothing. The link brings a code of one use for a
// token, which stays in memory and goes out in a header; what a reload needs is half in this tab's storage and half in a cookie of the session. Pages are routes in the fragment: #/, #/bridge/NAME, #/endpoint/NAME, #/event/ID.

import {
  Rows, badge, clockIs, count, diff, facts, h, long, plain, reconcile, say, setBadge, setTime, tick, time, tookText,
} from "./parts.js";
import { parse } from "./values.js";

const GET_LIMIT_MS = 30_000;
// A poll by hand may take its bridge's whole `deadline`, 5 minutes unless the file says otherwise.
const POST_LIMIT_MS = 330_000;
// The daemon sends a comment every 15 s: when two are missing, the connection is dead.
const SILENCE_MS = 40_000;
const RETRY_MS = [1000, 2000, 5000, 10_000, 30_000];
// What was touched is asked for at most so often, and never for more than a tenth of the time.
const REFRESH_MS = 1000;
const REFRESH_SHARE = 10;
// More bridges than this are not asked for one by one.
const SINGLY = 5;
// What nobody tells of (an order on the command line, a reload) is seen after so long.
const ALL_ANEW_MS = 15_000;
const STRIP_MS = 60_000;
const TICK_MS = 1000;
const LOG_MAX = 100;
const EVENTS_AT_ONCE = 20, OPEN_AT_ONCE = 5, QUEUE_AT_ONCE = 50, LIST_MAX = 500;
const ENDPOINTS_AT_ONCE = 8;

const id = (name) => document.getElementById(name);
const path = (...parts) => parts.map(encodeURIComponent).join("/");
const link = (kind, name, text) => h("a", { href: `#/${path(kind, name)}` }, text ?? name);

// ---- The API

let token = null;

/** What the daemon refused, or that it did not answer, in words. */
class Failed extends Error {}

async function ask(where, { method = "GET", body, text } = {}) {
  let answer, said;
  try {
    answer = await fetch(`api/${where}`, {
      method,
      body: body && JSON.stringify(body),
      headers: { ...(token && { authorization: `Bearer ${token}` }), ...(body && { "content-type": "application/json" }) },
      signal: AbortSignal.timeout(method === "GET" ? GET_LIMIT_MS : POST_LIMIT_MS),
    });
    said = await answer.text();
  } catch (error) {
    const why = error.name === "TimeoutError" ? "not in time" : "is it running?";
    throw new Failed(`bellpull at ${location.host} does not answer: ${why}`);
  }
  if (answer.headers.has("date")) clockIs(answer.headers.get("date"));
  if (answer.ok) return text ? said : JSON.parse(said);
  let why;
  try {
    why = JSON.parse(said).error;
  } catch {
    // Not JSON: the status has to do.
  }
  if (answer.status === 401) askForToken(why);
  throw new Failed(why ?? `bellpull at ${location.host} answered with the status ${answer.status}`);
}

// ---- Results, in words

function tell(text, failed) {
  id("said").hidden = false;
  id("said").classList.toggle("failed", Boolean(failed));
  say(id("said-text"), failed ? `Failed: ${text}` : text);
}

/** A button that does something at the daemon. It stays where it is while that goes on, so that the focus does. */
function button(label, act) {
  const element = h("button", { type: "button" }, label);
  element.addEventListener("click", async () => {
    if (element.getAttribute("aria-disabled") === "true") return;
    element.setAttribute("aria-disabled", "true");
    try {
      const text = await act();
      if (text) tell(text);
    } catch (error) {
      tell(error.message, true);
    }
    element.removeAttribute("aria-disabled");
    touch({ all: true, page: true, now: true });
  });
  return element;
}

function sure(text, verb) {
  const dialog = id("sure");
  say(id("sure-text"), text);
  say(id("sure-yes"), verb);
  dialog.returnValue = "";
  dialog.showModal();
  id("sure-no").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// ---- What is known, and when it is asked for anew

const known = { bridges: {}, endpoints: {}, loaded: false };
let touched = { bridges: new Set(), endpoints: false, all: false, page: false };
let page;
let timer, running = false, urgent = false, nextRefresh = 0, asked_at = 0;
// Why nothing could be asked, as long as that lasts.
let trouble = "";

/** Notes that something may have changed; it is asked for soon, and with `now` at once: somebody waits for it. */
function touch({ bridge, endpoints, all, page: here, now } = {}) {
  if (bridge) touched.bridges.add(bridge);
  touched.endpoints ||= Boolean(endpoints);
  touched.all ||= Boolean(all);
  touched.page ||= Boolean(here);
  urgent ||= Boolean(now);
  // A page that nobody looks at asks for nothing; it does when somebody does.
  if (running || document.hidden || !token || (timer && !now)) return;
  clearTimeout(timer);
  timer = setTimeout(refresh, urgent ? 0 : Math.max(0, nextRefresh - Date.now()));
}

async function refresh() {
  timer = undefined;
  running = true;
  urgent = false;
  const here = page;
  const what = touched;
  touched = { bridges: new Set(), endpoints: false, all: false, page: false };
  const began = Date.now();
  const focused = document.activeElement;
  const all = what.all || what.bridges.size > SINGLY;
  try {
    if (all) {
      const { bridges, endpoints, version } = await ask("status");
      Object.assign(known, { bridges, endpoints, version, loaded: true });
      asked_at = Date.now();
    } else {
      const singly = [...what.bridges].map((name) => ask(path("bridges", name)));
      const [endpoints, ...bridges] = await Promise.all([what.endpoints ? ask("endpoints") : known.endpoints, ...singly]);
      for (const one of bridges) Object.assign(known.bridges, one.bridges);
      known.endpoints = endpoints;
    }
    draw();
    if (what.page) await page?.reload();
    if (trouble && id("said-text").textContent.endsWith(trouble)) id("said").hidden = true;
    trouble = "";
    // What had the focus may be gone: a keyboard goes on from the page's name.
    if (page && page === here && focused !== document.body && !(focused.isConnected && focused.checkVisibility())) page.root.querySelector("h1").focus();
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    // One of them may have left the file.
    if (!all) touched.all = true;
    else if (token) {
      trouble = error.message;
      tell(trouble, true);
    }
    asked_at = Date.now();
  } finally {
    running = false;
    nextRefresh = Math.max(Date.now() + REFRESH_MS, began + (REFRESH_SHARE + 1) * (Date.now() - began));
    if (touched.all || touched.page || touched.endpoints || touched.bridges.size) touch();
  }
}

function draw() {
  const summary = known.loaded ? summarize() : "Loading";
  say(id("summary"), summary);
  document.title = page ? `${page.title()} - ${summary}` : `${summary} - bellpull`;
  if (page) page.update();
  else drawOverview();
}

const withState = (all, ...states) => Object.values(all).filter((one) => states.includes(one.state)).length;

function summarize() {
  const { bridges, endpoints } = known;
  const here = (all) => Object.values(all).filter((one) => one.state !== "removed");
  const sum = (key) => here(endpoints).reduce((total, one) => total + (one[key] ?? 0), 0);
  const dead = sum("dead");
  const down = withState(endpoints, "down", "disabled");
  return (
    `${count(here(bridges).length, "bridge")}, ${withState(bridges, "failing")} failing, ${withState(bridges, "held")} held; ` +
    `${down} of ${count(here(endpoints).length, "endpoint")} down, ${sum("waiting").toLocaleString("en")} waiting` +
    (dead ? `, ${dead.toLocaleString("en")} dead` : "")
  );
}

// ---- The overview

const WORST_FIRST = ["failing", "refusing", "down", "held", "paused", "disabled", "new", "ok", "removed"];
const ATTENTION = ["failing", "refusing", "down", "held"];
let allEndpoints = false;

/** What a row says beneath its name: why, or else what it is. */
function why(one) {
  if (one.state === "removed") return one.kept_until ? "no longer in the file; what it holds is kept for a while" : "no longer in the file";
  return (one.state === "held" && one.hold?.reason) || one.last_error || one.disabled || one.source || "";
}

function row(kind, cells) {
  return ({ name }) => {
    const reason = h("span.why");
    const state = badge();
    const all = cells.map(([make, classes = ""]) => h("td", { class: classes }, make()));
    const element = h("tr", {}, h("th", { scope: "row" }, link(kind, name), reason), h("td", {}, state), ...all);
    element.fill = (item) => {
      element.setAttribute("aria-rowindex", item.index + 2);
      say(reason, why(item));
      reason.title = why(item);
      setBadge(state, item.state);
      all.forEach((one, at) => cells[at][2](one, item));
    };
    return element;
  };
}
const timeCell = (from, classes) => [() => time(), classes, (cell, item) => setTime(cell.firstChild, from(item))];
const numberCell = (key, classes = "number") => [() => "", classes, (cell, item) => say(cell, (item[key] ?? 0).toLocaleString("en"))];

const bridgeRows = new Rows(id("bridges"), row("bridge", [
  timeCell((item) => item.last_poll, "wide"),
  timeCell((item) => (item.state === "paused" ? null : item.next_poll)),
  numberCell("records", "number wide"),
]));
const endpointRows = new Rows(id("endpoints"), row("endpoint", [
  numberCell("waiting"), numberCell("dead"), timeCell((item) => item.next_attempt, "wide"),
]));

function drawOverview() {
  if (!known.loaded) return;
  const words = id("search").value.trim().toLowerCase();
  const state = id("state").value;
  const holds = ([name, one]) =>
    (!words || `${name}\n${why(one)}`.toLowerCase().includes(words)) &&
    (!state || one.state === state || (state === "attention" && (ATTENTION.includes(one.state) || one.dead > 0)));
  const found = (all) =>
    Object.entries(all).filter(holds).map(([name, one]) => ({ ...one, name, rank: WORST_FIRST.indexOf(one.state) - (one.dead > 0 ? 9 : 0) }))
      .sort((one, other) => one.rank - other.rank);
  const [bridges, endpoints] = [found(known.bridges), found(known.endpoints)];
  const filtered = Boolean(words || state);
  const shown = allEndpoints || filtered ? endpoints : endpoints.slice(0, ENDPOINTS_AT_ONCE);
  id("endpoints-all").hidden = shown.length === endpoints.length;
  say(id("endpoints-all"), `Show all ${count(endpoints.length, "endpoint")}`);
  endpointRows.set(shown);
  bridgeRows.set(bridges);
  const event = /^evt_\w+$/.test(id("search").value.trim());
  id("shown").replaceChildren(
    event ? link("event", id("search").value.trim(), "Open this event") : "",
    filtered && !event ? `${count(bridges.length, "bridge")} and ${count(endpoints.length, "endpoint")} fit` : "",
  );
}

// ---- The strip of the last 24 hours

/** Fetched, since an <img> of its own would not send the token. The picture's own title is what it says in words. */
function strip(figure, where) {
  let drawn_at = 0, url;
  return async function show() {
    if (Date.now() - drawn_at < STRIP_MS) return;
    drawn_at = Date.now();
    try {
      const svg = await ask(where, { text: true });
      const [, words] = svg.match(/<title>([^<]*)</);
      const old = url;
      url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
      figure.replaceChildren(h("img", { src: url, alt: words, width: 480, height: 48 }), h("figcaption", {}, words));
      if (old) URL.revokeObjectURL(old);
    } catch (error) {
      figure.replaceChildren(h("figcaption", {}, error.message));
    }
  };
}
const drawStrip = strip(id("strip"), "strip.svg");

// ---- Events, in lists

const bodies = new Map();

/** An event whole, with its body as it was sent. Bodies never change. */
async function whole(name) {
  const text = await ask(path("events", name), { text: true });
  const event = JSON.parse(text);
  bodies.set(name, parse(text).get("body"));
  if (bodies.size > LIST_MAX) bodies.delete(bodies.keys().next().value);
  return event;
}

async function showChange(box, name) {
  try {
    if (!bodies.has(name)) await whole(name);
    box.replaceChildren(diff(bodies.get(name)));
  } catch (error) {
    box.replaceChildren(h("p.note", {}, error.message));
  }
}

const kindOf = (event) => event.type.slice(event.type.lastIndexOf(".") + 1);

function deliveriesOf(event) {
  const all = event.deliveries.map((one) => `${one.endpoint}: ${one.state}${one.attempts > 1 ? ` after ${one.attempts} attempts` : ""}`);
  return all.join(", ") || "sent to nobody";
}

/** An event of a list; its change is fetched when it is opened. */
function eventItem(event, open) {
  const box = h("div");
  const where = h("p.where");
  const details = h("details", { toggle: () => details.open && !box.hasChildNodes() && showChange(box, event.id) }, h("summary", {}, "Change"), box);
  const name = event.key === "" || event.key === undefined || event.key === null ? kindOf(event) : `${kindOf(event)} ${event.key}`;
  const element = h("li.event", {}, h("p", {}, link("event", event.id, name), " ", time(event.timestamp)), where, details);
  element.fill = (now) => say(where, deliveriesOf(now));
  details.open = open;
  return element;
}

function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), ...children);
}

// ---- A bridge

function bridgePage(name) {
  const state = badge();
  const list = h("dl");
  const error = h("pre.error");
  const errorPart = section("Last error", error);
  const held = h("dl");
  const heldNote = h("p");
  const order = async (verb, query = "") => {
    const answer = await ask(path("bridges", name, verb) + query, { method: "POST" });
    return `${name}: ${wordsOf(answer, verb)}`;
  };
  // The hash is that of what this page shows: the daemon refuses it when another answer is held by now.
  const decide = (verb) => () => order(verb, `?hash=${encodeURIComponent(held.hash)}`);
  const accept = button("Accept", decide("accept"));
  const reject = button("Reject", decide("reject"));
  const heldPart = section("Held", heldNote, held, h("p.buttons", {}, accept, " ", reject));
  const poll = button("Poll now", () => {
    tell(`${name}: polling`);
    return order("poll");
  });
  const pause = button("Pause", () => order("pause"));
  const resume = button("Resume", () => order("resume"));
  const figure = h("figure.strip");
  const show = strip(figure, `${path("bridges", name)}/strip.svg`);
  const events = h("ol.events");
  const none = h("p", {}, "Loading");
  let limit = EVENTS_AT_ONCE;
  const more = button("Show more", async () => {
    limit = Math.min(LIST_MAX, limit * 2);
  });
  more.hidden = true;
  const root = h("div", {}, h("h1", { tabindex: -1 }, "Bridge ", h("bdi", {}, name), " ", state),
    h("p.buttons", {}, poll, " ", pause, " ", resume), heldPart, errorPart, list, figure, section("Last events", none, events, h("p", {}, more)));

  return {
    root,
    title: () => `${name}: ${known.bridges[name]?.state ?? "unknown"}`,
    update() {
      const now = known.bridges[name];
      if (!now) {
        setBadge(state, "unknown");
        facts(list, [["State", known.loaded ? `No bridge is called ${name}.` : "loading"]]);
      } else {
        setBadge(state, now.state);
        facts(list, [
          ["Source", now.source],
          ["Last poll", now.last_poll && time(now.last_poll, true)],
          ["Next poll", now.polling ? "under way" : now.state === "paused" ? "none while it is paused" : now.next_poll && time(now.next_poll, true)],
          ["Records", now.records?.toLocaleString("en")],
          ["Events so far", now.sequence?.toLocaleString("en")],
          ["Failed polls in a row", now.failures || undefined],
          ["Left out of the last answer", now.left_out ? `${count(now.left_out, "record")}: ${now.left_out_error ?? ""}` : undefined],
          ["Replaced in it", now.replaced ? `${count(now.replaced, "character")}, by U+FFFD` : undefined],
          ["Hint", now.hints?.join("; ")],
          ["Kept until", now.kept_until && time(now.kept_until, true)],
          ["Why", now.state === "disabled" ? "`enabled = false` in the file" : now.state === "removed" ? why(now) : undefined],
        ]);
      }
      const { state: word, hold, last_error } = now ?? {};
      errorPart.hidden = !last_error;
      say(error, last_error ?? "");
      heldPart.hidden = !hold;
      if (hold) {
        held.hash = hold.hash;
        say(heldNote, hold.rejected ? "This answer was rejected. It is only counted when it comes again." : "This answer is not committed: it may be a mistake of the source. Accept commits it and sends its events; Reject drops it.");
        facts(held, [
          ["Reason", hold.reason],
          ["Since", time(hold.at, true)],
          ["It would", `create ${count(hold.created, "record")}, update ${hold.updated.toLocaleString("en")}, delete ${hold.deleted.toLocaleString("en")}`],
          ["Came again", now.held_again ? count(now.held_again, "time") : undefined],
          ["Hash", h("code", {}, hold.hash)],
        ]);
        reject.hidden = hold.rejected;
      }
      const there = now && word !== "removed";
      poll.hidden = !there;
      resume.hidden = word !== "paused";
      pause.hidden = !there || word === "paused" || word === "disabled";
      show();
    },
    touched: (kind, data) => (kind === "poll" ? data.bridge === name && !["unchanged", "same"].includes(data.outcome) : events.known?.has(data.event)),
    async reload() {
      const all = await ask(`events?bridge=${encodeURIComponent(name)}&limit=${limit}`);
      reconcile(events, all, (event) => event.id, (event) => eventItem(event, all.indexOf(event) < OPEN_AT_ONCE));
      say(none, all.length ? "" : "None so far.");
      more.hidden = all.length < limit || limit === LIST_MAX;
    },
  };
}

/** What came of an order. */
function wordsOf(answer, verb) {
  const { result, created, updated, deleted, records } = answer ?? {};
  if (created !== undefined) return `${result ?? verb}: ${created} created, ${updated} updated, ${deleted} deleted`;
  return `${result ?? `${verb}: done`}${records === undefined ? "" : `, ${count(records, "record")}`}`;
}

// ---- An endpoint

function attemptRow(withEndpoint) {
  return (attempt) =>
    h("tr", {},
      h("td", {}, time(attempt.at)),
      h("td", {}, withEndpoint ? link("endpoint", attempt.endpoint) : link("event", attempt.event, attempt.event.slice(0, 10) + "...")),
      h("td", {}, attempt.status === null || attempt.status === undefined ? "no answer" : `${attempt.status}`, attempt.number > 1 ? `, attempt ${attempt.number}` : ""),
      h("td.number", {}, tookText(attempt.duration_ms)),
      h("td", {}, attempt.error ? h("p.error", {}, attempt.error) : null, attempt.answer ? long(attempt.answer, 3, 200) : null),
    );
}

function attemptTable(second) {
  const body = h("tbody");
  const names = ["Time", second, "Status", "Took", "Error and answer"];
  const table = h("table.blocks.attempts", {}, h("thead", {}, h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, name)))), body);
  const make = attemptRow(second === "Endpoint");
  return [table, (all) => {
    table.hidden = !all.length;
    reconcile(body, all, (one) => `${one.event} ${one.endpoint} ${one.number} ${one.at}`, make);
  }];
}

async function replay(request) {
  const { events, deliveries } = await ask("replay", { method: "POST", body: request });
  return `${count(deliveries, "delivery", "deliveries")} of ${count(events, "event")} wait to be sent again`;
}

// Where jq makes the URL: an origin that does not answer, or has no room.
function originText({ down, next_attempt: next, last_error: error }) {
  return h("span", {}, down ? "down" : "waited for", ...(next ? [" until ", time(next, true)] : []), error ? `: ${error}` : "");
}

function endpointPage(name) {
  const state = badge();
  const list = h("dl");
  const result = h("div", { role: "status" });
  const order = (verb) => ask(path("endpoints", name, verb), { method: "POST" });
  const test = button("Test", async () => {
    const attempt = await order("test");
    const [table, fill] = attemptTable("Event");
    fill([attempt]);
    result.replaceChildren(h("h2", {}, "What came of the test"), table);
    return `${name}: the test was answered with ${attempt.status ?? "nothing"}${attempt.error ? `: ${attempt.error}` : ""}`;
  });
  const enable = button("Enable", async () => {
    await order("enable");
    return `${name}: enabled; what waits goes out now`;
  });
  const disable = button("Disable", async () => {
    if (!(await sure(`Disable the endpoint ${name}? Nothing is sent to it until it is enabled again. Its events are kept.`, "Disable"))) return "";
    await order("disable");
    return `${name}: disabled`;
  });
  const [attempts, fillAttempts] = attemptTable("Event");
  const noAttempts = h("p", {}, "Loading");
  const mine = (event) => event.deliveries.find((one) => one.endpoint === name);
  const lastOf = (event) => mine(event)?.error ?? event.last_attempt?.error ?? "";
  const queued = (event) => {
    const error = h("p.error");
    const due = h("p");
    const item = eventItem(event, false);
    item.insertBefore(error, item.lastChild);
    item.insertBefore(due, error);
    const fill = item.fill;
    item.fill = (now) => {
      fill(now);
      say(error, lastOf(now));
      const at = mine(now)?.due;
      due.replaceChildren(...(at ? ["Next attempt ", time(at)] : []));
    };
    return item;
  };
  const dead = (event) => {
    const item = queued(event);
    item.append(button("Replay", async () => replay({ ids: [event.id], endpoint: name })));
    return item;
  };
  const waitingList = h("ol.events"), deadList = h("ol.events");
  const noWaiting = h("p", {}, "Loading"), noDead = h("p", {}, "Loading");
  const replayAll = button("Replay all dead", () => replay({ dead: true, endpoint: name }));
  const root = h("div", {}, h("h1", { tabindex: -1 }, "Endpoint ", h("bdi", {}, name), " ", state), h("p.buttons", {}, enable, " ", disable, " ", test), result, list,
    section("Dead letters", noDead, h("p", {}, replayAll), deadList), section("Waiting", noWaiting, waitingList), section("Attempts", noAttempts, attempts));
  const some = (all, total, what) => (all.length < total ? `The newest ${all.length} of ${total.toLocaleString("en")}:` : all.length ? "" : `No event ${what}.`);

  return {
    root,
    title: () => `${name}: ${known.endpoints[name]?.state ?? "unknown"}`,
    update() {
      const now = known.endpoints[name];
      setBadge(state, now?.state ?? "unknown");
      facts(list, now
        ? [
            ["Why", now.state === "removed" ? why(now) : now.disabled ?? now.last_error],
            ["Last error", now.disabled && now.last_error ? now.last_error : undefined],
            ["Failing since", now.failing_since && time(now.failing_since, true)],
            ["Next attempt", now.next_attempt && time(now.next_attempt, true)],
            ...Object.entries(now.origins ?? {}).map(([origin, stands]) => [origin, originText(stands)]),
            ["Waiting", (now.waiting ?? 0).toLocaleString("en")],
            ["Oldest of them", now.oldest && time(now.oldest, true)],
            ["Under way", now.in_flight || undefined],
            ["Dead", (now.dead ?? 0).toLocaleString("en")],
            ["Kept until", now.kept_until && time(now.kept_until, true)],
          ]
        : [["State", known.loaded ? `No endpoint is called ${name}.` : "loading"]]);
      const there = now && now.state !== "removed";
      test.hidden = !there;
      enable.hidden = !there || now.state !== "disabled";
      disable.hidden = !there || now.state === "disabled";
      replayAll.hidden = !there || !now.dead;
    },
    touched: (kind, data) => kind === "delivery" && data.endpoint === name,
    async reload() {
      const to = `deliveries?endpoint=${encodeURIComponent(name)}&limit=${QUEUE_AT_ONCE}`;
      const [all, waiting, lost] = await Promise.all([ask(to), ask(`${to}&state=waiting`), ask(`${to}&state=dead`)]);
      fillAttempts(all);
      say(noAttempts, all.length ? "" : "None so far.");
      reconcile(waitingList, waiting, (event) => event.id, queued);
      reconcile(deadList, lost, (event) => event.id, dead);
      const now = known.endpoints[name] ?? {};
      say(noWaiting, some(waiting, now.waiting ?? 0, "waits"));
      say(noDead, some(lost, now.dead ?? 0, "is dead"));
    },
  };
}

// ---- An event

function eventPage(name) {
  const list = h("dl");
  const change = h("div");
  const again = button("Replay", () => replay({ ids: [name] }));
  const body = h("tbody");
  const deliveries = h("table.blocks", {}, h("thead", {}, h("tr", {}, ...["Endpoint", "State", "Attempts", "Next attempt", "Error"].map((one) => h("th", { scope: "col" }, one)))), body);
  const [attempts, fillAttempts] = attemptTable("Endpoint");
  const nothing = h("p", {}, "Loading");
  const raw = h("div");
  const root = h("div", {}, h("h1", { tabindex: -1 }, "Event ", h("code", {}, name)), h("p.buttons", {}, again), nothing, list, section("Change", change),
    section("Deliveries", deliveries), section("Attempts", attempts), section("As it was sent", raw));
  const make = (delivery) => {
    const cells = [badge(), h("span"), h("span"), h("span")];
    const row = h("tr", {}, h("th", { scope: "row" }, link("endpoint", delivery.endpoint)), ...cells.map((one) => h("td", {}, one)));
    row.fill = (now) => {
      setBadge(cells[0], now.state);
      say(cells[1], count(now.attempts, "attempt"));
      cells[2].replaceChildren(...(now.due ? ["next ", time(now.due)] : []));
      say(cells[3], now.error ?? "");
    };
    return row;
  };
  let drawn = false;
  const show = (all) => {
    for (const part of [again, ...root.querySelectorAll("section")]) part.hidden = !all;
  };
  show(false);
  return {
    root,
    title: () => name,
    update() {},
    touched: (kind, data) => kind === "delivery" && data.event === name,
    async reload() {
      let event;
      try {
        event = await whole(name);
      } catch (error) {
        // An event may be dropped while one looks at it: what is shown stays.
        if (!drawn) say(nothing, error.message);
        return;
      }
      say(nothing, "");
      show(true);
      facts(list, [
        ["Type", event.type],
        ["Bridge", event.bridge && link("bridge", event.bridge)],
        ["Key", event.key],
        ["Sequence", event.sequence],
        ["Seen", time(event.timestamp, true)],
      ]);
      reconcile(body, event.deliveries, (one) => one.endpoint, make);
      fillAttempts(event.attempts ?? []);
      if (!drawn) {
        change.replaceChildren(diff(bodies.get(name)));
        raw.replaceChildren(long(plain(bodies.get(name)), 0));
      }
      drawn = true;
    },
  };
}

// ---- What goes on, live

// The last notices, and of those the last that say something: 5,000 quiet polls would push these out.
const notices = [], telling = [];
const lastOutcome = new Map();

function note(kind, data) {
  const notice = { kind, data, at: Date.now(), number: (notices[0]?.number ?? 0) + 1 };
  // What is held stays so poll by poll, and is told of once.
  const quiet = ["unchanged", "same"].includes(data.outcome) || (data.outcome === "held" && lastOutcome.get(data.bridge) === "held");
  if (kind === "poll") lastOutcome.set(data.bridge, data.outcome);
  for (const log of quiet ? [notices] : [notices, telling]) {
    log.unshift(notice);
    log.length = Math.min(log.length, LOG_MAX);
  }
  if (kind === "poll") touch({ bridge: data.bridge });
  touch({ endpoints: kind === "delivery", page: page?.touched?.(kind, data) });
}

function noticeItem({ kind, data, at }) {
  const error = data.error ? `: ${data.error}` : "";
  const took = `, ${tookText(data.took_ms)}`;
  const item = h("li", {}, time(at), " ");
  if (kind === "poll") {
    const sum = data.outcome === "changed" ? `: ${data.created} created, ${data.updated} updated, ${data.deleted} deleted` : "";
    item.append(link("bridge", data.bridge), ` ${data.outcome}${sum}${error}${took}`);
  } else {
    item.append(link("endpoint", data.endpoint), ` ${data.class}${data.status ? ` (${data.status})` : ""}${error}${took}`);
    if (data.event) item.append(", ", link("event", data.event, "event"));
  }
  return item;
}

function drawLog() {
  if (!id("log").open || page) return;
  reconcile(id("log-list"), id("log-quiet").checked ? notices : telling, (notice) => notice.number, noticeItem);
}

/** Reads server-sent events until the connection ends. EventSource could not send the token. */
async function listen(started) {
  const controller = new AbortController();
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => controller.abort(), SILENCE_MS);
  };
  heard();
  try {
    const answer = await fetch("api/stream", { headers: { authorization: `Bearer ${token}` }, signal: controller.signal });
    if (answer.status === 401) {
      askForToken();
      return;
    }
    if (!answer.ok) return;
    started();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", kind = "", data = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("event:")) kind = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        else if (line === "" && data.length) {
          note(kind, JSON.parse(data.join("\n")));
          [kind, data] = ["", []];
        }
      }
    }
  } catch (error) {
    if (error instanceof SyntaxError) console.error(error);
  } finally {
    clearTimeout(silence);
    controller.abort();
  }
}

let listening = false;

async function keepListening() {
  if (listening) return;
  listening = true;
  for (let tries = 0; token; tries += 1) {
    await listen(() => {
      tries = 0;
      say(id("live"), "live");
      id("live").dataset.state = "ok";
      // What was missed in between.
      touch({ all: true, page: true });
    });
    if (!token) break;
    say(id("live"), "not connected");
    id("live").dataset.state = "down";
    const wait_ms = RETRY_MS[Math.min(tries, RETRY_MS.length - 1)];
    await new Promise((resolve) => setTimeout(resolve, wait_ms * (1 + Math.random() / 4)));
  }
  listening = false;
}

// ---- Where one is

const PAGES = { bridge: bridgePage, endpoint: endpointPage, event: eventPage };
let came_from, scroll_px = 0;

function askForToken(reason) {
  token = null;
  sessionStorage.removeItem("renewal");
  for (const name of ["overview", "page"]) id(name).hidden = true;
  id("ask").hidden = false;
  document.title = "bellpull";
  say(id("live"), "not connected");
  id("live").dataset.state = "down";
  if (reason) tell(reason, true);
  id("ask-token").focus();
}

/** What the link or the last page brought, changed for a token. Where it is refused, the page asks. */
async function begin() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  const renewal = sessionStorage.getItem("renewal");
  sessionStorage.removeItem("renewal");
  if (code) history.replaceState(null, "", "#/");
  if (!code && !renewal) return;
  try {
    const given = await ask("session", { method: "POST", body: code ? { code } : { renewal } });
    token = given.token;
    sessionStorage.setItem("renewal", given.renewal);
  } catch (error) {
    if (code) askForToken(error.message);
  }
}

function go(first) {
  if (!token) {
    if (id("ask").hidden) askForToken();
    return;
  }
  let kind, name;
  try {
    [, kind, name] = /^#\/(\w+)\/(.+)$/.exec(location.hash)?.map(decodeURIComponent) ?? [];
  } catch {
    // A name that is not percent-encoded UTF-8 is nobody's: the overview.
  }
  if (!page && !id("overview").hidden) scroll_px = scrollY;
  page = Object.hasOwn(PAGES, kind ?? "") ? PAGES[kind](name) : undefined;
  id("ask").hidden = true;
  id("said").hidden = true;
  id("overview").hidden = Boolean(page);
  id("page").hidden = !page;
  id("page").replaceChildren(...(page ? [page.root] : []));
  draw();
  if (page) {
    came_from = location.hash;
    scrollTo(0, 0);
  } else {
    scrollTo(0, scroll_px);
    drawOverview();
    drawStrip();
    drawLog();
  }
  // Where the last page was opened from, or else what this one is called: a keyboard goes on from there.
  const back = page ? undefined : [...id("overview").querySelectorAll("tbody a")].find((one) => one.getAttribute("href") === came_from);
  if (!first) (back ?? document.querySelector("main > section:not([hidden]) h1"))?.focus({ preventScroll: true });
  touch({ page: true, all: !known.loaded, now: true });
  keepListening();
}

for (const name of ["search", "state"]) id(name).addEventListener("input", drawOverview);
id("search").addEventListener("keydown", (pressed) => pressed.key === "Enter" && id("shown").querySelector("a")?.click());
id("endpoints-all").addEventListener("click", () => {
  allEndpoints = true;
  drawOverview();
  id("endpoints").querySelector("a")?.focus();
});
id("log").addEventListener("toggle", drawLog);
id("log-quiet").addEventListener("change", drawLog);
id("skip").addEventListener("click", (click) => {
  // The fragment is where one is, so the link itself must not change it.
  click.preventDefault();
  id("main").focus();
});
id("said-close").addEventListener("click", () => {
  id("said").hidden = true;
  id("main").focus();
});
id("sure-yes").addEventListener("click", () => id("sure").close("yes"));
id("sure-no").addEventListener("click", () => id("sure").close());
id("ask-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  token = id("ask-token").value.trim();
  id("ask-token").value = "";
  go();
});
addEventListener("hashchange", async () => {
  if (location.hash.startsWith("#code=")) await begin();
  go();
});
document.addEventListener("visibilitychange", () => touch({ all: true, page: true }));
setInterval(() => {
  if (document.hidden || !token) return;
  tick();
  drawLog();
  if (!page) drawStrip();
  if (Date.now() - asked_at > ALL_ANEW_MS) touch({ all: true, page: Boolean(page) });
}, TICK_MS);
await begin();
go(true);
