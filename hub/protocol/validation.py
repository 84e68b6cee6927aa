"""Checks of single values that clients send, over WebSocket and HTTP alike. Pure functions."""

from typing import Final

import orjson

from hub.errors import ErrorCode, Refusal
from hub.values import Json

Raw = bytes | bytearray

MAX_NESTING: Final = 250  # levels of a payload; orjson writes 254, an event adds two
MAX_ELEMENTS: Final = 100_000  # of a text, counted by its commas and opening brackets
MAX_CLIENT_ID_BYTES: Final = 255
MAX_KEY_BYTES: Final = 255  # of an idempotency key
MAX_ID_BYTES: Final = 255  # of a message's id, as JSON that orjson writes

TOO_MANY_ELEMENTS: Final = f"JSON has too many elements: at most {MAX_ELEMENTS} are allowed"

SHALLOW: Final = 2 * MAX_NESTING  # bytes: a shorter text has too few brackets to be too deep
_CONTAINERS: Final = (dict, list)
_SHORT_ID: Final = 42  # characters: JSON takes 6 bytes for each at most, and 2 for the quotes


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
    if len(source) <= SHALLOW:
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


def is_long_id(message_id: Json) -> bool:
    """Whether a message's id, which is not nested too deep, has over MAX_ID_BYTES."""
    if type(message_id) is str and len(message_id) <= _SHORT_ID:
        return False
    return len(orjson.dumps(message_id)) > MAX_ID_BYTES
