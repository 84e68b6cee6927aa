"""What the server says, encoded as JSON. The keys of each message are in the contract's order.

Pure functions: the time and the ids come in as arguments.
"""

from collections.abc import Sequence

import orjson

from hub.errors import Refusal
from hub.values import Json, Position


def encode_event(topic: str, message_id: Json, payload: Json, ts: str) -> bytes:
    """The event that every subscriber of `topic` gets, on every node."""
    return orjson.dumps(
        {
            "type": "event",
            "topic": topic,
            "message": {"id": message_id, "payload": payload},
            "ts": ts,
        }
    )


def encode_ack(
    request_id: str,
    topic: str,
    ts: str,
    degraded: bool = False,
    duplicate: bool = False,
    position: Position | None = None,
    recovered: bool | None = None,
) -> bytes:
    """The answer to a command that was carried out.

    `degraded`: on this node alone; `duplicate`: when it was first sent; `position`: where the topic
    is, or the event; `recovered`: whether what was missed follows.
    """
    if degraded or duplicate or position is not None or recovered is not None:
        ack: dict[str, Json] = {"type": "ack"}
        if request_id:
            ack["request_id"] = request_id
        ack |= {"topic": topic, "status": "ok"}
        if degraded:
            ack["degraded"] = True
        if duplicate:
            ack["duplicate"] = True
        if position is not None:
            ack |= position._asdict()
        if recovered is not None:
            ack["recovered"] = recovered
        ack["ts"] = ts
        return orjson.dumps(ack)
    if request_id:
        return orjson.dumps(
            {"type": "ack", "request_id": request_id, "topic": topic, "status": "ok", "ts": ts}
        )
    return orjson.dumps({"type": "ack", "topic": topic, "status": "ok", "ts": ts})


def encode_pong(request_id: str, ts: str) -> bytes:
    """The answer to a ping message."""
    if request_id:
        return orjson.dumps({"type": "pong", "request_id": request_id, "ts": ts})
    return orjson.dumps({"type": "pong", "ts": ts})


def encode_error(refusal: Refusal, ts: str) -> bytes:
    """The answer to a command that was refused, or the word before a Close."""
    error = {"code": refusal.code, "message": refusal.text}
    if refusal.request_id:
        return orjson.dumps(
            {"type": "error", "request_id": refusal.request_id, "error": error, "ts": ts}
        )
    return orjson.dumps({"type": "error", "error": error, "ts": ts})


def encode_info(
    topic: str | None,
    message_id: str,
    payload: Json,
    reason: str,
    ts: str,
    fields: dict[str, Json] | None = None,
) -> bytes:
    """News from the server itself, about one topic or (None) about the connection.

    `fields`: what the reason adds at the top.
    """
    info: dict[str, Json] = {"type": "info"}
    if topic is not None:
        info["topic"] = topic
    info["message"] = {"id": message_id, "payload": payload}
    info["reason"] = reason
    if fields is not None:
        info |= fields
    info["ts"] = ts
    return orjson.dumps(info)


def encode_history(topic: str, position: Position, events: Sequence[bytes]) -> bytes:
    """The body of an answer with events that are encoded already."""
    head = orjson.dumps({"topic": topic, **position._asdict()})
    return b'%b,"events":[%b]}' % (head[:-1], b",".join(events))


def encode_answer(fields: dict[str, Json]) -> bytes:
    """The body of a REST answer."""
    return orjson.dumps(fields)
