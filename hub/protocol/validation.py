"""Checks of single values that clients send over WebSocket or HTTP.

Pure functions. The `check_` functions return the text of an error, or "" for a valid value.
"""

from typing import Final

import orjson

from hub.errors import ErrorCode, Refusal
from hub.values import Json

Raw = bytes | bytearray

MAX_NESTING: Final = 250  # levels in a payload; orjson writes at most 254, and an event adds two
MAX_ELEMENTS: Final = 100_000  # commas and opening brackets in a JSON text
MAX_CLIENT_ID_BYTES: Final = 255  # of UTF-8
MAX_KEY_BYTES: Final = 255  # of an idempotency key in UTF-8
MAX_ID_BYTES: Final = 255  # of a message's id, encoded as JSON by orjson

TOO_MANY_ELEMENTS: Final = f"JSON has too many elements: at most {MAX_ELEMENTS} are allowed"

# Bytes. A shorter text has too few brackets to be nested too deeply.
SHALLOW: Final = 2 * MAX_NESTING
_CONTAINERS: Final = (dict, list)
# Characters. A string of so many is within MAX_ID_BYTES: each takes at most 6 bytes of JSON, and
# the quotes take 2.
_SHORT_ID: Final = 42


def decode_topic(
    name: Json, action: str, max_topic_bytes: int, request_id: str = "", field: str = "Topic"
) -> str | Refusal:
    """Validate a topic's name.

    Args:
        name: the value that the client sent.
        action: the command, for the refusal's text.
        max_topic_bytes: limit in bytes of UTF-8.
        request_id: of the command, for the refusal.
        field: the name of the field, for the refusal's text.

    Returns:
        The name, or a refusal.
    """
    if name is None or name == "":
        text = f"{field} is required for {action}"
    elif type(name) is not str:
        text = f"{field} must be a string"
    elif len(name.encode()) > max_topic_bytes:
        text = f"{field} is too long: at most {max_topic_bytes} bytes of UTF-8 are allowed"
    else:
        return name
    return Refusal(ErrorCode.INVALID_TOPIC, text, request_id)


def check_client_id(client_id: Json) -> str:
    """Return the text of the error if the client id is invalid, else an empty string."""
    if client_id is None or client_id == "":
        return "Client ID is required"
    if type(client_id) is not str:
        return "Client ID must be a string"
    if len(client_id.encode()) > MAX_CLIENT_ID_BYTES:
        return f"Client ID is too long: at most {MAX_CLIENT_ID_BYTES} bytes of UTF-8 are allowed"
    return ""


def check_idempotency_key(key: Json) -> str:
    """Return the text of the error if the idempotency key is invalid, else an empty string."""
    # aiohttp decodes header bytes that are not UTF-8 to surrogates, which cannot be encoded.
    encoded = key.encode(errors="ignore") if type(key) is str else b""
    if not 0 < len(encoded) <= MAX_KEY_BYTES or encoded.decode() != key:
        return f"idempotency_key must be a string of 1 to {MAX_KEY_BYTES} bytes of UTF-8"
    return ""


def has_too_many_elements(source: Raw) -> bool:
    """Return whether a text, which need not be valid JSON, has more than MAX_ELEMENTS elements.

    The time to parse a text depends on its elements more than on its size: 4 MB of brackets take
    0.8 s, and 4 MB of numbers 0.02 s.
    """
    if _separators(source) <= MAX_ELEMENTS:
        return False
    # Separators within strings do not count. Blank escaped quotes, which do not end a string.
    source = source.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    # An element has at most two strings, a key and a value. Do not split a text with more.
    if source.count(b'"') > 4 * (MAX_ELEMENTS + 1):
        return True
    return _separators(b"".join(source.split(b'"')[::2])) > MAX_ELEMENTS


def _separators(source: Raw) -> int:
    return len(source) - len(source.translate(None, b",[{"))


def is_too_deep(value: Json, source: Raw) -> bool:
    """Return whether `value`, decoded from `source`, has more than MAX_NESTING levels."""
    return may_be_too_deep(source) and exceeds_depth(value)


def may_be_too_deep(source: Raw) -> bool:
    """Return whether a text has enough brackets for a value of more than MAX_NESTING levels.

    This is cheap, and False for nearly every text.
    """
    if len(source) <= SHALLOW:
        return False
    return source.count(b"[") + source.count(b"{") > MAX_NESTING


def exceeds_depth(value: Json, levels: int = MAX_NESTING) -> bool:
    """Return whether a value has more than `levels` levels of arrays and objects."""
    depth = 0
    level = [value] if type(value) in _CONTAINERS else []
    while level:
        depth += 1
        if depth > levels:
            return True
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in _CONTAINERS
        ]
    return False


def is_id_too_long(message_id: Json) -> bool:
    """Return whether a message's id, not nested too deeply, has more than MAX_ID_BYTES."""
    if type(message_id) is str and len(message_id) <= _SHORT_ID:
        return False
    return len(orjson.dumps(message_id)) > MAX_ID_BYTES
