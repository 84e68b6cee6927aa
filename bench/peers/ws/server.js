// A server on the `ws` package, as in its README: a loop of client.send() over a topic's sockets.
const http = require("node:http");
const { WebSocket, WebSocketServer } = require("ws");

const topics = new Map(); // topic -> Set of sockets

function now() {
  return new Date().toISOString().slice(0, 19) + "Z";
}

function publish(topic, message) {
  const sockets = topics.get(topic);
  if (!sockets) return false;
  // One Buffer for all: with a string, each send() would make its own.
  const event = Buffer.from(JSON.stringify({ type: "event", topic, message, ts: now() }));
  for (const client of sockets) {
    if (client.readyState === WebSocket.OPEN) client.send(event, { binary: false });
  }
  return true;
}

function subscribe(ws, topic) {
  if (!topics.has(topic)) topics.set(topic, new Set());
  topics.get(topic).add(ws);
  ws.topics.add(topic);
}

function leave(ws) {
  for (const topic of ws.topics) {
    const sockets = topics.get(topic);
    sockets.delete(ws);
    if (!sockets.size) topics.delete(topic);
  }
}

const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    const { topic, payload } = JSON.parse(body);
    const published = publish(topic, { id: process.hrtime.bigint().toString(), payload });
    const answer = JSON.stringify({ status: "published" });
    const headers = { "Content-Type": "application/json", "Content-Length": answer.length };
    response.writeHead(published ? 200 : 404, headers).end(answer);
  });
});

new WebSocketServer({ server, perMessageDeflate: false }).on("connection", (ws) => {
  ws.topics = new Set();
  ws.on("error", console.error);
  ws.on("close", () => leave(ws));
  ws.on("message", (data) => {
    const { type, topic, request_id, message } = JSON.parse(data);
    let answer = { type: "ack", request_id, topic, status: "ok", ts: now() };
    if (type === "subscribe") subscribe(ws, topic);
    else if (type === "publish" && !publish(topic, message))
      answer = { type: "error", request_id, error: { code: "TOPIC_NOT_FOUND" }, ts: now() };
    ws.send(JSON.stringify(answer));
  });
});

server.listen({ host: "127.0.0.1", port: process.env.PORT, backlog: 4096 });
