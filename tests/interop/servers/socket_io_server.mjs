// A stream made with npm's socket.io: its server asks for a sign of life in messages of its own, and hangs up where none comes.
//
// Usage: node socket_io_server.mjs PORT_FILE STATE_FILE REQUEST_LOG [PORT]

import { createServer } from "node:http";

import { Server } from "socket.io";

import { follow, listening, log } from "./shop.mjs";

const [portFile, stateFile, requestLog, port] = process.argv.slice(2);
const KEY = "test-key"; // a test value

const http = createServer();
const io = new Server(http, { pingInterval: 300, pingTimeout: 400, transports: ["websocket"] });
io.use((socket, next) => {
  const allowed = socket.handshake.auth.key === KEY;
  log(requestLog, { event: "connected", allowed });
  next(allowed ? undefined : new Error("who are you?"));
});
io.on("connection", (socket) => {
  const end = follow(stateFile, { order: (order) => socket.emit("order", order) });
  socket.conn.on("packet", ({ type }) => log(requestLog, { event: type }));
  socket.on("disconnect", (reason) => {
    end();
    log(requestLog, { event: "disconnected", reason });
  });
});
http.listen(Number(port ?? 0), "127.0.0.1", () => listening(portFile, http.address().port));
process.on("SIGTERM", () => io.close(() => process.exit(0)));
