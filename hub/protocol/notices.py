"""Messages that answer no command: gaps, deletions, the shutdown, and slow consumers."""

from enum import StrEnum
from typing import Final

from hub.errors import ErrorCode, Refusal
from hub.ids import Ids
from hub.protocol.replies import encode_error, encode_info
from hub.values import Json, Position

_TOO_SLOW: Final = Refusal(
    ErrorCode.SLOW_CONSUMER, "Client consuming messages too slowly, disconnecting"
)
_SHUTDOWN: Final = "Server is shutting down. Please disconnect gracefully."


class Reason(StrEnum):
    """The `reason` of an info or shutdown message. Reasons may be added and never change."""

    TOPIC_DELETED = "TOPIC_DELETED"
    SHUTDOWN = "SHUTDOWN"
    GAP = "GAP"
    FORBIDDEN = "FORBIDDEN"
    TOKEN_EXPIRES = "TOKEN_EXPIRES"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    DISCONNECTED = "DISCONNECTED"


class Notices:
    """Encodes notices as JSON, each with a new id and the time."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def gap(self, topic: str, dropped: int | None, position: Position) -> bytes:
        """Encode the notice that events of a topic may have been lost.

        Args:
            topic: the topic's name.
            dropped: number of lost events; None if it is not known.
            position: the position after which nothing is missing; NOWHERE without history.
        """
        payload: dict[str, Json] = {"reason": Reason.GAP}
        if dropped is not None:
            payload["dropped"] = dropped
        if position.epoch:
            payload |= position._asdict()
        return self._info(topic, "info", payload, Reason.GAP)

    def deleted(self, topic: str) -> bytes:
        """Encode the notice that a topic was deleted, which ends the subscription."""
        return self._info(topic, "info", "Topic has been deleted", Reason.TOPIC_DELETED)

    def shutdown(self, max_ms: int) -> bytes:
        """Encode the notice of a shutdown; clients reconnect after 0 to `max_ms` milliseconds."""
        fields: dict[str, Json] = {"reconnect": {"min_ms": 0, "max_ms": max_ms}}
        return self._info(None, "shutdown", _SHUTDOWN, Reason.SHUTDOWN, fields)

    def forbidden(self, topic: str) -> bytes:
        """Encode the notice that a new token does not allow a subscription, which ends."""
        text = "The token does not allow this subscription"
        return self._info(topic, "info", text, Reason.FORBIDDEN)

    def token_expires(self, expires_at: str) -> bytes:
        """Encode the notice that a token is about to end; `expires_at` is its end as RFC 3339."""
        fields: dict[str, Json] = {"expires_at": expires_at}
        return self._info(None, "info", "The token is about to end", Reason.TOKEN_EXPIRES, fields)

    def token_expired(self) -> bytes:
        """Encode the notice that a token has ended, which ends a stream."""
        return self._info(None, "info", "The token has ended", Reason.TOKEN_EXPIRED)

    def disconnected(self, until: str | None) -> bytes:
        """Encode the notice of a disconnect by an operator; `until` is the end of a ban."""
        fields: dict[str, Json] | None = None if until is None else {"until": until}
        return self._info(None, "info", "Disconnected", Reason.DISCONNECTED, fields)

    def too_slow(self) -> bytes:
        """Encode the error that precedes the Close of a client with a full send queue."""
        return encode_error(_TOO_SLOW, self._ids.now())

    def _info(
        self,
        topic: str | None,
        kind: str,
        payload: Json,
        reason: Reason,
        fields: dict[str, Json] | None = None,
    ) -> bytes:
        message_id = f"{kind}_{self._ids.new_id()}"
        return encode_info(topic, message_id, payload, reason, self._ids.now(), fields)
