"""What clients say over WebSocket: JSON decoded and validated.

Pure functions, with the limits as arguments. What breaks the rules becomes a `Refusal` value, never
an exception, so that it is answered in its place of the order.
"""

from typing import Any, Final, NamedTuple

import orjson

from hub.brokers.history import Position
from hub.errors import ErrorCode, Refusal

MAX_NESTING: Final = 250  # levels of a payload; orjson writes 254, an event adds two
MAX_ELEMENTS: Final = 100_000  # of a text, counted by its commas and opening brackets
MAX_CLIENT_ID_BYTES: Final = 255
MAX_KEY_BYTES: Final = 255  # of an idempotency key
MAX_ID_BYTES: Final = 255  # of a message's id, as JSON that orjson writes

TOO_MANY_ELEMENTS: Final = f"JSON has too many elements: at most {MAX_ELEMENTS} are allowed"

Json = Any  # what orjson reads: dict, list, str, int, float, bool or None
Raw = bytes | bytearray

_CONTAINERS: Final = (dict, list)
_SHALLOW: Final = 2 * MAX_NESTING  # bytes: a shorter text has too few brackets to be too deep
_SHORT_ID: Final = 42  # characters: JSON takes 6 bytes for each at most, and 2 for the quotes

Since = Position | int  # what a subscriber has, or how many of the newest events it wants


class Subscribe(NamedTuple):
    """A wish to receive a topic's events."""

    request_id: str
    topic: str
    client_id: str | None  # None where the message leaves it out
    since: Since | None = None  # what it has of those that were, or wants


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
    if len(data) > _SHALLOW and (too_deep(payload, data) or too_deep(message_id, data)):
        text = f"Message is nested too deeply: at most {MAX_NESTING} levels are allowed"
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    if message_id is not None and _is_long_id(message_id):
        text = f"The message's id is too long: at most {MAX_ID_BYTES} bytes of JSON are allowed"
        return Refusal(ErrorCode.INVALID_MESSAGE, text, request_id)
    if "idempotency_key" in message:
        wrong = wrong_key(message["idempotency_key"])
        if wrong:
            return Refusal(ErrorCode.INVALID_MESSAGE, wrong, request_id)
        return Publish(request_id, topic, message_id, payload, message["idempotency_key"])
    return Publish(request_id, topic, message_id, payload)


def _is_long_id(message_id: Json) -> bool:
    """Whether a message's id, which is not nested too deep, has over MAX_ID_BYTES."""
    if type(message_id) is str and len(message_id) <= _SHORT_ID:
        return False
    return len(orjson.dumps(message_id)) > MAX_ID_BYTES


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


def _decode_since(message: dict[str, Json]) -> Since | str:
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


def decode_topic(
    name: Json, action: str, max_topic_bytes: int, request_id: str = "", field: str = "Topic"
) -> str | Refusal:
    """A topic's name, if it may be one; `field` is what the message calls it."""
    if name is None or name == "":
        text = f"{field} is required for {action}"
    elif type(name) is not str:
        text = f"{field} must be a string"
    elif len(name.encode()) > max_topic_bytes:
        text = f"{field} is too long: at most {max_topic_bytes} bytes of UTF-8 are allowed"
    else:
        return name
    return Refusal(ErrorCode.INVALID_TOPIC, text, request_id)


def wrong_client_id(client_id: Json) -> str:
    """What is wrong with a client id that was given, or nothing."""
    if client_id is None or client_id == "":
        return "Client ID is required"
    if type(client_id) is not str:
        return "Client ID must be a string"
    if len(client_id.encode()) > MAX_CLIENT_ID_BYTES:
        return f"Client ID is too long: at most {MAX_CLIENT_ID_BYTES} bytes of UTF-8 are allowed"
    return ""


def wrong_key(key: Json) -> str:
    """What is wrong with an idempotency key, or nothing."""
    # A header's bytes that are no UTF-8 have become surrogates, which have no encoding.
    encoded = key.encode(errors="ignore") if type(key) is str else b""
    if not 0 < len(encoded) <= MAX_KEY_BYTES or encoded.decode() != key:
        return f"idempotency_key must be a string of 1 to {MAX_KEY_BYTES} bytes of UTF-8"
    return ""


def too_many_elements(source: Raw) -> bool:
    """Whether a JSON text has more than MAX_ELEMENTS elements; it need not be valid.

    To parse a text costs most by its elements: 4 MB of brackets take 0.8 s, of numbers 0.02 s.
    """
    if _separators(source) <= MAX_ELEMENTS:
        return False
    # Those within strings do not count. First the quotes that end no string go.
    source = source.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    # At most a key and a value for each element; more are not taken apart, which would be long.
    if source.count(b'"') > 4 * (MAX_ELEMENTS + 1):
        return True
    return _separators(b"".join(source.split(b'"')[::2])) > MAX_ELEMENTS


def _separators(source: Raw) -> int:
    return len(source) - len(source.translate(None, b",[{"))


def too_deep(value: Json, source: Raw) -> bool:
    """Whether `value`, read from `source`, is nested over MAX_NESTING levels."""
    return may_be_deep(source) and is_deep(value)


def may_be_deep(source: Raw) -> bool:
    """Whether a text has brackets enough for anything in it to be too deep; nearly never."""
    if len(source) <= _SHALLOW:
        return False
    return source.count(b"[") + source.count(b"{") > MAX_NESTING


def is_deep(value: Json, levels: int = MAX_NESTING) -> bool:
    """Whether a value has more levels of arrays and objects."""
    depth = 0
    level = [value] if type(value) in _CONTAINERS else []
    while level:
        depth += 1
        if depth > levels:
            return True
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) in _CONTAINERS
        ]
    return False
