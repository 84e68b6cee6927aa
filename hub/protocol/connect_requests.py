"""Decodes the queries of connections: of `GET /ws` and `GET /events`.

Pure functions: they take the limits as arguments and return invalid input as a `Refusal`. Both
name topics to which the connection is subscribed at once, and the client's position in each.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from hub.errors import ErrorCode, Refusal
from hub.protocol.commands import Subscribe
from hub.protocol.sse import parse_id
from hub.protocol.validation import check_client_id, decode_topic
from hub.values import NOWHERE, Position, RecoverFrom

# The id of each event has the stream's position in every topic: up to 34 bytes for each topic.
MAX_STREAM_TOPICS: Final = 16
# As many as a connection may subscribe to by commands in one tick.
MAX_URL_TOPICS: Final = 64

Query = Sequence[tuple[str, str]]  # pairs of key and value, in order


class StreamQuery(NamedTuple):
    """The topics of a query, and where the client is in them."""

    topics: Sequence[str]
    positions: Sequence[Position]  # of the client in each topic; NOWHERE if it has none
    last_n: int | None  # newest events to recover in a topic without a position

    def recover_from(self, number: int) -> RecoverFrom | None:
        """Return where the recovery of the topic at index `number` begins; None for none."""
        position = self.positions[number]
        return self.last_n if position == NOWHERE else position


class ConnectQuery(NamedTuple):
    """The query of `GET /ws`."""

    client_id: str  # empty if there is none
    subscribes: Sequence[Subscribe]  # which the server carries out before the client's commands


def decode_connect_query(query: Query, max_topic_bytes: int) -> ConnectQuery | Refusal:
    """Decode the query of `GET /ws`.

    Args:
        query: `topic` may be repeated. `recover` has a position for each topic; it may be repeated,
            or have commas between the positions.
        max_topic_bytes: limit of a topic's name, in bytes of UTF-8.
    """
    client_id = dict(query).get("client_id", "")
    wrong = check_client_id(client_id) if client_id else ""
    if wrong:
        return Refusal(ErrorCode.INVALID_CLIENT_ID, wrong)
    names = _values(query, "topic")
    if len(names) > MAX_URL_TOPICS:
        text = f"A URL has at most {MAX_URL_TOPICS} topics: send commands for more"
        return Refusal(ErrorCode.INVALID_TOPIC, text)
    recover = ",".join(_values(query, "recover"))
    wanted = _decode_topics(query, names, recover, "recover", max_topic_bytes)
    if isinstance(wanted, Refusal):
        return wanted
    # An empty client id, since a URL needs none: REQUIRE_CLIENT_ID is about commands.
    subscribes = [
        Subscribe("", topic, "", wanted.recover_from(number))
        for number, topic in enumerate(wanted.topics)
    ]
    return ConnectQuery(client_id, subscribes)


def decode_stream_query(
    query: Query, last_event_id: str, max_topic_bytes: int
) -> StreamQuery | Refusal:
    """Decode the query of `GET /events`.

    Args:
        query: `topic` may be repeated.
        last_event_id: the header Last-Event-ID, which wins over the query's `last_event_id`. Both
            must be valid: a browser that reconnects with the header gets the answer that its URL
            had at first.
        max_topic_bytes: limit of a topic's name, in bytes of UTF-8.
    """
    names = _values(query, "topic") or [""]
    if len(names) > MAX_STREAM_TOPICS:
        text = f"A stream has at most {MAX_STREAM_TOPICS} topics"
        return Refusal(ErrorCode.INVALID_TOPIC, text)
    in_url = dict(query).get("last_event_id", "")
    wanted = _decode_topics(query, names, in_url, "last_event_id", max_topic_bytes)
    if isinstance(wanted, Refusal) or not last_event_id:
        return wanted
    return _decode_topics(query, names, last_event_id, "Last-Event-ID", max_topic_bytes)


def _values(query: Query, key: str) -> list[str]:
    return [value for it, value in query if it == key]


def _decode_topics(
    query: Query, names: Sequence[str], positions: str, field: str, max_topic_bytes: int
) -> StreamQuery | Refusal:
    """Decode the names of topics, and the positions in them, which came in the field `field`."""
    topics: list[str] = []
    for name in names:
        topic = decode_topic(name, "subscribe", max_topic_bytes)
        if isinstance(topic, Refusal):
            return topic
        if topic in topics:
            return Refusal(ErrorCode.INVALID_TOPIC, f"Topic '{topic}' is given twice")
        topics.append(topic)
    last_n = dict(query).get("last_n", "")
    if not re.fullmatch("[0-9]{0,9}", last_n):
        return Refusal(ErrorCode.INVALID_MESSAGE, "last_n must be a whole number, 0 or more")
    known = parse_id(positions, len(topics)) if positions else [NOWHERE] * len(topics)
    if known is None:
        text = f"{field} must be EPOCH:OFFSET, or -, for each topic in order, with commas"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    return StreamQuery(topics, known, int(last_n) if last_n else None)
