"""A server on python-socketio as in its documentation: a room for each topic, on aiohttp."""

import os
import time
from typing import Any

import socketio
import uvloop
from aiohttp import web

REDIS = os.environ.get("REDIS_URL")
manager = socketio.AsyncRedisManager(REDIS) if REDIS else None
sio = socketio.AsyncServer(
    async_mode="aiohttp",
    cors_allowed_origins="*",
    client_manager=manager,
    # Otherwise publishes of one client may overtake each other on their way through Redis.
    async_handlers=not REDIS,
)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@sio.event
async def subscribe(sid: str, command: dict[str, Any]) -> None:
    await sio.enter_room(sid, command["topic"])
    await sio.emit("ack", {"topic": command["topic"], "status": "ok", "ts": now()}, to=sid)


@sio.event
async def publish(sid: str, command: dict[str, Any]) -> None:
    topic = command["topic"]
    event = {"topic": topic, "message": command["message"], "ts": now()}
    await sio.emit("event", event, room=topic)
    await sio.emit("ack", {"topic": topic, "status": "ok", "ts": now()}, to=sid)


app = web.Application()
sio.attach(app)
web.run_app(
    app,
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    backlog=4_096,
    print=None,
    loop=uvloop.new_event_loop(),
)
