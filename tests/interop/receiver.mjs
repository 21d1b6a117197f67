// A receiver that verifies every webhook with npm's standardwebhooks.
//
// Usage: node receiver.mjs PORT_FILE LEDGER SECRET_FILE
// Answers 204 to what verifies and 400 to what does not; either way one JSON line goes to LEDGER.

import { appendFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

import { Webhook } from "standardwebhooks";

const [portFile, ledger, secretFile] = process.argv.slice(2);
const webhook = new Webhook(readFileSync(secretFile, "utf8").trim());

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks).toString("utf8");
    let error = null;
    try {
      webhook.verify(body, request.headers);
    } catch (reason) {
      error = `${reason.name}: ${reason.message}`;
    }
    const { method, url: path, headers } = request;
    appendFileSync(ledger, `${JSON.stringify({ method, path, headers, verified: error === null, error, body })}\n`);
    response.writeHead(error === null ? 204 : 400).end();
  });
});
server.listen(0, "127.0.0.1", () => {
  writeFileSync(`${portFile}.new`, String(server.address().port));
  renameSync(`${portFile}.new`, portFile);
});
