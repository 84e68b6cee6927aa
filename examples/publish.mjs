// Publish each line of the standard input to a topic, from Node without any package.
// Shows: one POST for each message. If its outcome is unknown it is sent again with the same key, and
// the server publishes it once. API_KEY in the environment is sent to a server with access control.
// Run it while a server runs: seq 3 | node examples/publish.mjs TOPIC

import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const SERVER = "http://localhost:8080";
const ATTEMPTS = 8;
const headers = process.env.API_KEY ? { "X-API-Key": process.env.API_KEY } : {};

/** Send a request until it is answered, and return the answer. */
async function post(path, content) {
  const body = JSON.stringify(content);
  let why;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      const signal = AbortSignal.timeout(10_000);
      const answer = await fetch(SERVER + path, { method: "POST", headers, body, signal });
      const text = await answer.text();
      if (![429, 503].includes(answer.status)) return { status: answer.status, text };
      why = text;
    } catch (error) {
      why = error.cause ?? error;
    }
    await sleep(250 * 2 ** attempt);
  }
  throw new Error(`${SERVER} does not answer: ${why}`);
}

const [topic = "numbers"] = process.argv.slice(2);
const { status, text } = await post("/topics", { name: topic });  // a created topic lasts without subscribers
if (![201, 409].includes(status)) throw new Error(text);

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await post("/publish", { topic, payload: line, idempotency_key: randomUUID() });
  if (answer.status !== 200) throw new Error(answer.text);
  console.log(`${line} -> ${JSON.parse(answer.text).receivers} subscribers`);
}
