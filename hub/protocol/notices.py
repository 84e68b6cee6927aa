"""What the server says unasked: of gaps, deletions, its shutdown, a client too slow.

State: none of its own; times and ids are the stamps'.
"""

from enum import StrEnum
from typing import Final

from hub.errors import ErrorCode, Refusal
from hub.ids import Stamps
from hub.protocol.replies import encode_error, encode_info
from hub.values import Json, Position

_TOO_SLOW: Final = Refusal(
    ErrorCode.SLOW_CONSUMER, "Client consuming messages too slowly, disconnecting"
)
_SHUTDOWN: Final = "Server is shutting down. Please disconnect gracefully."


class Reason(StrEnum):
    """The `reason` of an info. Reasons may be added; none of these may change."""

    TOPIC_DELETED = "TOPIC_DELETED"
    SHUTDOWN = "SHUTDOWN"
    GAP = "GAP"


class Notices:
    """Makes the messages."""

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps

    def gap(self, topic: str, dropped: int, position: Position) -> bytes:
        """Events of a topic were lost: so many, or (0) nobody knows how many, if any.

        `position`: behind which nothing is missing, in a topic with history.
        """
        payload: dict[str, Json] = {"reason": Reason.GAP}
        if dropped:
            payload["dropped"] = dropped
        if position.epoch:
            payload |= position._asdict()
        return self._info(topic, "info", payload, Reason.GAP)

    def deleted(self, topic: str) -> bytes:
        """A topic was deleted, and with it the subscription."""
        return self._info(topic, "info", "Topic has been deleted", Reason.TOPIC_DELETED)

    def shutdown(self, max_ms: int) -> bytes:
        """The server goes away; a client is to come back within so many milliseconds."""
        fields: dict[str, Json] = {"reconnect": {"min_ms": 0, "max_ms": max_ms}}
        return self._info(None, "shutdown", _SHUTDOWN, Reason.SHUTDOWN, fields)

    def too_slow(self) -> bytes:
        """More waits for the client than may."""
        return encode_error(_TOO_SLOW, self._stamps.ts())

    def _info(
        self,
        topic: str | None,
        kind: str,
        payload: Json,
        reason: Reason,
        fields: dict[str, Json] | None = None,
    ) -> bytes:
        message_id = f"{kind}_{self._stamps.new_id()}"
        return encode_info(topic, message_id, payload, reason, self._stamps.ts(), fields)
