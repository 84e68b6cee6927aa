"""A server whose POST /publish delivers and answers 200, but without "published" in the answer."""

import json
import os
from typing import Any

from aiohttp import web

MEMBERS: dict[str, web.WebSocketResponse] = {}


async def websocket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for said in ws:
        MEMBERS[json.loads(said.data)["topic"]] = ws
        await ws.send_str('{"type":"ack"}')
    return ws


async def publish(request: web.Request) -> web.Response:
    body: dict[str, Any] = await request.json()
    message = {"payload": body["payload"]}
    event = {"type": "event", "topic": body["topic"], "message": message}
    await MEMBERS[body["topic"]].send_str(json.dumps(event))
    return web.json_response({"status": "thrown away"})


app = web.Application()
app.add_routes([web.get("/ws", websocket), web.post("/publish", publish)])
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
