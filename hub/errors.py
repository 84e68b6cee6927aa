"""Every refusal and every close: its code, whose fault it was, and what the client should do.

Two closed vocabularies live here and nowhere else. A *refusal* answers one command or request and
the connection lives on; a *close* ends the connection. `docs/protocol.md` prints both tables and a
test holds them together.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class ErrorCode(StrEnum):
    """The `error.code` of a refusal. Codes may be added; none of these may change."""

    INVALID_TOPIC = "INVALID_TOPIC"
    INVALID_CLIENT_ID = "INVALID_CLIENT_ID"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    INVALID_MESSAGE_TYPE = "INVALID_MESSAGE_TYPE"
    TOPIC_NOT_FOUND = "TOPIC_NOT_FOUND"
    TOPIC_EXISTS = "TOPIC_EXISTS"  # REST only: 409
    UNAVAILABLE = "UNAVAILABLE"  # the other nodes are out of reach: try again; REST: 503
    SLOW_CONSUMER = "SLOW_CONSUMER"


class Refusal(NamedTuple):
    """One command that was not carried out: the answer's code and a sentence for a person."""

    code: ErrorCode
    text: str
    request_id: str = ""  # echoed on the answer; empty where the command had none


class Close(NamedTuple):
    """One way in which the server ends a connection (RFC 6455 section 7.4)."""

    code: int
    reason: str  # a stable word that clients may match on
    fault: str  # who caused it: "client" or "server"
    reconnect: bool  # whether coming back, with backoff, can help


# The server shuts down.
GOING_AWAY: Final = Close(1001, "going_away", "server", reconnect=True)
# An unmasked frame, a reserved bit or opcode, bad fragmentation, a bad control frame, or a close
# code that may not be sent.
PROTOCOL_ERROR: Final = Close(1002, "protocol_error", "client", reconnect=False)
# A text message that is not UTF-8.
INVALID_UTF8: Final = Close(1007, "invalid_utf8", "client", reconnect=False)
# A message over MAX_MESSAGE_BYTES, after reassembly.
TOO_BIG: Final = Close(1009, "too_big", "client", reconnect=False)
# A fault of the server's own; it is in its log.
INTERNAL_ERROR: Final = Close(1011, "internal_error", "server", reconnect=True)
# More waits for the client than its bounds allow.
SLOW_CONSUMER: Final = Close(1013, "slow_consumer", "client", reconnect=True)
# A message that was not complete MESSAGE_TIMEOUT after its first byte.
MESSAGE_TIMEOUT: Final = Close(3008, "message_timeout", "client", reconnect=True)

CLOSES: Final = (
    GOING_AWAY,
    PROTOCOL_ERROR,
    INVALID_UTF8,
    TOO_BIG,
    INTERNAL_ERROR,
    SLOW_CONSUMER,
    MESSAGE_TIMEOUT,
)

# Why a connection has ended where the server did not say so by a Close.
LEFT: Final = "left"  # the client closed it
LOST: Final = "lost"  # it broke: a reset, or a network that is gone
IDLE_TIMEOUT: Final = "idle_timeout"  # no sign of life for IDLE_TIMEOUT
WRITE_TIMEOUT: Final = "write_timeout"  # the client took no byte for WRITE_TIMEOUT
TOPIC_DELETED: Final = "topic_deleted"  # of a stream: all of its topics are
REFUSED: Final = "refused"  # of a stream: a subscribe was

# Every reason for the end of a connection, and those that are worth a look.
REASONS: Final = frozenset(
    {LEFT, LOST, IDLE_TIMEOUT, WRITE_TIMEOUT, TOPIC_DELETED, REFUSED, *(c.reason for c in CLOSES)}
)
FAULTS: Final = REASONS - {LEFT, TOPIC_DELETED, REFUSED, GOING_AWAY.reason}


class SettingError(ValueError):
    """A setting that stops the start. Its text names the key, the value and what is allowed."""

    def __init__(self, key: str, value: str | None, allowed: str) -> None:
        """`value` is None for a secret: a malformed one may still hold a password."""
        shown = "***" if value is None else repr(value)
        super().__init__(f"{key}={shown} is not valid: {allowed}")
