"""A server on picows as in its examples: a listener per connection, send() to each subscriber."""

import os
import time
from typing import Any

import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

TOPICS: dict[str, set[WSTransport]] = {}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def publish(topic: str, message: Any) -> bool:
    if topic not in TOPICS:
        return False
    event = {"type": "event", "topic": topic, "message": message, "ts": now()}
    data = orjson.dumps(event)
    for transport in TOPICS[topic]:
        transport.send(WSMsgType.TEXT, data)
    return True


class Listener(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            self.on_text(transport, frame.get_payload_as_bytes())

    def on_text(self, transport: WSTransport, text: bytes) -> None:
        command = orjson.loads(text)
        topic = command.get("topic")
        answer = {"type": "ack", "topic": topic, "status": "ok", "ts": now()}
        if command["type"] == "subscribe":
            TOPICS.setdefault(topic, set()).add(transport)
        elif command["type"] == "publish" and not publish(topic, command["message"]):
            answer = {"type": "error", "error": {"code": "TOPIC_NOT_FOUND"}, "ts": now()}
        transport.send(WSMsgType.TEXT, orjson.dumps(answer))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for topic in [name for name, members in TOPICS.items() if transport in members]:
            TOPICS[topic].discard(transport)
            if not TOPICS[topic]:
                del TOPICS[topic]


def accept(_: WSUpgradeRequest) -> Listener:
    return Listener()


async def main() -> None:
    server = await ws_create_server(accept, "127.0.0.1", int(os.environ["PORT"]), backlog=4_096)
    await server.serve_forever()


uvloop.run(main())
