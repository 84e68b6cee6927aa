"""The words that reports to the observer use, and that the labels of metrics have.

Observers are given these values, clients are not. Values may be added; none may change.
"""

from enum import StrEnum


class ConnectionKind(StrEnum):
    """The protocol of a client's connection."""

    WEBSOCKET = "websocket"
    SSE = "sse"


class Source(StrEnum):
    """The protocol by which a message was published to this node."""

    WEBSOCKET = "websocket"
    REST = "rest"


class CommandType(StrEnum):
    """The type of a command."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    PUBLISH = "publish"
    PING = "ping"
    AUTH = "auth"
    INVALID = "invalid"  # a message that is no valid command, or that is over MESSAGE_RATE


class SlowAction(StrEnum):
    """What is done about a client that exceeds the bounds of its send queue."""

    DISCONNECT = "disconnect"  # it is closed
    DROP_OLDEST = "drop_oldest"  # its oldest events are dropped, and it stays connected


class DropReason(StrEnum):
    """Why messages were dropped from a send queue."""

    DROP_OLDEST = "drop_oldest"  # events, by BACKPRESSURE=drop_oldest
    SLOW_CONSUMER = "slow_consumer"  # the client exceeds its bounds and is closed
    LOST = "lost"  # the connection was lost or cut


class GapCause(StrEnum):
    """Why a gap notice is sent."""

    DROP_OLDEST = "drop_oldest"  # events were dropped from the client's send queue
    OUTAGE = "outage"  # Redis was lost, and the topic has no history
    FORGOTTEN = "forgotten"  # Redis has dropped events that this node has not read
    RECOVERY = "recovery"  # the history dropped events while the client was reading it
    INVALID = "invalid"  # the history in Redis has an entry that is no event


class Limit(StrEnum):
    """A limit: its setting, or what it limits if it has none."""

    MAX_CONNECTIONS = "MAX_CONNECTIONS"
    MAX_CONNECTIONS_PER_IP = "MAX_CONNECTIONS_PER_IP"
    CONNECT_RATE_PER_IP = "CONNECT_RATE_PER_IP"
    REQUEST_RATE = "REQUEST_RATE"
    MAX_SUBSCRIPTIONS = "MAX_SUBSCRIPTIONS"
    MAX_TOPICS = "MAX_TOPICS"
    MESSAGE_RATE = "MESSAGE_RATE"
    BYTE_RATE = "BYTE_RATE"
    MESSAGE_TIMEOUT = "MESSAGE_TIMEOUT"
    HEADER_TIMEOUT = "HEADER_TIMEOUT"
    HISTORY_TOTAL_BYTES = "HISTORY_TOTAL_BYTES"
    BODY_TIMEOUT = "body_timeout"  # 30 s for a request's body
    ELEMENTS = "elements"  # of the JSON of a message or body
    LONG_POLLS = "long_polls"  # requests that wait for history
    LARGE_BATCHES = "large_batches"  # bytes of the batches that are larger than a message
    BANS = "bans"  # banned subjects
