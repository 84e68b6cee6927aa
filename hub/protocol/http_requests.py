"""Decodes the bodies and queries of HTTP requests, by the same rules as WebSocket messages.

Pure functions: they take the limits as arguments and return invalid input as a `Refusal`. In a
request with many publishes each has its own result, so that one refusal does not stop the others.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import orjson

from hub.access import MAX_SUBJECT_BYTES
from hub.errors import ErrorCode, Refusal
from hub.protocol.commands import Publish
from hub.protocol.validation import (
    MAX_NESTING,
    check_client_id,
    check_idempotency_key,
    decode_topic,
    exceeds_depth,
    is_too_deep,
    may_be_too_deep,
)
from hub.values import Json, Position

MAX_ITEMS: Final = 1_000  # items in a batch, topics in one publish, or events in a page
MAX_BATCH_BYTES: Final = 4_194_304  # bytes in the body of a batch

DEFAULT_PAGE: Final = 100  # events in a page without a `limit`
MAX_WAIT: Final = 60  # seconds
MAX_BAN: Final = 2_678_400  # seconds: 31 days

# The fields of a query for a history, each with the pattern of its values. All patterns match an
# empty text, because a field may be missing.
_HISTORY_FIELDS: Final = {
    "since_offset": r"[0-9]{0,15}",
    "limit": r"[0-9]{0,9}",
    "reverse": r"(true|false|1|0)?",
    "wait": r"([0-9]{1,5}(\.[0-9]{1,400})?([eE][-+]?[0-9]{1,3})?)?",  # a number of JSON
}
_ALLOWED: Final = {
    "since_offset": "a whole number, 0 or more",
    "limit": f"a whole number from 0 to {MAX_ITEMS}",
    "reverse": "true or false",
    "wait": f"seconds, at most {MAX_WAIT}",
}

_TOO_DEEP: Final = Refusal(
    ErrorCode.INVALID_MESSAGE,
    f"payload is nested too deeply: at most {MAX_NESTING} levels are allowed",
)

PublishItems = list[Publish | Refusal]


def decode_publish(body: bytes, max_topic_bytes: int) -> Publish | PublishItems | Refusal:
    """Decode the body of `POST /publish`: `payload` with `topic` or `topics`.

    `message` is a synonym of `payload`.

    Args:
        body: the JSON text.
        max_topic_bytes: limit of a topic's name, in bytes of UTF-8.

    Returns:
        The publish; with `topics`, a publish or refusal for each topic, in order; or the refusal
        of the whole request.
    """
    fields = _decode_body(body)
    if isinstance(fields, Refusal):
        return fields
    if "topics" not in fields:
        return _decode_item(fields, body, max_topic_bytes)
    topics = fields["topics"]
    if "topic" in fields:
        return Refusal(ErrorCode.INVALID_TOPIC, "Give topic, or topics, and not both")
    if type(topics) is not list or not 0 < len(topics) <= MAX_ITEMS:
        text = f"topics must be a list of 1 to {MAX_ITEMS} topics"
        return Refusal(ErrorCode.INVALID_TOPIC, text)
    payload = _payload(fields, body)
    if isinstance(payload, Refusal):
        return payload
    names = (decode_topic(topic, "publish", max_topic_bytes) for topic in topics)
    key = fields.get("idempotency_key", "")
    return [
        it if isinstance(it, Refusal) else Publish("", it, None, payload[0], key) for it in names
    ]


def decode_batch(
    body: bytes, max_topic_bytes: int, max_message_bytes: int
) -> Iterator[Publish | Refusal] | Refusal:
    """Decode the body of `POST /publish/batch`: `items`, each with `topic` and `payload`.

    Args:
        body: the JSON text.
        max_topic_bytes: limit of a topic's name, in bytes of UTF-8.
        max_message_bytes: limit of one item, in bytes of JSON.

    Returns:
        An iterator that decodes one item at each step, or the refusal of the whole request.
    """
    fields = _decode_body(body)
    if isinstance(fields, Refusal):
        return fields
    items = fields.get("items")
    if type(items) is not list or not 0 < len(items) <= MAX_ITEMS:
        text = f"items must be a list of 1 to {MAX_ITEMS} publishes"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    small = len(body) <= max_message_bytes  # no item can be over the limit
    limit = None if small else max_message_bytes
    return _decode_items(items, may_be_too_deep(body), max_topic_bytes, limit)


def _decode_items(
    items: list[Json], check_depth: bool, max_topic_bytes: int, limit: int | None
) -> Iterator[Publish | Refusal]:
    for item in items:
        if type(item) is not dict:
            text = 'An item must be an object such as {"topic": "news", "payload": "hello"}'
            yield Refusal(ErrorCode.INVALID_MESSAGE, text)
        elif check_depth and exceeds_depth(item, MAX_NESTING + 1):  # the item is a level itself
            yield _TOO_DEEP
        elif limit is not None and len(orjson.dumps(item)) > limit:
            text = f"An item is too large: at most {limit} bytes are allowed"
            yield Refusal(ErrorCode.INVALID_MESSAGE, text)
        else:
            yield _decode_item(item, b"", max_topic_bytes)


def decode_create(body: bytes, max_topic_bytes: int) -> str | Refusal:
    """Decode the body of `POST /topics`: return the `name` of the new topic."""
    fields = _decode_body(body)
    if isinstance(fields, Refusal):
        return fields
    return decode_topic(fields.get("name"), "create", max_topic_bytes, field="name")


class Disconnect(NamedTuple):
    """The body of `POST /disconnect`: a subject or a client id; the other one is empty."""

    subject: str
    client_id: str
    ban: float  # seconds for which the subject is banned; 0 for no ban


def decode_disconnect(body: bytes) -> Disconnect | Refusal:
    """Decode the body of `POST /disconnect`."""
    fields = _decode_body(body)
    if isinstance(fields, Refusal):
        return fields
    if not fields.keys() <= {"sub", "client_id", "for"}:  # a misspelled `for` would not ban
        text = "Only the fields sub, client_id and for are allowed"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    if ("sub" in fields) == ("client_id" in fields):
        both = "Give sub or client_id, not both"
        text = both if "sub" in fields else "sub or client_id is missing"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    ban = fields.get("for", 0)
    if type(ban) not in (int, float) or not 0 <= ban <= MAX_BAN:
        text = f"for must be a number of seconds from 0 to {MAX_BAN}"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    if "client_id" in fields:
        client_id = fields["client_id"]
        wrong = check_client_id(client_id)
        if wrong:
            return Refusal(ErrorCode.INVALID_CLIENT_ID, wrong)
        if ban:
            text = "for needs sub: a client_id is a label, and cannot be banned"
            return Refusal(ErrorCode.INVALID_MESSAGE, text)
        return Disconnect("", client_id, 0)
    subject = fields["sub"]
    if type(subject) is not str or not 0 < len(subject.encode()) <= MAX_SUBJECT_BYTES:
        text = f"sub must be a string of 1 to {MAX_SUBJECT_BYTES} bytes of UTF-8"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    return Disconnect(subject, "", ban)


class HistoryQuery(NamedTuple):
    """The query of `GET /topics/{name}/history`."""

    since: Position | None  # None: from the oldest event on; in reverse, from the newest back
    limit: int  # events in the page
    reverse: bool  # True: the newest event first
    wait: float  # seconds to wait for the next event, if there is none yet


def decode_history_query(query: Mapping[str, str]) -> HistoryQuery | Refusal:
    """Decode the query of `GET /topics/{name}/history`."""
    for key, allowed in _HISTORY_FIELDS.items():
        if not re.fullmatch(allowed, query.get(key, "")):
            return Refusal(ErrorCode.INVALID_MESSAGE, f"{key} must be {_ALLOWED[key]}")
    epoch, offset = query.get("since_epoch", ""), query.get("since_offset", "")
    if bool(epoch) != bool(offset):
        text = "since_epoch and since_offset go together"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    limit = int(query.get("limit") or DEFAULT_PAGE)
    wait = float(query.get("wait") or 0)
    if limit > MAX_ITEMS or wait > MAX_WAIT:
        key = "limit" if limit > MAX_ITEMS else "wait"
        return Refusal(ErrorCode.INVALID_MESSAGE, f"{key} must be {_ALLOWED[key]}")
    reverse = query.get("reverse") in ("true", "1")
    if reverse and wait:
        text = "wait and reverse do not go together: what comes has no newest first"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    return HistoryQuery(Position(epoch, int(offset)) if epoch else None, limit, reverse, wait)


def _decode_item(fields: dict[str, Json], body: bytes, max_topic_bytes: int) -> Publish | Refusal:
    """Decode one publish; `body`: its JSON text, or empty if its depth was checked already."""
    topic = decode_topic(fields.get("topic"), "publish", max_topic_bytes)
    if isinstance(topic, Refusal):
        return topic
    payload = _payload(fields, body)
    if isinstance(payload, Refusal):
        return payload
    return Publish("", topic, None, payload[0], fields.get("idempotency_key", ""))


def _payload(fields: dict[str, Json], body: bytes) -> tuple[Json] | Refusal:
    """Return the payload in a tuple, since it may be any value; check the idempotency key too."""
    key = "payload" if "payload" in fields else "message"
    if key not in fields:
        text = "payload is required for publish (null is allowed)"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    if is_too_deep(fields[key], body):
        return _TOO_DEEP
    if "idempotency_key" in fields:
        wrong = check_idempotency_key(fields["idempotency_key"])
        if wrong:
            return Refusal(ErrorCode.INVALID_MESSAGE, wrong)
    return (fields[key],)


def _decode_body(body: bytes) -> dict[str, Json] | Refusal:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refusal(ErrorCode.INVALID_MESSAGE, "Body is not valid JSON")
    if type(fields) is not dict:
        return Refusal(ErrorCode.INVALID_MESSAGE, "Body must be a JSON object")
    return fields
