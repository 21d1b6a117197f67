// What a record's JSON says, as text: it never becomes a number of JavaScript, which would make 12345678901234567000 of 12345678901234567890 and
// 1.1 of 1.10. Nothing here touches the page.

/** A number, as the source wrote it. */
export class Digits {
  constructor(text) {
    this.text = text;
  }
}

/** Whether this browser tells a reviver what a number's text was (Chromium 114, Firefox 135, Safari 18.4). Else the page says that it rounds. */
export const exact = JSON.parse("1.0", (key, value, context) => context?.source) === "1.0";

/** JSON with numbers as Digits and objects as Maps: a record may have a key such as "__proto__". */
export function parse(text) {
  return JSON.parse(text, (key, value, context) => {
    if (typeof value === "number") return new Digits(context?.source ?? String(value));
    if (value === null || typeof value !== "object" || Array.isArray(value) || value instanceof Digits) return value;
    return value instanceof Map ? value : new Map(Object.entries(value));
  });
}

// What would turn the direction of the text around it, or take no room: it is shown by its number, so that a value cannot look like another one.
const UNSEEN = /[\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** A string as JSON, with nothing in it that cannot be seen. */
export function quote(text) {
  return JSON.stringify(text).replace(UNSEEN, (one) => "\\u" + one.charCodeAt(0).toString(16).padStart(4, "0"));
}

/** JSON, indented. */
export function print(value, indent = "") {
  if (value instanceof Digits) return value.text;
  if (typeof value === "string") return quote(value);
  const inner = indent + "  ";
  const block = (open, lines, close) => (lines.length ? `${open}\n${inner}${lines.join(`,\n${inner}`)}\n${indent}${close}` : open + close);
  if (Array.isArray(value)) return block("[", value.map((one) => print(one, inner)), "]");
  if (value instanceof Map) return block("{", Array.from(value, ([key, one]) => `${quote(key)}: ${print(one, inner)}`), "}");
  return String(value);
}

function copy(value) {
  if (Array.isArray(value)) return value.map(copy);
  if (value instanceof Map) return new Map(Array.from(value, ([key, one]) => [key, copy(one)]));
  return value;
}

function at(holder, key) {
  if (holder instanceof Map) return holder.get(key);
  if (Array.isArray(holder)) return holder[Number(key)];
  throw new Error("a path that leads nowhere");
}

function apply(op, holder, key, value) {
  if (Array.isArray(holder)) {
    const index = key === "-" ? holder.length : Number(key);
    if (op === "replace") holder[index] = value;
    else holder.splice(index, op === "remove" ? 1 : 0, ...(op === "add" ? [value] : []));
  } else if (op === "remove") holder.delete(key);
  else holder.set(key, value);
}

/**
 * An RFC 6902 patch as rows { path, old, fresh }, texts or undefined. A path into a list counts what the steps before it put in or took out: that is
 * why each step is carried out on a copy before the next one is read. Throws where it does not fit.
 */
export function changes(before, patch) {
  const root = new Map([["", copy(before)]]);
  return patch.map((step) => {
    const op = step.get("op");
    const path = step.get("path");
    if (!["add", "remove", "replace"].includes(op)) throw new Error(`a step of another kind: ${op}`);
    const keys = path.split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    // The first piece is "", and so is the name of the whole record in `root`.
    const last = keys.pop();
    const holder = keys.reduce(at, root);
    const old = op === "add" && Array.isArray(holder) ? undefined : at(holder, last);
    const row = { path, old: old === undefined ? undefined : print(old), fresh: op === "remove" ? undefined : print(step.get("value")) };
    apply(op, holder, last, copy(step.get("value")));
    return row;
  });
}
