// A receiver that keeps every request as it came, for verify.mjs.
//
// Usage: node capture.mjs PORT_FILE LEDGER
// Answers 204 to a POST, and the handshake of CloudEvents to an OPTIONS; each is one JSON line of LEDGER, its body in base64.

import { appendFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

const [portFile, ledger] = process.argv.slice(2);

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const { method, url: path, headers } = request;
    const body = Buffer.concat(chunks).toString("base64");
    appendFileSync(ledger, `${JSON.stringify({ method, path, headers, body })}\n`);
    if (method === "OPTIONS") {
      const origin = headers["webhook-request-origin"] ?? "*";
      response.writeHead(200, { "webhook-allowed-origin": origin, "webhook-allowed-rate": "6000", "content-length": "0" }).end();
    } else {
      response.writeHead(204).end();
    }
  });
});
server.listen(0, "127.0.0.1", () => {
  writeFileSync(`${portFile}.new`, String(server.address().port));
  renameSync(`${portFile}.new`, portFile);
});
