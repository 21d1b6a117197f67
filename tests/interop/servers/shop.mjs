// What the servers in JavaScript have in common: the shop's state, a file that the driver replaces whole (see shop.py), and how they say
// that they listen.

import { appendFileSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";

export const state = (file) => JSON.parse(readFileSync(file, "utf8"));

export const log = (file, what) => appendFileSync(file, `${JSON.stringify(what)}\n`);

// Written under another name first: the driver never reads half a number.
export const listening = (portFile, port) => {
  writeFileSync(`${portFile}.new`, String(port));
  renameSync(`${portFile}.new`, portFile);
};

const LOOK_EVERY_MS = 25;

// Tells every order there is, then each new version of one, and the id of one that is gone. Returns what ends it.
export const follow = (file, { order: tell, removed = () => {} }) => {
  const sent = new Map(); // id -> the version that was told
  const push = () => {
    const { orders } = state(file);
    for (const order of orders) {
      const version = JSON.stringify(order);
      if (sent.get(order.id) !== version) {
        sent.set(order.id, version);
        tell(order);
      }
    }
    const there = new Set(orders.map((order) => order.id));
    for (const id of sent.keys()) {
      if (!there.has(id)) {
        sent.delete(id);
        removed(id);
      }
    }
  };
  let seen = statSync(file).ino;
  push();
  const timer = setInterval(() => {
    const now = statSync(file).ino; // replaced whole: another file
    if (now !== seen) {
      seen = now;
      push();
    }
  }, LOOK_EVERY_MS);
  return () => clearInterval(timer);
};
