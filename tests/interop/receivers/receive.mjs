// Receives bellpull's events: node receive.mjs, with SECRET and PORT in the environment. Needs npm's standardwebhooks.
import { createServer } from "node:http";

import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.SECRET);
const applied = new Map(); // stream, bridge, key: the last sequence. Keep it where your data is, and change both together.

function apply(event) {
  console.log(event.type, event.data.key, event.data.sequence);
}

/** The status to answer. */
function receive(body, headers) {
  let event;
  try {
    event = webhook.verify(body, headers);
  } catch {
    return 401;
  }
  if (!event.type.startsWith("bellpull.")) { // those tell of bellpull itself, and have no sequence
    const { stream, bridge, key, sequence } = event.data;
    const record = JSON.stringify([stream, bridge, key]);
    if (sequence > (applied.get(record) ?? 0)) {
      apply(event);
      applied.set(record, sequence);
    }
  }
  return 204;
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  response.writeHead(receive(Buffer.concat(chunks).toString("utf8"), request.headers)).end();
});

server.listen(Number(process.env.PORT), "127.0.0.1");
