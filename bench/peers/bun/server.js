// Bun's own pub/sub, as its documentation has it: ws.subscribe() and server.publish().
const subscribers = new Map(); // topic -> count: Bun does not say which topics there are

function now() {
  return new Date().toISOString().slice(0, 19) + "Z";
}

function leave(topic) {
  const left = subscribers.get(topic) - 1;
  if (left) subscribers.set(topic, left);
  else subscribers.delete(topic);
}

function publish(topic, message) {
  if (!subscribers.has(topic)) return false;
  server.publish(topic, JSON.stringify({ type: "event", topic, message, ts: now() }));
  return true;
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: process.env.PORT,
  async fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (pathname === "/ws" && server.upgrade(request, { data: { topics: new Set() } })) return;
    if (pathname === "/publish") {
      const { topic, payload } = await request.json();
      const published = publish(topic, { id: crypto.randomUUID(), payload });
      return Response.json({ status: "published" }, { status: published ? 200 : 404 });
    }
    return new Response("Not found", { status: 404 });
  },
  websocket: {
    message(ws, text) {
      const { type, topic, request_id, message } = JSON.parse(text);
      let answer = { type: "ack", request_id, topic, status: "ok", ts: now() };
      if (type === "subscribe" && !ws.data.topics.has(topic)) {
        ws.data.topics.add(topic);
        subscribers.set(topic, (subscribers.get(topic) ?? 0) + 1);
        ws.subscribe(topic);
      } else if (type === "publish" && !publish(topic, message)) {
        answer = { type: "error", request_id, error: { code: "TOPIC_NOT_FOUND" }, ts: now() };
      }
      ws.send(JSON.stringify(answer));
    },
    close(ws) {
      for (const topic of ws.data.topics) leave(topic);
    },
  },
});
