// A subscription over GraphQL's WebSocket protocol, made with npm's graphql-ws, the reference: it closes with 4401 where a client subscribes
// before it was acknowledged, and with 4403 where the key in the first message is wrong.
//
// Usage: node graphql_ws_server.mjs PORT_FILE STATE_FILE REQUEST_LOG [PORT]

import { GraphQLInt, GraphQLList, GraphQLNonNull, GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";

import { follow, listening, log } from "./shop.mjs";

const [portFile, stateFile, requestLog, port] = process.argv.slice(2);
const KEY = "test-key"; // a test value
const ACKNOWLEDGE_AFTER_MS = 300; // a login that takes its time

const text = { type: new GraphQLNonNull(GraphQLString) };
const Line = new GraphQLObjectType({ name: "Line", fields: { sku: text, count: { type: GraphQLInt } } });
const Order = new GraphQLObjectType({
  name: "Order",
  fields: {
    id: text,
    customer: text,
    status: text,
    total: text,
    note: { type: GraphQLString },
    lines: { type: new GraphQLList(Line) },
  },
});

async function* orders() {
  const waiting = [];
  let wake = () => {};
  const end = follow(stateFile, {
    order: (order) => {
      waiting.push(order);
      wake();
    },
  });
  try {
    for (;;) {
      while (waiting.length > 0) {
        yield { order: waiting.shift() };
      }
      await new Promise((resolve) => (wake = resolve));
    }
  } finally {
    end();
  }
}

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({ name: "Query", fields: { shop: { ...text, resolve: () => "shop" } } }),
  subscription: new GraphQLObjectType({
    name: "Subscription",
    fields: { order: { type: Order, args: { region: text }, subscribe: orders } },
  }),
});

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port ?? 0) });
server.on("listening", () => listening(portFile, server.address().port));
server.on("connection", (socket) => socket.on("close", (code) => log(requestLog, { event: "closed", code })));
useServer(
  {
    schema,
    onConnect: async ({ connectionParams }) => {
      await new Promise((resolve) => setTimeout(resolve, ACKNOWLEDGE_AFTER_MS));
      const allowed = connectionParams?.key === KEY;
      log(requestLog, { event: "connected", allowed });
      return allowed;
    },
    onSubscribe: (_, id, { variables }) => log(requestLog, { event: "subscribed", id, variables }),
  },
  server,
);
process.on("SIGTERM", () => {
  server.clients.forEach((client) => client.close(1012, "restart"));
  server.close(() => process.exit(0));
});
