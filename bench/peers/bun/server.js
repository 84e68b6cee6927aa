// A server on Bun's pub/sub, as in its documentation: ws.subscribe() and server.publish().
function now() {
  return new Date().toISOString().slice(0, 19) + "Z";
}

function publish(topic, message) {
  // 0 means that there is no subscriber; -1 means backpressure.
  const event = JSON.stringify({ type: "event", topic, message, ts: now() });
  return server.publish(topic, event) !== 0;
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: process.env.PORT,
  async fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (pathname === "/ws" && server.upgrade(request)) return;
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
      if (type === "subscribe") {
        ws.subscribe(topic);
      } else if (type === "publish" && !publish(topic, message)) {
        answer = { type: "error", request_id, error: { code: "TOPIC_NOT_FOUND" }, ts: now() };
      }
      ws.send(JSON.stringify(answer));
    },
  },
});
