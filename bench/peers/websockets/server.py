"""A server on the websockets library: broadcast() to a topic's connections."""

import asyncio
import os
import time
from typing import Any

import orjson
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

TOPICS: dict[str, set[ServerConnection]] = {}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def publish(topic: str, message: Any) -> bool:
    if topic not in TOPICS:
        return False
    event = {"type": "event", "topic": topic, "message": message, "ts": now()}
    broadcast(TOPICS[topic], orjson.dumps(event), text=True)
    return True


async def handler(connection: ServerConnection) -> None:
    try:
        async for text in connection:
            command = orjson.loads(text)
            topic = command.get("topic")
            answer = {"type": "ack", "topic": topic, "status": "ok", "ts": now()}
            if command["type"] == "subscribe":
                TOPICS.setdefault(topic, set()).add(connection)
            elif command["type"] == "publish" and not publish(topic, command["message"]):
                answer = {"type": "error", "error": {"code": "TOPIC_NOT_FOUND"}, "ts": now()}
            await connection.send(orjson.dumps(answer), text=True)
    finally:
        for topic in [name for name, members in TOPICS.items() if connection in members]:
            TOPICS[topic].discard(connection)
            if not TOPICS[topic]:
                del TOPICS[topic]


async def main() -> None:
    port = int(os.environ["PORT"])
    async with serve(handler, "127.0.0.1", port, compression=None, backlog=4_096):
        await asyncio.Future()


uvloop.run(main())
