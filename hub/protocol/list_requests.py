"""Decodes the queries of lists: of topics and of connections.

Pure functions. A query of connections also travels between nodes, as the fields of its URL.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from hub.access import MAX_SUBJECT_BYTES
from hub.errors import ErrorCode, Refusal
from hub.ids import ConnectionId, parse_connection_id
from hub.protocol.validation import decode_topic
from hub.values import Json

MAX_LISTED: Final = 1_000  # topics or connections in one page

_FIELDS: Final = ("sub", "topic", "after", "limit")  # of a query of connections


class TopicQuery(NamedTuple):
    """The query of `GET /topics`, which lists topics in the order of their names."""

    prefix: str = ""  # of the names
    after: str = ""  # the page begins after this name
    limit: int = MAX_LISTED  # topics in the page


def decode_topic_query(query: Sequence[tuple[str, str]]) -> TopicQuery | Refusal:
    """Decode the query of `GET /topics`, given as pairs of key and value."""
    fields = dict(query)
    limit = _decode_limit(fields)
    if isinstance(limit, Refusal):
        return limit
    return TopicQuery(fields.get("prefix", ""), fields.get("after", ""), limit)


class ConnectionQuery(NamedTuple):
    """The query of `GET /connections`, which lists connections in the order of their ids."""

    subject: str = ""  # of their tokens; empty: any
    topic: str = ""  # to which they are subscribed; empty: any or none
    after: ConnectionId | None = None  # the page begins after it; None: at the first connection
    limit: int = MAX_LISTED  # connections in the page

    def fields(self) -> dict[str, str]:
        """Return the fields of the query, for another node."""
        after = "" if self.after is None else str(self.after)
        return dict(zip(_FIELDS, (self.subject, self.topic, after, str(self.limit)), strict=True))


def decode_connection_query(
    fields: Mapping[str, str], max_topic_bytes: int
) -> ConnectionQuery | Refusal:
    """Decode the query of `GET /connections`, given as its fields.

    `max_topic_bytes`: limit of a topic's name, in bytes of UTF-8.
    """
    limit = _decode_limit(fields)
    if isinstance(limit, Refusal):
        return limit
    subject, topic, after = (fields.get(key, "") for key in ("sub", "topic", "after"))
    if len(subject.encode()) > MAX_SUBJECT_BYTES:
        text = f"sub must have at most {MAX_SUBJECT_BYTES} bytes of UTF-8"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    if topic:
        name = decode_topic(topic, "connections", max_topic_bytes)
        if isinstance(name, Refusal):
            return name
    start = parse_connection_id(after) if after else None
    if after and start is None:
        text = "after must be the id of a connection, such as 9f86d081884c7d65-17"
        return Refusal(ErrorCode.INVALID_MESSAGE, text)
    return ConnectionQuery(subject, topic, start, limit)


def decode_fields(fields: Json) -> ConnectionQuery | None:
    """Decode a query of connections that another node sent; None if this node cannot.

    A node of a newer version may send fields that this one does not know.
    """
    if type(fields) is not dict or fields.keys() != set(_FIELDS):
        return None
    if any(type(value) is not str for value in fields.values()):
        return None
    query = decode_connection_query(fields, len(fields["topic"].encode()))
    return None if isinstance(query, Refusal) else query


def _decode_limit(fields: Mapping[str, str]) -> int | Refusal:
    text = fields.get("limit", "")
    if re.fullmatch("[0-9]{0,9}", text) and 0 < int(text or MAX_LISTED) <= MAX_LISTED:
        return int(text or MAX_LISTED)
    text = f"limit must be a whole number from 1 to {MAX_LISTED}"
    return Refusal(ErrorCode.INVALID_MESSAGE, text)
