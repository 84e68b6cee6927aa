"""Encodes the messages and answers of the server as JSON.

Pure functions. The keys of each message are in the order of docs/protocol.md. `ts` is a timestamp
(hub/ids.py).
"""

from collections.abc import Sequence

import orjson

from hub.errors import Refusal
from hub.values import Json, Position


def encode_event(topic: str, message_id: Json, payload: Json, ts: str) -> bytes:
    """Encode the event that the subscribers of `topic` get."""
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
    """Encode the answer to a command that was carried out.

    Args:
        request_id: of the command; an empty one is left out.
        topic: the topic's name.
        ts: the timestamp.
        degraded: whether the command took effect on this node alone.
        duplicate: whether a publish was carried out before, with the same idempotency key.
        position: of the published event, or of the topic; None without history.
        recovered: whether the missed events follow; None if none were asked for.
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


def encode_auth_ack(request_id: str, ts: str, sub: str, expires_at: str) -> bytes:
    """Encode the answer to an `auth`; `sub` and `expires_at` are left out if empty."""
    ack = {"type": "ack", "request_id": request_id, "status": "ok"}
    ack |= {"sub": sub, "expires_at": expires_at, "ts": ts}
    return orjson.dumps({key: value for key, value in ack.items() if value})


def encode_pong(request_id: str, ts: str) -> bytes:
    """Encode the answer to a ping message; an empty `request_id` is left out."""
    if request_id:
        return orjson.dumps({"type": "pong", "request_id": request_id, "ts": ts})
    return orjson.dumps({"type": "pong", "ts": ts})


def encode_error(refusal: Refusal, ts: str) -> bytes:
    """Encode the answer to a refused command, or the error before a Close."""
    error: dict[str, Json] = {"code": refusal.code, "message": refusal.text}
    if refusal.retry_after_ms:
        error["retry_after_ms"] = refusal.retry_after_ms
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
    """Encode a notice.

    Args:
        topic: the topic that the notice is about; None if it is about the connection.
        message_id: the id of the notice.
        payload: a text or an object for the client.
        reason: one of `hub.protocol.notices.Reason`.
        ts: the timestamp.
        fields: other fields of the message.
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
    """Encode the body of a page of history, from encoded events."""
    head = orjson.dumps({"topic": topic, **position._asdict()})
    return b'%b,"events":[%b]}' % (head[:-1], b",".join(events))


def encode_answer(fields: dict[str, Json]) -> bytes:
    """Encode the body of a REST answer."""
    return orjson.dumps(fields)
