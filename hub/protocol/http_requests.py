"""What HTTP requests say: bodies and queries, validated by the same rules as messages.

Pure functions, with the limits as arguments. What breaks the rules becomes a `Refusal` value; in a
request of many parts each part has its own, and the others are carried out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import orjson

from hub.errors import ErrorCode, Refusal
from hub.protocol.commands import Publish
from hub.protocol.sse import parse_id
from hub.protocol.validation import (
    MAX_NESTING,
    decode_topic,
    is_deep,
    may_be_deep,
    too_deep,
    wrong_key,
)
from hub.values import NOWHERE, Json, Position, RecoverFrom

MAX_ITEMS: Final = 1_000  # of a batch, or topics of one publish
MAX_LISTED: Final = 1_000  # topics of one answer
MAX_BATCH_BYTES: Final = 4_194_304  # of a batch's body

DEFAULT_PAGE: Final = 100  # events of an answer, where nobody says how many
MAX_WAIT: Final = 60  # seconds

MAX_STREAM_TOPICS: Final = 16  # an id says the position in each: 34 bytes a topic and event

# What a query may say, each of it perhaps nothing, and how that is told.
_ASKED: Final = {
    "since_offset": r"[0-9]{0,15}",
    "limit": r"[0-9]{0,9}",
    "reverse": r"(true|false|1|0)?",
    "wait": r"([0-9]{1,5}(\.[0-9]{1,3})?)?",
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

Parts = list[Publish | Refusal]


def decode_publish(body: bytes, max_topic_bytes: int) -> Publish | Parts | Refusal:
    """The body of `POST /publish`: `topic`, or for many `topics`, and `payload`.

    `message` is a synonym of `payload`. With `topics` there is a part for each, in their order.
    """
    fields = _decode_body(body)
    if isinstance(fields, Refusal):
        return fields
    if "topics" not in fields:
        return _part(fields, body, max_topic_bytes)
    topics = fields["topics"]
    if "topic" in fields:
        return Refusal(ErrorCode.INVALID_TOPIC, "Give topic, or topics, and not both")
    if type(topics) is not list or not 0 < len(topics) <= MAX_ITEMS:
        text = f"topics must be a list of 1 to {MAX_ITEMS} topics"
        return Refusal(ErrorCode.INVALID_TOPIC, text)
    payload = _payload(fields, body)
    if isinstance(payload, Refusal):
        return payload
    parts = (decode_topic(topic, "publish", max_topic_bytes) for topic in topics)
    key = fields.get("idempotency_key", "")
    return [
        it if isinstance(it, Refusal) else Publish("", it, None, payload[0], key) for it in parts
    ]


def decode_batch(
    body: bytes, max_topic_bytes: int, max_message_bytes: int
) -> Iterator[Publish | Refusal] | Refusal:
    """The body of `POST /publish/batch`: `items`, each with its `topic` and `payload`.

    Each item is looked at when its turn comes.
    """
    fields = _decode_body(body)
    if isinstance(fields, Refusal):
        return fields
    items = fields.get("items")
    if type(items) is not list or not 0 < len(items) <= MAX_ITEMS:
        text = f"items must be a list of 1 to {MAX_ITEMS} publishes"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    small = len(body) <= max_message_bytes  # then every item is
    limit = None if small else max_message_bytes
    return _items(items, may_be_deep(body), max_topic_bytes, limit)


def _items(
    items: list[Json], suspect: bool, max_topic_bytes: int, limit: int | None
) -> Iterator[Publish | Refusal]:
    for item in items:
        if type(item) is not dict:
            text = 'An item must be an object such as {"topic": "news", "payload": "hello"}'
            yield Refusal(ErrorCode.INVALID_MESSAGE, text)
        elif suspect and is_deep(item, MAX_NESTING + 1):  # with the item's own level
            yield _TOO_DEEP
        elif limit is not None and len(orjson.dumps(item)) > limit:
            text = f"An item is too large: at most {limit} bytes are allowed"
            yield Refusal(ErrorCode.INVALID_MESSAGE, text)
        else:
            yield _part(item, b"", max_topic_bytes)


def decode_create(body: bytes, max_topic_bytes: int) -> str | Refusal:
    """The body of `POST /topics`: the new topic's `name`."""
    fields = _decode_body(body)
    if isinstance(fields, Refusal):
        return fields
    return decode_topic(fields.get("name"), "create", max_topic_bytes, field="name")


class Listed(NamedTuple):
    """A question for topics, in the order of their names."""

    prefix: str = ""  # how their names begin
    after: str = ""  # the name behind which the page begins
    limit: int = MAX_LISTED  # topics of the page


def decode_listed(query: Sequence[tuple[str, str]]) -> Listed | Refusal:
    """The query of `GET /topics`."""
    fields = dict(query)
    limit = fields.get("limit", "")
    if not re.fullmatch("[0-9]{0,9}", limit) or not 0 < int(limit or MAX_LISTED) <= MAX_LISTED:
        text = f"limit must be a whole number from 1 to {MAX_LISTED}"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    prefix, after = fields.get("prefix", ""), fields.get("after", "")
    return Listed(prefix, after, int(limit or MAX_LISTED))


class Asked(NamedTuple):
    """A question for what a topic remembers."""

    since: Position | None  # None: from the beginning, or (reverse) from the end
    limit: int  # events
    reverse: bool  # the newest first
    wait: float  # seconds for the next event, where there is none


def decode_asked(query: Mapping[str, str]) -> Asked | Refusal:
    """The query of `GET /topics/{name}/history`."""
    for key, allowed in _ASKED.items():
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
    return Asked(Position(epoch, int(offset)) if epoch else None, limit, reverse, wait)


class Followed(NamedTuple):
    """What a stream of events is to give."""

    topics: Sequence[str]
    places: Sequence[Position]  # where its client was in each, by its last id; NOWHERE: unsaid
    last_n: int | None  # the newest events that it wants where that is unsaid

    def since(self, number: int) -> RecoverFrom | None:
        """What the client has, or wants, of a topic."""
        place = self.places[number]
        return self.last_n if place == NOWHERE else place


def decode_followed(
    query: Sequence[tuple[str, str]], last_event_id: str, max_topic_bytes: int
) -> Followed | Refusal:
    """The query of `GET /events`, and the id of its header, which wins over the query's."""
    topics: list[str] = []
    for name in [value for key, value in query if key == "topic"] or [""]:
        topic = decode_topic(name, "subscribe", max_topic_bytes)
        if isinstance(topic, Refusal):
            return topic
        if topic in topics:
            return Refusal(ErrorCode.INVALID_TOPIC, f"Topic '{topic}' is given twice")
        topics.append(topic)
    if len(topics) > MAX_STREAM_TOPICS:
        text = f"A stream has at most {MAX_STREAM_TOPICS} topics"
        return Refusal(ErrorCode.INVALID_TOPIC, text)
    fields = dict(query)
    last_n = fields.get("last_n", "")
    if not re.fullmatch("[0-9]{0,9}", last_n):
        return Refusal(ErrorCode.INVALID_MESSAGE, "last_n must be a whole number, 0 or more")
    last_id = last_event_id or fields.get("last_event_id", "")
    places = parse_id(last_id, len(topics)) if last_id else [NOWHERE] * len(topics)
    if places is None:
        text = "Last-Event-ID must be EPOCH:OFFSET, or -, for each topic in order, with commas"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    return Followed(topics, places, int(last_n) if last_n else None)


def _part(fields: dict[str, Json], body: bytes, max_topic_bytes: int) -> Publish | Refusal:
    """`body`: what the depth is looked up in; empty where that is known."""
    topic = decode_topic(fields.get("topic"), "publish", max_topic_bytes)
    if isinstance(topic, Refusal):
        return topic
    payload = _payload(fields, body)
    if isinstance(payload, Refusal):
        return payload
    return Publish("", topic, None, payload[0], fields.get("idempotency_key", ""))


def _payload(fields: dict[str, Json], body: bytes) -> tuple[Json] | Refusal:
    """The payload, in a tuple, since it may be anything; the key is checked on the way."""
    key = "payload" if "payload" in fields else "message"
    if key not in fields:
        text = "payload is required for publish (null is allowed)"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    if too_deep(fields[key], body):
        return _TOO_DEEP
    wrong = wrong_key(fields["idempotency_key"]) if "idempotency_key" in fields else ""
    return Refusal(ErrorCode.INVALID_MESSAGE, wrong) if wrong else (fields[key],)


def _decode_body(body: bytes) -> dict[str, Json] | Refusal:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refusal(ErrorCode.INVALID_MESSAGE, "Body is not valid JSON")
    if type(fields) is not dict:
        return Refusal(ErrorCode.INVALID_MESSAGE, "Body must be a JSON object")
    return fields
