"""Decodes and validates the JSON messages that clients send over WebSocket.

Pure functions: they take the limits as arguments and return an invalid message as a `Refusal`, not
as an exception, so that it is answered in order with the commands before and after.
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
    check_client_id,
    check_idempotency_key,
    decode_topic,
    has_too_many_elements,
    is_id_too_long,
    is_too_deep,
)
from hub.values import Json, Position, RecoverFrom


class Subscribe(NamedTuple):
    """A command to subscribe to a topic."""

    request_id: str
    topic: str
    client_id: str | None  # None if the message has none
    recover_from: RecoverFrom | None = None  # where the recovery begins; None for none


class Unsubscribe(NamedTuple):
    """A command to unsubscribe from a topic."""

    request_id: str
    topic: str
    client_id: str | None


class Publish(NamedTuple):
    """A command to publish a message to a topic; over REST, `request_id` is empty."""

    request_id: str
    topic: str
    id: Json  # None if the server makes the id
    payload: Json
    key: str = ""  # the idempotency key; empty if there is none


class Ping(NamedTuple):
    """A command that is answered with a pong."""

    request_id: str


class Auth(NamedTuple):
    """A command to replace the rights of the connection by those of a token."""

    request_id: str
    token: str

    def __repr__(self) -> str:
        return f"Auth(request_id={self.request_id!r})"  # a token never appears


Command = Subscribe | Unsubscribe | Publish | Ping | Auth


def decode(data: Raw, max_topic_bytes: int) -> Command | Refusal:
    """Decode one message of a client, with the checks in the order of docs/protocol.md.

    Args:
        data: the payload of a text message.
        max_topic_bytes: limit of a topic's name, in bytes of UTF-8.

    Returns:
        The command, or the refusal of an invalid one.

    Raises:
        UnicodeDecodeError: `data` is not UTF-8; the connection fails (RFC 6455 section 8.1).
    """
    if len(data) > MAX_ELEMENTS and has_too_many_elements(data):
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
    if kind == "auth":
        token = message.get("token")
        if type(token) is str and token:
            return Auth(request_id, token)
        text = "token must be a string that is not empty"
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    return Refusal(
        ErrorCode.INVALID_MESSAGE_TYPE,
        "type must be one of subscribe, unsubscribe, publish, ping, auth",
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
    if len(data) > SHALLOW and (is_too_deep(payload, data) or is_too_deep(message_id, data)):
        text = f"Message is nested too deeply: at most {MAX_NESTING} levels are allowed"
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    if message_id is not None and is_id_too_long(message_id):
        text = f"The message's id is too long: at most {MAX_ID_BYTES} bytes of JSON are allowed"
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    if "idempotency_key" in message:
        wrong = check_idempotency_key(message["idempotency_key"])
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
        wrong = check_client_id(client_id)
        if wrong:
            return Refusal(ErrorCode.INVALID_CLIENT_ID, wrong, request_id)
    if kind == "unsubscribe":
        return Unsubscribe(request_id, topic, client_id)
    if "recover" not in message and "last_n" not in message:
        return Subscribe(request_id, topic, client_id)
    recover_from = _decode_recover_from(message)
    if isinstance(recover_from, str):
        return Refusal(ErrorCode.INVALID_MESSAGE, recover_from, request_id)
    return Subscribe(request_id, topic, client_id, recover_from)


def _decode_recover_from(message: dict[str, Json]) -> RecoverFrom | str:
    """Return where the recovery begins, or the text of the error."""
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
