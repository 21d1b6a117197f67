// The recorded GitHub API of npm's @octokit/fixtures-server on a free loopback port.
//
// Usage: node fixtures-server.mjs PORT_FILE REQUEST_LOG
// Writes its port to PORT_FILE, and one JSON line for each answered request to REQUEST_LOG. The middleware insists on the recorded
// order, paths and headers; each answer is served once.

import { appendFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

import fixturesServer from "@octokit/fixtures-server";
import express from "express";

const [portFile, requestLog] = process.argv.slice(2);
const fixtureTtlMs = 180_000; // as long as the whole run may take

const app = express();
const server = createServer(app);
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  app.use((request, response, next) => {
    const { method, originalUrl, headers } = request;
    response.on("finish", () => {
      const line = { method, url: originalUrl, accept: headers.accept, status: response.statusCode };
      appendFileSync(requestLog, `${JSON.stringify(line)}\n`);
    });
    next();
  });
  app.use(fixturesServer({ fixturesUrl: `http://127.0.0.1:${port}`, logLevel: "silent", ttl: fixtureTtlMs }));
  // Renamed into place, so that a reader never sees half of it.
  writeFileSync(`${portFile}.new`, String(port));
  renameSync(`${portFile}.new`, portFile);
});
