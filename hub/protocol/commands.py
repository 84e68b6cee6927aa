"""What clients say over WebSocket: JSON decoded and validated.

Pure functions, with the limits as arguments. What breaks the rules becomes a `Refusal` value, never
an exception, so that it is answered in its place of the order.
"""

from typing import NamedTuple

import orjson

from hub.errors import ErrorCode, Refusal
from hub.protocol.validation import (
    MAX_ELEMENTS,
    MAX_ID_BYTES,
    MAX_NESTING,
    SHALLOW,
    TOO_MANY_ELEMENTS,
    Raw,
    decode_topic,
    is_long_id,
    too_deep,
    too_many_elements,
    wrong_client_id,
    wrong_key,
)
from hub.values import Json, Position, RecoverFrom


class Subscribe(NamedTuple):
    """A wish to receive a topic's events."""

    request_id: str
    topic: str
    client_id: str | None  # None where the message leaves it out
    recover_from: RecoverFrom | None = None  # the events that it asks for, if any


class Unsubscribe(NamedTuple):
    """A wish to receive them no more."""

    request_id: str
    topic: str
    client_id: str | None


class Publish(NamedTuple):
    """A message for every subscriber of a topic; over REST, `request_id` is empty."""

    request_id: str
    topic: str
    id: Json  # None where the server is to make one
    payload: Json
    key: str = ""  # by which a repetition is known; empty where the publisher gave none


class Ping(NamedTuple):
    """A question whether the server is there."""

    request_id: str


Command = Subscribe | Unsubscribe | Publish | Ping


def decode(data: Raw, max_topic_bytes: int) -> Command | Refusal:
    """One client message, checked in the contract's order.

    Raises:
        UnicodeDecodeError: `data` is no UTF-8, which ends the connection (RFC 6455 section 8.1).
    """
    if len(data) > MAX_ELEMENTS and too_many_elements(data):
        bytes(data).decode()
        return Refusal(ErrorCode.INVALID_MESSAGE, TOO_MANY_ELEMENTS)
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        bytes(data).decode()
        return Refusal(ErrorCode.INVALID_MESSAGE, "Message is not valid JSON")
    if type(message) is not dict:
        return Refusal(ErrorCode.INVALID_MESSAGE, "Message must be a JSON object")
    request_id = message.get("request_id", "")
    if type(request_id) is not str:
        return Refusal(ErrorCode.INVALID_MESSAGE, "request_id must be a string")
    kind = message.get("type")
    if kind == "publish":
        return _decode_publish(message, request_id, data, max_topic_bytes)
    if kind == "subscribe" or kind == "unsubscribe":
        return _decode_membership(message, kind, request_id, max_topic_bytes)
    if kind == "ping":
        return Ping(request_id)
    return Refusal(
        ErrorCode.INVALID_MESSAGE_TYPE,
        "type must be one of subscribe, unsubscribe, publish, ping",
        request_id,
    )


def _decode_publish(
    message: dict[str, Json], request_id: str, data: Raw, max_topic_bytes: int
) -> Publish | Refusal:
    topic = decode_topic(message.get("topic"), "publish", max_topic_bytes, request_id)
    if isinstance(topic, Refusal):
        return topic
    if "message" in message:
        content = message["message"]
    else:  # the short form
        content = {"payload": message["payload"]} if "payload" in message else None
    if type(content) is not dict:
        text = 'Message is required for publish: an object such as {"payload": "hello"}'
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    message_id, payload = content.get("id"), content.get("payload")
    if len(data) > SHALLOW and (too_deep(payload, data) or too_deep(message_id, data)):
        text = f"Message is nested too deeply: at most {MAX_NESTING} levels are allowed"
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    if message_id is not None and is_long_id(message_id):
        text = f"The message's id is too long: at most {MAX_ID_BYTES} bytes of JSON are allowed"
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    if "idempotency_key" in message:
        wrong = wrong_key(message["idempotency_key"])
        if wrong:
            return Refusal(ErrorCode.INVALID_MESSAGE, wrong, request_id)
        return Publish(request_id, topic, message_id, payload, message["idempotency_key"])
    return Publish(request_id, topic, message_id, payload)


def _decode_membership(
    message: dict[str, Json], kind: str, request_id: str, max_topic_bytes: int
) -> Subscribe | Unsubscribe | Refusal:
    topic = decode_topic(message.get("topic"), kind, max_topic_bytes, request_id)
    if isinstance(topic, Refusal):
        return topic
    client_id = None
    if "client_id" in message:
        client_id = message["client_id"]
        wrong = wrong_client_id(client_id)
        if wrong:
            return Refusal(ErrorCode.INVALID_CLIENT_ID, wrong, request_id)
    if kind == "unsubscribe":
        return Unsubscribe(request_id, topic, client_id)
    if "recover" not in message and "last_n" not in message:
        return Subscribe(request_id, topic, client_id)
    since = _decode_since(message)
    if isinstance(since, str):
        return Refusal(ErrorCode.INVALID_MESSAGE, since, request_id)
    return Subscribe(request_id, topic, client_id, since)


def _decode_since(message: dict[str, Json]) -> RecoverFrom | str:
    """What a subscriber has or wants of what was, or what is wrong with it."""
    if "recover" not in message:
        count = message["last_n"]
        if type(count) is not int or count < 0:
            return "last_n must be a whole number, 0 or more"
        return int(count)
    if "last_n" in message:
        return "Give recover, or last_n, and not both"
    position = message["recover"]
    if type(position) is dict:
        epoch, offset = position.get("epoch"), position.get("offset")
        if type(epoch) is str and type(offset) is int and offset >= 0:
            return Position(epoch, offset)
    return 'recover must be an object such as {"epoch": "4f1c", "offset": 17}'
