// What a program in TypeScript may write with the client, and what it may not. It is compiled, and not run.
import WebSocket from "ws";
import { connect, RefusedError, type Client, type Detail, type Item, type Position, type State, type Subscription } from "websocket-broadcast-client";

const client: Client = connect("ws://localhost:8080/ws", {
  WebSocket,
  clientId: "ann",
  token: async () => "a token",
  headers: { "X-Tenant": "blue" },
  tls: { rejectUnauthorized: false },
  transports: ["websocket", "sse"],
  onState: (state, { why, attempt, ms, error }) => console.log(state, why, attempt?.toFixed(), ms?.toFixed(), error?.code),
});
const state: State = client.state;
const remove: () => void = client.onState(() => remove());
client.onState((state, detail) => {
  if (state === "waiting") console.log(detail.why.length, detail.attempt.toFixed(), detail.ms.toFixed());
  else if (state === "closed") console.log(detail.error === null ? "by us" : detail.error.code);
});
client.onState((state: State, detail: Detail) => console.log(state, detail.why));
await client.ready({ timeout: null });

const news: Subscription = client.subscribe("news", (item: Item) => {
  if (item.kind === "event") console.log(item.payload, item.offset?.toFixed());
  else if (item.kind === "lost") console.log(item.why, item.count?.toFixed());
  else item satisfies { kind: "deleted"; topic: string };
}, { lastN: 10, onAck: (ack) => console.log(ack.recovered) });
await news.ready({ timeout: 1_000 });
const position: Position | null = news.position;
for await (const item of client.subscribe("other", null, { recover: position })) console.log(item.topic);

const ack = await client.publish("news", { any: "json" }, { key: "k", timeout: 1_000 });
const offset: number | undefined = ack.offset;
for (const outcome of await client.publishBatch([{ topic: "news", payload: 1 }]))
  console.log(outcome instanceof RefusedError ? outcome.retryAfterMs : outcome.topic);
const { events, position: newest } = await client.history("news", { reverse: true, limit: 1 });
const { topics, next } = await client.topics({ prefix: "n" });
console.log(state, offset, events[0]?.ts, newest.epoch, topics["news"]?.toFixed(), next?.length, client.transport, client.latency);
client.retry();
client.close();
await client.ended();

// @ts-expect-error: an option that there is not
connect("ws://localhost:8080/ws", { tokens: "a" });
// @ts-expect-error: internal
news._put;
// @ts-expect-error: it is read only
news.position = null;
// @ts-expect-error: a number of ms
client.ready({ timeout: "10 s" });
