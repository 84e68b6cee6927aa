"""What the server says unasked, as frames: of gaps, deletions, its shutdown, a client too slow.

State: none of its own; times and ids are the stamps'.
"""

from typing import Final

from hub import errors
from hub.errors import Close, ErrorCode, Refusal
from hub.frames import close_frame, text_frame
from hub.inbound import Json
from hub.outbound import encode_error, encode_info
from hub.stamps import Stamps
from hub.topic import Topic

_TOO_SLOW: Final = Refusal(
    ErrorCode.SLOW_CONSUMER, "Client consuming messages too slowly, disconnecting"
)
_SHUTDOWN: Final = "Server is shutting down. Please disconnect gracefully."


class Notices:
    """Makes the frames; the last words have the Close behind them."""

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps

    def gap(self, topic: Topic, dropped: int, offset: int) -> bytes:
        """Events of a topic were lost: so many, or (0) nobody knows how many, if any.

        `offset`: behind which nothing is missing, in a topic with history.
        """
        payload: dict[str, Json] = {"reason": "GAP"}
        if dropped:
            payload["dropped"] = dropped
        if topic.history is not None:
            payload |= {"epoch": topic.history.epoch, "offset": offset}
        return self._info(topic.name, "info", payload)

    def deleted(self, topic: str) -> bytes:
        """A topic was deleted, and with it the subscription."""
        return self._info(topic, "info", "Topic has been deleted")

    def shutdown(self) -> bytes:
        """The server goes away."""
        return self._info(None, "shutdown", _SHUTDOWN) + _closing(errors.GOING_AWAY)

    def too_slow(self) -> bytes:
        """More waits for the client than may."""
        error = text_frame(encode_error(_TOO_SLOW, self._stamps.ts()))
        return error + _closing(errors.SLOW_CONSUMER)

    def _info(self, topic: str | None, kind: str, payload: Json) -> bytes:
        message_id = f"{kind}_{self._stamps.new_id()}"
        return text_frame(encode_info(topic, message_id, payload, self._stamps.ts()))


def _closing(close: Close) -> bytes:
    return close_frame(close.code, close.reason)
