"""Refusals of commands, closes of connections, and the reasons why connections end.

A *refusal* answers one command or request, and the connection stays open. A *close* ends the
connection. The tables of both in docs/protocol.md are held to this module by a test. A *request
refusal* is for observers alone.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class ErrorCode(StrEnum):
    """The `error.code` of a refusal. Codes may be added and never change."""

    INVALID_TOPIC = "INVALID_TOPIC"
    INVALID_CLIENT_ID = "INVALID_CLIENT_ID"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    INVALID_MESSAGE_TYPE = "INVALID_MESSAGE_TYPE"
    TOPIC_NOT_FOUND = "TOPIC_NOT_FOUND"
    TOPIC_EXISTS = "TOPIC_EXISTS"  # REST only: 409
    UNAUTHORIZED = "UNAUTHORIZED"  # a right is missing, and there is no valid token; REST: 401
    FORBIDDEN = "FORBIDDEN"  # the token does not give the right; REST: 403
    UNAVAILABLE = "UNAVAILABLE"  # the other nodes cannot be reached: try again; REST: 503
    RATE_LIMITED = "RATE_LIMITED"  # too fast: try again after `retry_after_ms`; REST: 429
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"  # one more than a limit allows; REST: 503
    SLOW_CONSUMER = "SLOW_CONSUMER"


# Refusals that are logged.
ACCESS_CODES: Final = frozenset({ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN})


class Refusal(NamedTuple):
    """The answer to a command or request that was not carried out."""

    code: ErrorCode
    text: str  # for a person
    request_id: str = ""  # of the command; empty if it had none
    retry_after_ms: int = 0  # milliseconds after which a retry may succeed; 0 if unknown


class RequestRefusal(StrEnum):
    """Why an HTTP request was refused for another reason than an `ErrorCode`.

    Observers are given these values, clients are not. Values may be added; none may change.
    """

    BAD_REQUEST = "BAD_REQUEST"  # for a reason that no other value describes
    NOT_FOUND = "NOT_FOUND"  # no such path, or no such method of it
    TOO_LARGE = "TOO_LARGE"  # the body
    TIMEOUT = "TIMEOUT"  # the body did not arrive in time
    ORIGIN = "ORIGIN"  # not in ALLOWED_ORIGINS
    HOST = "HOST"  # not in ALLOWED_HOSTS
    SHUTDOWN = "SHUTDOWN"  # the server shuts down
    FULL = "FULL"  # MAX_CONNECTIONS
    BUSY = "BUSY"  # too many large batches are under way


RefusalReason = ErrorCode | RequestRefusal


class Close(NamedTuple):
    """A code and reason with which the server closes a connection (RFC 6455 section 7.4)."""

    code: int
    reason: str  # a stable word, which clients may compare
    fault: str  # "client" or "server"
    reconnect: bool  # whether the client should reconnect, with backoff


# The server is shutting down.
GOING_AWAY: Final = Close(1001, "going_away", "server", reconnect=True)
# An unmasked frame, a reserved bit or opcode, invalid fragmentation, an invalid control frame, or
# a close code that must not be sent.
PROTOCOL_ERROR: Final = Close(1002, "protocol_error", "client", reconnect=False)
# A text message is not UTF-8.
INVALID_UTF8: Final = Close(1007, "invalid_utf8", "client", reconnect=False)
# A message is larger than MAX_MESSAGE_BYTES, after reassembly.
TOO_BIG: Final = Close(1009, "too_big", "client", reconnect=False)
# A fault in the server, which is in its log.
INTERNAL_ERROR: Final = Close(1011, "internal_error", "server", reconnect=True)
# The client's send queue exceeds its bounds.
SLOW_CONSUMER: Final = Close(1013, "slow_consumer", "client", reconnect=True)
# The client has sent more messages than MESSAGE_RATE allows, for 10 seconds.
TOO_FAST: Final = Close(1013, "rate_limited", "client", reconnect=True)
# The token of the handshake, or three in a row, were not valid.
UNAUTHORIZED: Final = Close(3000, "unauthorized", "client", reconnect=True)
# The token has ended.
TOKEN_EXPIRED: Final = Close(3000, "token_expired", "client", reconnect=True)
# An operator has ended the connection (POST /disconnect).
DISCONNECTED: Final = Close(3000, "disconnected", "server", reconnect=True)
# The token gives no rights, or an operator has banned its subject.
FORBIDDEN: Final = Close(3003, "forbidden", "client", reconnect=False)
# A client without any right sent no token within AUTH_TIMEOUT.
AUTH_TIMEOUT: Final = Close(3008, "auth_timeout", "client", reconnect=True)
# A message was incomplete MESSAGE_TIMEOUT after its first byte.
MESSAGE_TIMEOUT: Final = Close(3008, "message_timeout", "client", reconnect=True)

CLOSES: Final = (
    GOING_AWAY,
    PROTOCOL_ERROR,
    INVALID_UTF8,
    TOO_BIG,
    INTERNAL_ERROR,
    SLOW_CONSUMER,
    TOO_FAST,
    UNAUTHORIZED,
    TOKEN_EXPIRED,
    DISCONNECTED,
    FORBIDDEN,
    AUTH_TIMEOUT,
    MESSAGE_TIMEOUT,
)

# The other reasons for the end of a connection.
LEFT: Final = "left"  # the client closed it
LOST: Final = "lost"  # the connection was reset, or the network failed
IDLE_TIMEOUT: Final = "idle_timeout"  # the client sent nothing for IDLE_TIMEOUT
WRITE_TIMEOUT: Final = "write_timeout"  # the client took no byte for WRITE_TIMEOUT
TOPIC_DELETED: Final = "topic_deleted"  # of a stream: all of its topics were deleted
REFUSED: Final = "refused"  # of a stream: a subscribe was refused

# All reasons for the end of a connection.
REASONS: Final = frozenset(
    {LEFT, LOST, IDLE_TIMEOUT, WRITE_TIMEOUT, TOPIC_DELETED, REFUSED, *(c.reason for c in CLOSES)}
)
# Closes that are not logged as failed connections. The cause of UNAUTHORIZED, FORBIDDEN,
# INTERNAL_ERROR and SLOW_CONSUMER has a line of its own.
_NO_FAULTS: Final = (
    GOING_AWAY,
    INTERNAL_ERROR,
    SLOW_CONSUMER,
    UNAUTHORIZED,
    TOKEN_EXPIRED,
    DISCONNECTED,
    FORBIDDEN,
)
# The reasons that are logged as failed connections, for an operator to look into.
FAULTS: Final = REASONS - {LEFT, TOPIC_DELETED, REFUSED, *(c.reason for c in _NO_FAULTS)}


class SettingError(ValueError):
    """A setting is not valid. The text has the key, the value and the allowed values."""

    def __init__(self, key: str, value: str | None, allowed: str) -> None:
        """`value` is None for a secret, since even a malformed one may hold a password."""
        shown = "***" if value is None else repr(value)
        super().__init__(f"{key}={shown} is not valid: {allowed}")
