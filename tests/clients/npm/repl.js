// node repl.js: evaluate scripts from standard input, one a line as JSON, with `connect` and `ws` in scope; answer each
// with a line of JSON. So a test drives a client in Node as another drives one in a page.
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { connect } from "../../../clients/js/client.js";

Object.assign(globalThis, { connect, ws: { WebSocket } });
for await (const line of createInterface({ input: process.stdin })) {
  const { script, argument } = JSON.parse(line);
  let answer;
  try {
    const found = (0, eval)(script);
    answer = { value: await (typeof found === "function" ? found(argument) : found) };
  } catch (fault) {
    answer = { error: String(fault) };
  }
  console.log(JSON.stringify(answer));
}
process.exit();
