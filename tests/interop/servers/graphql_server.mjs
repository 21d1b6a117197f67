// A GraphQL service made with npm's graphql, graphql-relay and graphql-http: a connection with cursors.
//
// Usage: node graphql_server.mjs PORT_FILE STATE_FILE REQUEST_LOG
// In trouble the note of the last order cannot be had: a 200 with `errors` beside nearly all of `data`.

import { createServer } from "node:http";

import { GraphQLEnumType, GraphQLID, GraphQLInt, GraphQLList, GraphQLNonNull, GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";
import { createHandler } from "graphql-http/lib/use/http";
import { connectionArgs, connectionDefinitions, connectionFromArray } from "graphql-relay";

import { listening, log, state } from "./shop.mjs";

const [portFile, stateFile, requestLog] = process.argv.slice(2);

const text = new GraphQLNonNull(GraphQLString);
const Line = new GraphQLObjectType({ name: "Line", fields: { sku: { type: text }, count: { type: new GraphQLNonNull(GraphQLInt) } } });
const Status = new GraphQLEnumType({ name: "Status", values: { OPEN: {}, PAID: {}, SHIPPED: {} } });
const Order = new GraphQLObjectType({
  name: "Order",
  fields: {
    id: { type: new GraphQLNonNull(GraphQLID) },
    customer: { type: text },
    status: { type: new GraphQLNonNull(Status) },
    total: { type: text },
    note: {
      type: GraphQLString,
      resolve: (order) => {
        const { orders, trouble } = state(stateFile);
        if (trouble && order.id === orders.at(-1).id) {
          throw new Error("the notes are being sorted");
        }
        return order.note;
      },
    },
    lines: { type: new GraphQLNonNull(new GraphQLList(Line)) },
  },
});
const { connectionType } = connectionDefinitions({ nodeType: Order });
const schema = new GraphQLSchema({
  query: new GraphQLObjectType({
    name: "Query",
    fields: {
      orders: {
        type: connectionType,
        args: connectionArgs,
        resolve: (_, args) => {
          const { orders, trouble } = state(stateFile);
          log(requestLog, { first: args.first, after: args.after ?? null, trouble });
          return connectionFromArray(orders, args);
        },
      },
    },
  }),
});

const server = createServer(createHandler({ schema }));
server.listen(0, "127.0.0.1", () => listening(portFile, server.address().port));
