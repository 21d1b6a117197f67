// What the servers in JavaScript have in common: the shop's state, a file that the driver replaces whole (see shop.py), and how they say
// that they listen.

import { appendFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";

export const state = (file) => JSON.parse(readFileSync(file, "utf8"));

export const log = (file, what) => appendFileSync(file, `${JSON.stringify(what)}\n`);

// Written under another name first: the driver never reads half a number.
export const listening = (portFile, port) => {
  writeFileSync(`${portFile}.new`, String(port));
  renameSync(`${portFile}.new`, portFile);
};
