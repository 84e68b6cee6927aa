"""A server on aiohttp in the usual way: a task for each socket, send_str() to each subscriber."""

import os
import time
from typing import Any

import orjson
import uvloop
from aiohttp import WSMsgType, web

TOPICS: dict[str, set[web.WebSocketResponse]] = {}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


async def broadcast(topic: str, message: Any) -> bool:
    if topic not in TOPICS:
        return False
    event = {"type": "event", "topic": topic, "message": message, "ts": now()}
    text = dumps(event)
    for ws in list(TOPICS[topic]):
        try:
            await ws.send_str(text)
        except ConnectionError:
            TOPICS[topic].discard(ws)
    return True


async def websocket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    try:
        async for said in ws:
            if said.type is WSMsgType.TEXT:
                await handle(ws, orjson.loads(said.data))
    finally:
        for topic in [name for name, members in TOPICS.items() if ws in members]:
            TOPICS[topic].discard(ws)
            if not TOPICS[topic]:
                del TOPICS[topic]
    return ws


async def handle(ws: web.WebSocketResponse, command: dict[str, Any]) -> None:
    topic = command.get("topic", "")
    answer: dict[str, Any] = {"type": "ack", "topic": topic, "status": "ok", "ts": now()}
    if command["type"] == "subscribe":
        TOPICS.setdefault(topic, set()).add(ws)
    elif command["type"] == "publish" and not await broadcast(topic, command["message"]):
        answer = {"type": "error", "error": {"code": "TOPIC_NOT_FOUND"}, "ts": now()}
    await ws.send_str(dumps(answer))


async def publish(request: web.Request) -> web.Response:
    body = await request.json(loads=orjson.loads)
    message = {"id": str(time.time_ns()), "payload": body["payload"]}
    published = await broadcast(body["topic"], message)
    return web.json_response({"status": "published"}, status=200 if published else 404, dumps=dumps)


app = web.Application()
app.add_routes([web.get("/ws", websocket), web.post("/publish", publish)])
web.run_app(
    app,
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    backlog=4_096,
    access_log=None,
    print=None,
    loop=uvloop.new_event_loop(),
)
