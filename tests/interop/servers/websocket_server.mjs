// A WebSocket stream made with npm's ws: a client subscribes, is told so, gets every order there is, then each new version of one.
//
// Usage: node websocket_server.mjs PORT_FILE STATE_FILE REQUEST_LOG [PORT]
// PORT is for a restart at the same address. Clients that want another topic, or lack the key, get nothing.

import { WebSocketServer } from "ws";

import { follow, listening, log } from "./shop.mjs";

const [portFile, stateFile, requestLog, port] = process.argv.slice(2);
const KEY = "Bearer test-key"; // a test value
const PING_EVERY_MS = 200;

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port ?? 0) });
server.on("listening", () => listening(portFile, server.address().port));

server.on("connection", (socket, request) => {
  const allowed = request.headers.authorization === KEY;
  log(requestLog, { event: "connected", allowed });
  const pings = setInterval(() => socket.ping(), PING_EVERY_MS);
  const ends = [() => clearInterval(pings)];
  socket.on("message", (data) => {
    const message = JSON.parse(data.toString());
    log(requestLog, { event: "message", message });
    if (allowed && message.op === "subscribe" && message.topic === "orders") {
      socket.send(JSON.stringify({ type: "subscribed", topic: message.topic, id: message.id }));
      ends.push(
        follow(stateFile, {
          order: (order) => socket.send(JSON.stringify({ type: "order", order })),
          removed: (id) => socket.send(JSON.stringify({ type: "removed", id })),
        }),
      );
    } else {
      socket.send(JSON.stringify({ type: "error", reason: "not subscribed" }));
    }
  });
  socket.on("ping", () => log(requestLog, { event: "ping" })); // ws answers it by itself
  socket.on("pong", () => log(requestLog, { event: "pong" }));
  socket.on("close", (code) => {
    ends.forEach((end) => end());
    log(requestLog, { event: "closed", code });
  });
});
process.on("SIGTERM", () => {
  server.clients.forEach((client) => client.close(1012, "restart"));
  server.close(() => process.exit(0));
});
