// What the pages are made of: elements, times, lists, diffs. Every text goes in as text, never as markup: a record may hold anything.

import { Digits, changes, exact, print, quote } from "./values.js";

const MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86400;
// A cell shows so much at once; the rest waits behind a button, so that one large record does not fill the page.
const CELL_LINES = 12, CELL_CHARACTERS = 600;
const WHOLE_LINES = 30, WHOLE_CHARACTERS = 2000;
const CHANGES_AT_ONCE = 100;
// Rows that are drawn beyond each edge of the window, so that a step of the keyboard always has one to go to.
const ROWS_BEYOND = 12;
const ROW_PX = 60;

/** An element: h("a.row", { href }, "text", child). Properties that are functions are listeners. */
export function h(name, properties, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Sets a text, and leaves the page alone where it says that already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function count(number, one, many = one + "s") {
  return `${Number(number).toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function tookText(ms) {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// ---- Times. The daemon's clock counts, not the browser's.

let ahead_ms = 0;

export function clockIs(date) {
  const told = Date.parse(date);
  // The header counts whole seconds.
  if (!Number.isNaN(told)) ahead_ms = Math.abs(told - Date.now()) < 2000 ? 0 : told - Date.now();
}

function relative(iso) {
  const away = (Date.parse(iso) - Date.now() - ahead_ms) / 1000;
  const far = Math.abs(away);
  if (far < 1) return "now";
  const [size, unit] = far < MINUTE_S ? [1, "s"] : far < HOUR_S ? [MINUTE_S, "min"] : far < 2 * DAY_S ? [HOUR_S, "h"] : [DAY_S, "d"];
  const text = `${Math.floor(far / size)} ${unit}`;
  return away > 0 ? `in ${text}` : `${text} ago`;
}

// Sweden's way to write a time is 2026-11-23 09:13:36, which nobody misreads; of the zone that the browser is in.
const LOCAL = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

/** A <time>, of RFC 3339 or of milliseconds; relative, and with `whole` the date before it. */
export function time(at, whole) {
  const element = h("time");
  element.whole = whole;
  setTime(element, at);
  return element;
}

export function setTime(element, at) {
  const iso = typeof at === "number" ? new Date(at).toISOString() : at;
  if (!iso || Number.isNaN(Date.parse(iso))) {
    element.removeAttribute("datetime");
    say(element, "-");
    return;
  }
  if (element.getAttribute("datetime") !== iso) {
    element.setAttribute("datetime", iso);
    element.title = LOCAL.format(Date.parse(iso));
  }
  say(element, element.whole ? `${element.title} (${relative(iso)})` : relative(iso));
}

export function tick() {
  for (const element of document.querySelectorAll("time[datetime]")) setTime(element, element.getAttribute("datetime"));
}

// ---- Lists

/** Makes the children of `parent` those of `items`, in order. Elements stay, with the focus that is in them: they are filled anew. */
export function reconcile(parent, items, keyOf, make) {
  const known = (parent.known ??= new Map());
  const keys = new Set(items.map(keyOf));
  for (const [key, element] of known) {
    if (!keys.has(key)) {
      element.remove();
      known.delete(key);
    }
  }
  const focused = parent.contains(document.activeElement) ? document.activeElement : undefined;
  let next = parent.firstElementChild;
  for (const item of items) {
    let element = known.get(keyOf(item));
    if (!element) {
      element = make(item);
      known.set(keyOf(item), element);
    }
    element.fill?.(item);
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  // An element that moved lost it.
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** The rows of a long table: only those in the window are in the page. They are of one height. */
export class Rows {
  constructor(table, make) {
    this.table = table;
    this.make = make;
    this.items = [];
    [this.above, this.below] = [h("td"), h("td")];
    const padding = (cell) => h("tbody.pad", { "aria-hidden": "true" }, h("tr", {}, cell));
    this.body = h("tbody");
    table.append(padding(this.above), this.body, padding(this.below));
    let asked = false;
    const later = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        this.paint();
      });
    };
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later, { passive: true });
  }

  set(items) {
    this.items = items;
    this.paint();
  }

  paint() {
    // Reads come before writes: the browser lays the page out once.
    if (!this.table.offsetParent) return;
    const row_px = this.body.rows[0]?.getBoundingClientRect().height || ROW_PX;
    const top_px = this.table.tHead.getBoundingClientRect().bottom;
    const length = this.items.length;
    const clamp = (index) => Math.max(0, Math.min(length, index));
    const from = clamp(Math.floor(-top_px / row_px) - ROWS_BEYOND);
    const to = clamp(Math.ceil((innerHeight - top_px) / row_px) + ROWS_BEYOND);
    const shown = this.items.slice(from, to).map((item, index) => ({ ...item, index: from + index }));
    reconcile(this.body, shown, (item) => item.name, this.make);
    this.table.setAttribute("aria-rowcount", length + 1);
    // The policy of the page forbids styles in markup; a script may set one.
    this.above.style.height = `${from * row_px}px`;
    this.below.style.height = `${(length - to) * row_px}px`;
  }
}

// ---- States

/** A state is a word; its colour and its sign only repeat it. */
export function badge() {
  return h("span.badge");
}

export function setBadge(element, state) {
  element.dataset.state = state;
  say(element, state);
}

/** <dt> and <dd> for each pair of a name and a text, a <time> or a link; what is undefined or empty is left out. What stays the same is left alone. */
export function facts(list, pairs) {
  const items = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => ({ name, value }));
  const same = list.names?.join("\n") === items.map(({ name }) => name).join("\n");
  list.names = items.map(({ name }) => name);
  if (!same) list.replaceChildren(...list.names.flatMap((name) => [h("dt", {}, name), h("dd")]));
  items.forEach(({ value }, index) => {
    const place = list.children[2 * index + 1];
    if (typeof value === "string" || typeof value === "number") say(place, `${value}`);
    else if (place.firstElementChild?.tagName !== value.tagName || place.textContent !== value.textContent) place.replaceChildren(value);
  });
}

// ---- Values and diffs

/** JSON or another text; behind a button where it is long. */
export function long(text, lines_max = CELL_LINES, characters_max = CELL_CHARACTERS) {
  const lines = text.split("\n").length;
  if (lines <= lines_max && text.length <= characters_max) return h("pre", {}, text);
  const pre = h("pre");
  const start = text.slice(0, 60).split("\n")[0];
  return h(
    "details",
    // Filled when it is opened: a megabyte costs nothing until then.
    { toggle: () => say(pre, text) },
    h("summary", {}, `${count(lines, "line")}, ${count(text.length, "character")}: `, h("code", {}, start), " ..."),
    pre,
  );
}

function cell(text, nothing) {
  return text === undefined ? h("td", {}, h("span.none", {}, nothing)) : h("td", {}, long(text));
}

function table(rows) {
  const body = h("tbody");
  const row = ({ path, old, fresh }) =>
    h("tr", {}, h("th.path", { scope: "row" }, path === "" ? "(the whole record)" : quote(path).slice(1, -1)), cell(old, "was absent"), cell(fresh, "removed"));
  const fill = (all) => body.replaceChildren(...rows.slice(0, all ? rows.length : CHANGES_AT_ONCE).map(row));
  fill(false);
  const head = h("thead", {}, h("tr", {}, ...["Path", "Old", "New"].map((name) => h("th", { scope: "col" }, name))));
  const found = h("table.diff", {}, head, body);
  if (rows.length <= CHANGES_AT_ONCE) return found;
  const more = h("button", { type: "button", click: () => { fill(true); more.remove(); } }, `Show all ${count(rows.length, "change")}`);
  return h("div", {}, found, more);
}

/** What an event says: its changes as a table, a record that came or went as a whole. */
export function diff(body) {
  const data = body instanceof Map && body.get("data");
  const whole = (text) => long(text, WHOLE_LINES, WHOLE_CHARACTERS);
  if (!(data instanceof Map)) return whole(print(body));
  const [before, after, patch] = ["before", "after", "patch"].map((name) => data.get(name));
  const parts = [];
  if (!exact) parts.push(h("p.note", {}, "This browser rounds long numbers."));
  if (data.get("thin") === true) {
    const paths = (data.get("changed") ?? []).map((path) => h("li", {}, h("code", {}, path === "" ? "(the whole record)" : quote(path).slice(1, -1))));
    parts.push(h("p", {}, "Too large to be sent whole. These paths changed:"), h("ul", {}, ...paths));
  } else if (before !== undefined && after !== undefined && Array.isArray(patch)) {
    try {
      parts.push(table(changes(before, patch)));
    } catch (error) {
      parts.push(h("p.note", {}, `The patch does not fit (${error.message}); here it is as it was sent.`), whole(print(patch)));
    }
  } else if (after !== undefined) parts.push(h("p.note", {}, "The record, as it came:"), whole(print(after)));
  else if (before !== undefined) parts.push(h("p.note", {}, "The record, as it was last:"), whole(print(before)));
  else parts.push(whole(print(data)));
  return h("div.change", {}, ...parts);
}

/** A text of a parsed body, whatever it is. */
export function plain(value) {
  return value instanceof Digits ? value.text : typeof value === "string" ? value : print(value ?? null);
}
